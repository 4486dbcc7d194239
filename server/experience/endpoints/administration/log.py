"""Endpoints of administrators for the log: pages, a stream, and the audit trail."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.params import QueryParameter
from litestar.response import Stream
from litestar.response.sse import ServerSentEventMessage
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import Overloaded
from interlock.machine.ledger import Record
from interlock.machine.wire import TransitionView, transition_view
from interlock.server.experience.calls import LAST, page, services_of
from interlock.server.experience.endpoints.administration.calls import ADMIN, Limit
from interlock.server.experience.endpoints.events.stream import (
    Follower,
    LastEventId,
    StreamAfter,
    described,
    follow,
)
from interlock.server.experience.guards import administrator
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import responses

_FOLLOWERS: Final = 16
"""Maximum number of concurrent streams."""
_AT_ONCE: Final = 256
"""Records per piece of a stream. With the transport's buffer, this limits the memory of a slow client."""

_EVENTS: Final = described(
    "Server-Sent Events: a `transition` for each record, its position as `id`; finally an `end` with its reason.",
    "A record, a heartbeat, the end",
    'id: 41\nevent: transition\ndata: {…}\n\n: heartbeat\nid: 41\n\nevent: end\ndata: {"reason":"draining"}\n\n',
)


@get(
    "/transitions",
    summary="The log",
    response_headers=may_send("Link"),
    responses=responses(400, *ADMIN),
    guards=[administrator],
)
async def list_all_transitions(
    request: Request[Any, Any, Any],
    after: Annotated[int, QueryParameter(ge=0, le=LAST, description="Only records with a higher position.")] = 0,
    limit: Limit = 100,
) -> Response[list[TransitionView]]:
    """List all records, oldest first. If more may follow, there is a ``Link: rel="next"`` header (RFC 8288)."""
    services = services_of(request)
    records = await services.sessions.records(after, limit)
    return page("/api/admin/transitions", records, limit, transition_view, lambda last: {"after": last.position})


@get(
    "/transitions/stream",
    summary="Stream the log",
    responses={**responses(400, *ADMIN, Overloaded), 200: _EVENTS},
    guards=[administrator],
)
async def follow_transitions(
    request: Request[Any, Any, Any],
    after: StreamAfter = None,
    last_event_id: LastEventId = None,
) -> Stream:
    """Stream the log as Server-Sent Events: recorded transitions after the position, then each new one, without a gap.

    Each event is a `transition`; its `id` is the position. A client that reconnects with `Last-Event-ID` misses nothing and
    gets nothing twice. Comments keep the connection open; an `id` with one is a position to continue from, the first time that
    where the stream begins. An event `end` says why the server ends the stream: `draining`, `unavailable`,
    `credential-removed`, `slow-consumer`. A client that reads nothing at all is disconnected.
    """
    services = services_of(request)
    tail, admins, found = services.tail, services.admins, request.user

    async def read(position: int) -> tuple[bytes, int]:
        records = await tail.after(position, _AT_ONCE)
        return b"".join(map(_event, records)), records[-1].position if records else position

    follower = Follower(found.actor, partial(admins.still, found), "log", _FOLLOWERS, read)
    return follow(services, request, follower, after, last_event_id)


@get(
    "/audit",
    summary="The audit trail",
    response_headers=may_send("Link"),
    responses=responses(400, *ADMIN),
    guards=[administrator],
)
async def list_audit_records(
    request: Request[Any, Any, Any],
    after: Annotated[int, QueryParameter(ge=0, le=LAST, description="Only records with a higher position.")] = 0,
    limit: Limit = 100,
) -> Response[list[TransitionView]]:
    """List the audit trail, oldest first: the records whose actor is an administrator, of accounts and of sessions.

    If more may follow, there is a ``Link: rel="next"`` header (RFC 8288).
    """
    services = services_of(request)
    records = await services.administration.audit_records(after, limit)
    return page("/api/admin/audit", records, limit, transition_view, lambda last: {"after": last.position})


def _event(record: Record) -> bytes:
    data = msgspec.json.encode(transition_view(record))
    return ServerSentEventMessage(data, event="transition", id=record.position).encode()


HANDLERS: Final[list[ControllerRouterHandler]] = [list_all_transitions, follow_transitions, list_audit_records]
