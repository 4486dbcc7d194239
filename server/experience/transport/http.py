"""A TCP connection that speaks HTTP/1.1: reads a request, has it answered, reads the next one.

The application gets a request when it is complete. While it is answered, at most one more buffer is read: a pipeline waits
in the client's kernel. Head, body and taking the answer each have a time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog

from interlock.server.experience.headers import RawHeaders
from interlock.server.experience.problems import RequestRefused, problem_content, problem_for
from interlock.server.experience.transport.exchange import Exchange
from interlock.server.experience.transport.frames import FrameReader
from interlock.server.experience.transport.heartbeat import Heartbeat
from interlock.server.experience.transport.limits import BODY_BYTES, TransportLimits, peer_of
from interlock.server.experience.transport.lingering_close import LINGER_S, LingeringClose
from interlock.server.experience.transport.reader import Request, RequestReader
from interlock.server.experience.transport.stall import StallWatch
from interlock.server.experience.transport.websocket import WebSocket, WebSocketHandler
from interlock.server.system.loop_turns import LoopTurns

READ_BYTES: Final = 16 * 1024
"""Size of one read, and so the limit of what waits in memory behind a request being answered."""

WRITE_BYTES: Final = 16 * 1024
"""With more than this unsent, no further request is answered until the client reads."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_buffer: Final = memoryview(bytearray(READ_BYTES))
"""The read buffer of all connections. The event loop fills it and hands it over in one step, so none sees another's bytes."""

_log = structlog.get_logger("interlock.traffic")

FastPath = Callable[[dict[str, Any]], bytes | None]


class PortState(NamedTuple):
    """What all connections of one port share.

    ``app`` is the ASGI application. ``fast_path`` returns the header block of an answer 200 without content, or None if it
    can't answer without waiting. ``newcomers`` have sent data, and had no request answered yet. ``connections`` are open,
    and ``tasks`` in progress.
    """

    app: Any
    fast_path: FastPath
    limits: TransportLimits
    heartbeat: Heartbeat
    turns: LoopTurns
    newcomers: LoopTurns
    connections: set[HttpConnection]
    tasks: set[asyncio.Task[None]]


