"""Endpoints of administrators for the log: pages, a stream, and the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream
from litestar.response.sse import ServerSentEventMessage
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import Overloaded, SettingsError, SurfaceError
from interlock.machine.ledger import Record
from interlock.machine.secret.commands import Add
from interlock.machine.wire import TransitionView, transition_view
from interlock.server.experience.calls import page, services_of
from interlock.server.experience.endpoints.administration.calls import ADMIN, LAST, Limit
from interlock.server.experience.guards import administrator
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.transport.exchange import EXTENSION
from interlock.server.services import Services

_log = structlog.get_logger("interlock.admin")

_MEDIA_TYPE: Final = "text/event-stream"
_FOLLOWERS: Final = 16
"""Maximum number of concurrent streams."""
_AT_ONCE: Final = 256
"""Records per piece of a stream. With the transport's buffer, this limits the memory of a slow client."""
_HEARTBEAT_S: Final = 15.0
"""Short enough to keep the connection open through proxies."""
_LOOK_S: Final = 1.0
"""Interval at which a stream checks whether it may continue."""
_RETRY_MS: Final = 2000
_MINIMUM: Final = {"minimum": 0}
"""Litestar omits the 0 from the document if null is allowed too."""

_EVENTS: Final = ResponseSpec(
    str,
    description="Server-Sent Events: a `transition` for each record, its position as `id`; finally an `end` with its reason.",
    media_type=_MEDIA_TYPE,
    generate_examples=False,
    examples=[
        Example(
            id="events",
            summary="A record, a heartbeat, the end",
            value='id: 41\nevent: transition\ndata: {…}\n\n: heartbeat\n\nevent: end\ndata: {"reason":"draining"}\n\n',
        )
    ],
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
    after: Annotated[
        int | None,
        QueryParameter(
            ge=0,
            le=LAST,
            schema_extra=_MINIMUM,
            description="Start after this position; if not given, stream new records only.",
        ),
    ] = None,
    last_event_id: Annotated[
        int | None,
        HeaderParameter(
            name="Last-Event-ID",
            ge=0,
            le=LAST,
            schema_extra=_MINIMUM,
            description="Continue after this position; overrides `after`.",
        ),
    ] = None,
) -> Stream:
    """Stream the log as Server-Sent Events: recorded transitions after the position, then each new one, without a gap.

    Each event is a `transition`; its `id` is the position. A client that reconnects with `Last-Event-ID` misses nothing and
    gets nothing twice. Comments keep the connection open. An event `end` says why the server ends the stream: `draining`,
    `unavailable`, `credential-removed`, `slow-consumer`. A client that reads nothing at all is disconnected.
    """
    services = services_of(request)
    found: Add = request.user
    if last_event_id is None and "last-event-id" in request.headers:
        raise RequestRefused(400, "null is no position")  # to Litestar it is a missing header
    position = last_event_id if last_event_id is not None else after
    if position is None:
        position = services.tail.newest
    if position > services.tail.newest:
        raise RequestRefused(400, "the log has no such position yet")
    if services.tail.followers >= _FOLLOWERS or services.draining:
        raise Overloaded
    follower = Follower(services, found, position, request.scope)
    follower.join()
    return Stream(
        follower.pieces(), media_type=_MEDIA_TYPE, headers={"cache-control": "no-store", "x-accel-buffering": "no"}
    )


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


class Follower:
    """One stream of the log, with its own position."""

    def __init__(self, services: Services, found: Add, position: int, scope: Any) -> None:
        self._services = services
        self._administrator = found
        self._position = position
        self._abort: Callable[[], None] = scope["extensions"][EXTENSION].abort
        scope["extensions"][EXTENSION].mark_streaming()
        self._slow = False
        self._timer: asyncio.TimerHandle | None = None

    def join(self) -> None:
        """Count as a follower until the task of this request ends, even if the client leaves before the response begins."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a request has one
        self._services.tail.followers += 1
        task.add_done_callback(self._leave)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the stream. A timer runs until each piece has been sent."""
        yield ServerSentEventMessage(None, comment="following", retry=_RETRY_MS).encode()
        ended = False
        while not ended:
            piece, ended = await self._next()
            self._watch(self._note)
            yield piece
            self._unwatch()

    def _leave(self, _task: asyncio.Task[Any]) -> None:
        self._unwatch()
        self._services.tail.followers -= 1

    async def _next(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether it is the last."""
        tail = self._services.tail
        silent_s = 0.0
        while silent_s < _HEARTBEAT_S:
            try:
                reason = self._over()
                records = [] if reason else await tail.after(self._position, _AT_ONCE)
            except (SurfaceError, SettingsError):
                reason, records = "unavailable", []
            if reason is not None:
                _log.info("admin.stream_ended", actor=self._administrator.actor, reason=reason)
                return ServerSentEventMessage(msgspec.json.encode({"reason": reason}), event="end").encode(), True
            if records:
                self._position = records[-1].position
                return b"".join(map(_event, records)), False
            silent_s += await tail.wait(self._position, _LOOK_S)
        return ServerSentEventMessage(None, comment="heartbeat").encode(), False

    def _over(self) -> str | None:
        """Return why the stream must end, or None."""
        if self._slow:
            return "slow-consumer"
        if self._services.draining:
            return "draining"
        if self._services.sessions.failure is not None:
            return "unavailable"
        if not self._services.admins.still(self._administrator):
            return "credential-removed"
        return None

    def _note(self) -> None:
        """Mark a client that did not take its piece in time. If it still takes it, it gets an `end`; if not, it is cut."""
        self._slow = True
        _log.info("admin.stream_slow", actor=self._administrator.actor)
        self._watch(self._cut)

    def _cut(self) -> None:
        _log.info("admin.stream_cut", actor=self._administrator.actor)
        self._abort()

    def _watch(self, then: Callable[[], None]) -> None:
        delay_s = self._services.settings.send_timeout_s
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _event(record: Record) -> bytes:
    data = msgspec.json.encode(transition_view(record))
    return ServerSentEventMessage(data, event="transition", id=record.position).encode()


HANDLERS: Final[list[ControllerRouterHandler]] = [list_all_transitions, follow_transitions, list_audit_records]
