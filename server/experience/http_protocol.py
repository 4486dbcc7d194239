"""uvicorn's HTTP protocol with an end to patience: heads, bodies and silence have a time limit, heads a size, peers a number.

uvicorn waits for ever for the rest of a head or a body, and for a new connection to say anything; it takes heads of any size,
and stalls on a WebSocket handshake whose head passes 20 KB. None of it reaches ASGI, so it is put right here.
``scope["extensions"]["interlock.abort"]`` lets the application cut a peer itself (``abort``), in its own time (``watched``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import msgspec
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from server.experience.headers import NO_STORE, SECURITY
from server.experience.problems import MEDIA_TYPE, RequestRefused, problem_for
from server.experience.protocol import ABORT
from server.guard.addresses import UNKNOWN, Addresses, limit_key
from server.settings import Settings

HEAD_BYTES: Final = 16 * 1024
"""A request's line and headers: an access token and a cookie take less than two."""

_TOO_LARGE: Final = f"the head of a request has at most {HEAD_BYTES} bytes"

_log = structlog.get_logger("interlock.traffic")


class Patience(msgspec.Struct):
    """What all connections of one server share: its limits, and how many connections each address has."""

    settings: Settings
    addresses: Addresses
    by_address: Counter[str] = msgspec.field(default_factory=Counter)


class HttpProtocol(HttpToolsProtocol):
    """One connection below ASGI. ``patience`` is set on a subclass made for each server: uvicorn makes the objects."""

    patience: Patience

    _place: str | None = None
    _waiting: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _in_body = False
    _upgraded = False
    _head_bytes = 0
    _parts_bytes = 0
    _refusal: RequestRefused | None = None
    _running: RequestResponseCycle | None = None
    _app_watches = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, if there is room for it; then it has to say something soon."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it to Transport
        shared = self.patience
        address = self._peer()
        if address != UNKNOWN and shared.addresses.counts(address) and not shared.addresses.trusts(address):
            self._place = limit_key(address)
            shared.by_address[self._place] += 1
        if len(self.connections) > shared.settings.tcp_total or (
            self._place is not None and shared.by_address[self._place] > shared.settings.tcp_per_address
        ):
            self.transport.abort()
            return
        self._wait(shared.settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it. uvicorn tells the request that came last; behind a pipeline another one is being answered."""
        self.forget()
        if self._running is not None:
            self._running.disconnected = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on. Whoever keeps a connection open with what begins no request is not waited for longer than for a head."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._upgraded or self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > HEAD_BYTES:
            self._refusal = RequestRefused(431, _TOO_LARGE)
            self.send_400_response("")
        elif self._waiting is None and self.timeout_keep_alive_task is None and self._idle():
            self._wait(self.patience.settings.header_timeout_s)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._app_watches = False
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort, "watched": self._watched}}
        self._in_head, self._parts_bytes = True, 0
        self._wait(self.patience.settings.header_timeout_s)

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole; now the body has its time."""
        self._in_head, self._in_body = False, True
        self._wait(self.patience.settings.body_timeout_s)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_head, self._in_body, self._head_bytes = True, False, 0
        self._stop_waiting()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """From here on the WebSocket protocol has the connection, and its own limits; the address keeps counting."""
        self._upgraded = True
        self._stop_waiting()
        super().handle_websocket_upgrade()
        successor: Any = self.transport.get_protocol()
        if self._place is not None and successor is not self:
            successor.on_lost = self.forget

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's signature; the problem says what it is
        """What is no HTTP, too much or too slow is answered as a problem, and the connection ends."""
        problem, _ = problem_for(self._refusal or RequestRefused(400, "not a request of HTTP/1.1"))
        body = msgspec.json.encode(problem)
        _log.info("traffic.unreadable", client=self._peer(), status=problem.status)
        if self._may_answer():
            headers = [
                *SECURITY,
                NO_STORE,
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + body)
        self._close()

    def pause_writing(self) -> None:
        """The peer does not take the answer."""
        super().pause_writing()
        if not self._app_watches:
            self._write_timer = self.loop.call_later(self.patience.settings.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer takes it."""
        super().resume_writing()
        self._stop_write_timer()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long enough."""
        self._close()

    def forget(self) -> None:
        """The connection is gone; told twice, it counts once."""
        self._stop_waiting()
        self._stop_write_timer()
        place, self._place = self._place, None
        if place is not None:
            by_address = self.patience.by_address
            by_address[place] -= 1
            if not by_address[place]:
                del by_address[place]

    def _peer(self) -> str:
        """Whose connection it is, for the log: what is no request names nobody behind a proxy."""
        return self.patience.addresses.client(self.client[0] if self.client else None, ())

    def _watched(self) -> None:
        """The application looks itself after a peer that does not take this answer."""
        self._app_watches = True
        self._stop_write_timer()

    def _may_answer(self) -> bool:
        """Whether the next thing the peer hears is the answer to what it is just sending."""
        if self._in_body and self.cycle is not None:
            return not self.pipeline and not self.cycle.response_started
        return self._idle()

    def _idle(self) -> bool:
        return not self._in_body and (self.cycle is None or self.cycle.response_complete)

    def _count(self, size: int) -> None:
        """Count a part of the head that is whole; what is not whole yet, ``data_received`` counts."""
        self._parts_bytes += size
        if self._parts_bytes > HEAD_BYTES:
            self._refusal = RequestRefused(431, _TOO_LARGE)
            raise self._refusal

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(seconds, self._out_of_patience)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _out_of_patience(self) -> None:
        self._waiting = None
        if self.transport.is_closing():
            return
        _log.info("traffic.slow", client=self._peer(), part="body" if self._in_body else "head")
        if self._in_body or self._head_bytes:
            self._refusal = RequestRefused(408, "the rest of the request did not come in time")
            self.send_400_response("")
        else:
            self._close()

    def _close(self) -> None:
        """Close when all is sent; a peer that takes nothing is not waited for."""
        self._stop_waiting()
        self.transport.close()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self.patience.settings.send_timeout_s, self.transport.abort)


def http_protocol(settings: Settings, addresses: Addresses) -> type[HttpProtocol]:
    """The protocol class of one server."""
    return type("ServerHttpProtocol", (HttpProtocol,), {"patience": Patience(settings, addresses)})
