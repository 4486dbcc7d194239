"""Endpoints of subscribers: event messages, as pages and as a stream."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, get
from litestar.params import QueryParameter
from litestar.response import Stream
from litestar.response.sse import ServerSentEventMessage
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.errors import Overloaded, SubscriberCredentialInvalid, SubscriberCredentialMissing
from interlock.machine.events.messages import EventMessage
from interlock.server.experience.calls import LAST, services_of
from interlock.server.experience.endpoints.events.stream import (
    Follower,
    LastEventId,
    StreamAfter,
    described,
    follow,
)
from interlock.server.experience.guards import subscriber
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.vocabulary import Position

SUBSCRIBER: Final = (SubscriberCredentialMissing, SubscriberCredentialInvalid, Overloaded)
"""Errors of any call by a subscriber."""

SUBSCRIBER_SECURITY: Final[list[dict[str, list[str]]]] = [{"subscriber": []}]

_MAX_PAGE: Final = 1000
_FOLLOWERS: Final = 64
"""Maximum number of concurrent streams."""
_PIECE: Final = 256
"""Messages per piece of a stream."""
_EXAMINED: Final = 2048
"""Records read for one page, at most."""

_EVENTS: Final = described(
    "Server-Sent Events: a message without `event` for each event message, its position as `id`; finally an `end` with its"
    " reason.",
    "An event message, a heartbeat, the end",
    'id: 41\ndata: {"id":"evt_41_…","type":"session.revoke",…}\n\n: heartbeat\nid: 57\n\n'
    'event: end\ndata: {"reason":"draining"}\n\n',
)


class EventList(msgspec.Struct, frozen=True):
    """A page of event messages, oldest first. Continue with ``after`` = ``cursor``; at once if there is ``more`` to read."""

    events: list[EventMessage]
    cursor: Position
    more: Annotated[bool, Meta(examples=[False])]


@get(
    "/api/events",
    tags=["events"],
    security=SUBSCRIBER_SECURITY,
    summary="Events",
    responses=responses(400, *SUBSCRIBER),
    guards=[subscriber],
)
async def list_events(
    request: Request[Any, Any, Any],
    after: Annotated[
        int | None,
        QueryParameter(
            ge=0,
            le=LAST,
            schema_extra={"minimum": 0},
            description="Only events after this position; if not given, none, and the newest position as `cursor`.",
        ),
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=_MAX_PAGE, description="Maximum number of items.")] = 100,
) -> EventList:
    """List event messages that the subscriber's scopes cover, oldest first.

    Keep the `cursor` with what the messages changed: whoever continues from there misses nothing. A page may be empty although
    there is `more`: a call reads a limited part of the log.
    """
    services = services_of(request)
    events = services.events
    position = events.newest if after is None else after
    if position > events.newest:
        raise RequestRefused(400, "the log has no such position yet")
    page = await events.page(position, request.user.scopes, limit, examined=_EXAMINED)
    return EventList(page.messages, page.cursor, page.cursor < events.newest)


@get(
    "/api/events/stream",
    tags=["events"],
    security=SUBSCRIBER_SECURITY,
    summary="Stream events",
    responses={**responses(400, *SUBSCRIBER), 200: _EVENTS},
    guards=[subscriber],
)
async def follow_events(
    request: Request[Any, Any, Any], after: StreamAfter = None, last_event_id: LastEventId = None
) -> Stream:
    """Stream event messages as Server-Sent Events: those recorded after the position, then each new one, without a gap.

    The `id` of each is its position. A client that reconnects with `Last-Event-ID` misses nothing and gets nothing twice.
    Comments keep the connection open; an `id` with one is a position to continue from, the first time that where the stream
    begins. An event `end` says why the server ends the stream: `draining`, `unavailable`, `credential-removed`,
    `slow-consumer`. A client that reads nothing at all is disconnected.
    """
    services = services_of(request)
    events, found = services.events, request.user

    async def read(position: int) -> tuple[bytes, int]:
        page = await events.page(position, found.scopes, _PIECE)
        return b"".join(map(_event, page.messages)), page.cursor

    still = partial(services.subscribers.still, found.secret)
    follower = Follower(found.secret.actor, still, "events", _FOLLOWERS, read)
    return follow(services, request, follower, after, last_event_id)


def _event(message: EventMessage) -> bytes:
    return ServerSentEventMessage(msgspec.json.encode(message), id=message.data.position).encode()


HANDLERS: Final[list[ControllerRouterHandler]] = [list_events, follow_events]
