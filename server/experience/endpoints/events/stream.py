"""A stream of Server-Sent Events that follows the log, with its own position, until its credential or the server ends it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Final, Literal

import msgspec
import structlog
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream
from litestar.response.sse import ServerSentEventMessage

from interlock.machine.errors import Overloaded, SettingsError, SurfaceError
from interlock.server.experience.calls import LAST
from interlock.server.experience.problems import RequestRefused
from interlock.server.experience.transport.exchange import EXTENSION
from interlock.server.services import Services

_log = structlog.get_logger("interlock.events")

_MEDIA_TYPE: Final = "text/event-stream"
_HEARTBEAT_S: Final = 15.0
"""Short enough to keep the connection open through proxies."""
_LOOK_S: Final = 1.0
"""Interval at which a stream checks whether it may continue."""
_RETRY_MS: Final = 2000
_MOST_OF_ONE: Final = 16
"""Streams that may be open with one secret, so that none of them keeps the others out."""
_MINIMUM: Final = {"minimum": 0}
"""Litestar omits the 0 from the document if null is allowed too."""

StreamAfter = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=LAST,
        schema_extra=_MINIMUM,
        description="Start after this position; if not given, stream what is new only.",
    ),
]
LastEventId = Annotated[
    int | None,
    HeaderParameter(
        name="Last-Event-ID",
        ge=0,
        le=LAST,
        schema_extra=_MINIMUM,
        description="Continue after this position; overrides `after`.",
    ),
]


def described(description: str, summary: str, value: str) -> ResponseSpec:
    """Return the OpenAPI response of a stream, with the example ``value``."""
    return ResponseSpec(
        str,
        description=description,
        media_type=_MEDIA_TYPE,
        generate_examples=False,
        examples=[Example(id="events", summary=summary, value=value)],
    )


class Follower(msgspec.Struct, frozen=True):
    """Who follows, and how. ``actor`` is its name in the server's log, ``still`` whether its credential is still accepted.

    ``shown`` is what the stream shows, and ``most`` how many streams of it may be open. ``read`` returns the events after a
    position, encoded, and the position up to which everything has been read.
    """

    actor: str
    still: Callable[[], bool]
    shown: Literal["console", "events", "log"]
    most: int
    read: Callable[[int], Awaitable[tuple[bytes, int]]]


def follow(
    services: Services, request: Any, follower: Follower, after: int | None, last_event_id: int | None
) -> Stream:
    """Return a stream for ``follower``, from one of the two positions on.

    Raises:
        RequestRefused: the log has no such position.
        Overloaded: there are too many streams, or the server is stopping.
    """
    if last_event_id is None and "last-event-id" in request.headers:
        raise RequestRefused(400, "null is no position")  # to Litestar it is a missing header
    position = last_event_id if last_event_id is not None else after
    if position is None:
        position = services.tail.newest
    if position > services.tail.newest:
        raise RequestRefused(400, "the log has no such position yet")
    open_now = sum(count for (shown, _), count in services.followers.items() if shown == follower.shown)
    of_one = services.followers[follower.shown, follower.actor]
    if open_now >= follower.most or of_one >= _MOST_OF_ONE or services.draining:
        raise Overloaded
    stream = LogStream(services, follower, position, request.scope)
    stream.join()
    return Stream(
        stream.pieces(), media_type=_MEDIA_TYPE, headers={"cache-control": "no-store", "x-accel-buffering": "no"}
    )


class LogStream:
    """One stream of the log, from ``position`` on."""

    def __init__(self, services: Services, follower: Follower, position: int, scope: Any) -> None:
        self._services = services
        self._follower = follower
        self._position = position
        self._abort: Callable[[], None] = scope["extensions"][EXTENSION].abort
        scope["extensions"][EXTENSION].mark_streaming()
        self._slow = False
        self._timer: asyncio.TimerHandle | None = None

    def join(self) -> None:
        """Count as a follower until the task of this request ends, even if the client leaves before the response begins."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a request has one
        self._services.followers[self._follower.shown, self._follower.actor] += 1
        task.add_done_callback(self._leave)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the stream. A timer runs until each piece has been sent."""
        # An id without data is no event, but a client reconnects with it (WHATWG HTML, 9.2.6): nothing is lost if the
        # connection breaks before the first event, and nothing is read again that was not for this client.
        yield ServerSentEventMessage(None, comment="following", id=self._position, retry=_RETRY_MS).encode()
        ended = False
        while not ended:
            piece, ended = await self._next()
            self._watch(self._note)
            yield piece
            self._unwatch()

    def _leave(self, _task: asyncio.Task[Any]) -> None:
        self._unwatch()
        self._services.followers -= Counter([(self._follower.shown, self._follower.actor)])

    async def _next(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether it is the last."""
        tail = self._services.tail
        loop = asyncio.get_running_loop()
        until = loop.time() + _HEARTBEAT_S
        while loop.time() < until:
            piece = b""
            try:
                reason = self._over()
                if reason is None:
                    piece, self._position = await self._follower.read(self._position)
            except (SurfaceError, SettingsError, Overloaded):
                reason = "unavailable"
            if reason is not None:
                _log.info("log_stream.ended", actor=self._follower.actor, reason=reason)
                return ServerSentEventMessage(msgspec.json.encode({"reason": reason}), event="end").encode(), True
            if piece:
                return piece, False
            await tail.wait(self._position, _LOOK_S)
        return ServerSentEventMessage(None, comment="heartbeat", id=self._position).encode(), False

    def _over(self) -> str | None:
        """Return why the stream must end, or None."""
        if self._slow:
            return "slow-consumer"
        if self._services.draining:
            return "draining"
        if self._services.sessions.failure is not None:
            return "unavailable"
        if not self._follower.still():
            return "credential-removed"
        return None

    def _note(self) -> None:
        """Mark a client that did not take its piece in time. If it still takes it, it gets an `end`; if not, it is cut."""
        self._slow = True
        _log.info("log_stream.slow", actor=self._follower.actor)
        self._watch(self._cut)

    def _cut(self) -> None:
        _log.info("log_stream.cut", actor=self._follower.actor)
        self._abort()

    def _watch(self, then: Callable[[], None]) -> None:
        delay_s = self._services.settings.send_timeout_s
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