class HttpConnection(asyncio.BufferedProtocol):
    """One HTTP/1.1 connection of a port, from its first byte to its end, or until it becomes a WebSocket."""

    def __init__(self, port: PortState) -> None:
        settings = port.limits.settings
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(header_bytes=settings.header_bytes, body_bytes=BODY_BYTES)
        self._exchange: Exchange | None = None
        # Read behind the request being answered, or before the connection's turn.
        self._pending = b""
        self._is_new = True
        self._queued = False
        self._reading = True
        self._ended = False
        self._left = False
        self._draining = False
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._writable: asyncio.Event | None = None
        self._streaming = False
        self.write_paused = False

    # Called by the event loop

    def connection_made(self, transport: Any) -> None:
        """Accept the connection if the limits allow it, and start its time limit."""
        self._transport = transport
        self._client = peer_of(transport)
        self._server = transport.get_extra_info("sockname")
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        limits = self._port.limits
        self._slot = limits.take(transport)
        self._stall = StallWatch(transport, limits.settings.send_timeout_s, transport.abort)
        self._port.connections.add(self)
        if self._slot.over:
            transport.abort()
        else:
            self._wait(limits.settings.header_timeout_s)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the connection, and tell the application that its client is gone."""
        exchange = self._exchange
        self._forget()
        self._slot.release()
        if exchange is not None:
            exchange.disconnect()
        if self._writable is not None:
            self._writable.set()

    def get_buffer(self, _size: int) -> memoryview:
        """Return the buffer to read into."""
        return _buffer

    def buffer_updated(self, count: int) -> None:
        """Handle ``count`` bytes that were read."""
        data = bytes(_buffer[:count])
        if self._exchange is not None or self._queued:
            # Read no more from the kernel until its turn.
            self._pending += data
            self._pause()
            return
        if self._is_new:
            # Thousands may arrive at once. Older connections don't wait for all of them.
            self._pending = data
            self._queued = True
            self._port.newcomers.add(self._take_turn)
            return
        if count == READ_BYTES:
            # There is more: let other connections go first.
            self._pause()
            self._loop.call_soon(self._resume)
        self._read(data)

    def eof_received(self) -> bool:
        """Handle the client's end. It still gets its answer (RFC 9112, 9.6), unless that is a stream, which ends."""
        self._ended = True
        if self._streaming and self._exchange is not None:
            self._exchange.disconnect()
            self._leave()
        elif self._exchange is None and not self._queued:
            # Earlier answers are still sent while the client takes them.
            self._leave()
        return True

    def pause_writing(self) -> None:
        """Note that the client does not take what was written."""
        self.write_paused = True
        if not self._streaming:
            self._stall.start()

    def resume_writing(self) -> None:
        """Note that the client has taken most of it."""
        self.write_paused = False
        self._stall.stop()
        if self._writable is not None:
            self._writable.set()
        if self._exchange is not None and self._exchange.complete:
            self._port.turns.add(self._next)

    # Called by an exchange

    def write(self, data: bytes) -> None:
        """Send ``data``; drop it once the connection is lost."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written, or is gone."""
        self._writable = asyncio.Event()
        await self._writable.wait()
        self._writable = None

    def finished(self, *, keep_alive: bool) -> None:
        """Continue with the next request after a complete response, or close the connection."""
        self._streaming = False
        if self._transport.is_closing() or self._left:
            return
        if not keep_alive or self._draining:
            self._leave()
        elif self._pending:
            # Not recursively: the pipeline may be long, and others wait.
            self._port.turns.add(self._next)
        elif not self.write_paused:
            self._next()

    def abort(self) -> None:
        """Drop the TCP connection and all unsent data."""
        self._transport.abort()

    def mark_streaming(self) -> None:
        """See :meth:`interlock.server.experience.transport.exchange.Exchange.mark_streaming`."""
        self._streaming = True
        self._stall.stop()

    @property
    def heard_more(self) -> bool:
        """Whether the client has sent data after its request, or closed its end."""
        return bool(self._pending) or self._ended

    def upgrade(self, handler: WebSocketHandler, headers: RawHeaders, key: bytes) -> None:
        """Make the connection a WebSocket; see :data:`interlock.server.experience.transport.exchange.UPGRADE`."""
        self._forget()
        port = self._port
        socket = WebSocket(self._transport, handler, self._slot, port.heartbeat, port.turns)
        FrameReader(self._transport, socket, headers, key)
        self._resume()

    # Called by the server

    def drain_down(self) -> None:
        """Accept no new request."""
        self._draining = True
        if self._exchange is not None:
            self._exchange.close_after()
        elif self._left:
            return
        elif self._queued or self._pending or self._reader.begun or self.write_paused:
            self._leave()
        else:
            # Idle: the client has its answers, so there is no need to linger until it closes its end.
            self._transport.close()

    # Reading and answering

    def _next(self) -> None:
        """Read the next request, if the answer is complete and the client takes it."""
        if self.write_paused or self._transport.is_closing() or self._left:
            return
        if self._exchange is None or not self._exchange.complete:
            # A repeated call.
            return
        if self._draining:
            self._leave()
            return
        self._exchange = None
        self._wait(self._port.limits.settings.keep_alive_s)
        self._go_on()

    def _take_turn(self) -> None:
        """Read what a newcomer has sent."""
        self._queued = False
        if not self._transport.is_closing() and not self._left:
            self._go_on()

    def _go_on(self) -> None:
        """Read pending bytes, then resume reading from the socket."""
        if self._pending:
            pending, self._pending = self._pending, b""
            self._read(pending)
        if self._exchange is None and not self._left:
            if self._ended:
                self._leave()
            else:
                self._resume()

    def _read(self, data: bytes) -> None:
        reader, settings = self._reader, self._port.limits.settings
        begun, in_body = reader.begun, reader.in_body
        try:
            request, self._pending = reader.feed(data)
        except RequestRefused as refused:
            self._refuse(refused)
            return
        if request is not None:
            self._answer(request)
        elif reader.in_body and not in_body:
            self._wait(settings.body_timeout_s)
            if reader.wants_continue:
                self.write(_CONTINUE)
        elif reader.begun and not begun:
            self._wait(settings.header_timeout_s)

    def _answer(self, request: Request) -> None:
        self._deadline = None
        self._is_new = False
        exchange = self._exchange = Exchange(self, request)
        if self._pending:
            self._pause()
        if self._draining:
            exchange.close_after()
        scope = exchange.scope(self._client, self._server)
        block = self._port.fast_path(scope)
        if block is not None:
            exchange.respond_prepared(block)
            return
        task = self._loop.create_task(self._run(exchange, scope))
        self._port.tasks.add(task)
        task.add_done_callback(self._port.tasks.discard)

    async def _run(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        try:
            await self._port.app(scope, exchange.receive, exchange.send)
            if not exchange.complete:
                raise RuntimeError("the application did not complete its response")  # noqa: TRY301  # handled like its faults
        except Exception as error:  # noqa: BLE001  # last resort: the application has its own handlers
            _log.error("http.broken", exc_info=error)
            if exchange.started:
                self._transport.abort()
            else:
                exchange.close_after()
                _respond(exchange, RequestRefused(500, "the server has logged it"))

    def _refuse(self, refused: RequestRefused) -> None:
        """Answer an unreadable, too large or too slow request, and close: the start of the next one is unknown."""
        _log.info("traffic.unreadable", client=self._slot.address, status=refused.status)
        self._deadline = None
        self._exchange = Exchange(self, UNREADABLE)
        _respond(self._exchange, refused)

    # Timers and flow control

    def _wait(self, seconds: float) -> None:
        """Give the client ``seconds`` from now. One timer runs, and is not moved for each request."""
        self._deadline = self._loop.time() + seconds
        if self._timer is not None and self._timer_at > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer_at = self._deadline
            self._timer = self._loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self._loop.time()
        if left > 0:
            self._wait(left)
        elif self._queued:
            # The connection waits for the server.
            self._wait(self._port.limits.settings.header_timeout_s)
        elif self._reader.begun:
            part = "body" if self._reader.in_body else "headers"
            _log.info("traffic.slow", client=self._slot.address, part=part)
            self._refuse(
                RequestRefused(408, "request timeout: resend the request; it must arrive within the time limit")
            )
        else:
            self._leave()

    def _pause(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and not self._pending and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _leave(self) -> None:
        """Close the connection. The client gets what was written as long as it keeps reading."""
        self._left = True
        self._forget()
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
        LingeringClose(self._transport, self._slot.release, LINGER_S, while_it_reads=True, peer_ended=self._ended)

    def _forget(self) -> None:
        """Release all cyclic references, which only the garbage collector would free."""
        self._exchange = None
        self._reader.close()
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stall.stop()
        self._port.connections.discard(self)


UNREADABLE: Final = Request("GET", b"/", "1.1", [], keep_alive=False, offers_upgrade=False, has_body=False, body=b"")
"""Placeholder for an unreadable request."""


def _respond(exchange: Exchange, refused: RequestRefused) -> None:
    problem, _ = problem_for(refused)
    exchange.respond(problem.status, *problem_content(problem))
