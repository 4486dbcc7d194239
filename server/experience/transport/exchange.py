"""One request and its response: the ASGI ``receive`` and ``send`` on a connection."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from interlock.server.experience.headers import NO_DOCUMENT, NO_STORE, SECURITY, RawHeaders
from interlock.server.experience.problems import RequestRefused
from interlock.server.experience.transport.reader import Request

if TYPE_CHECKING:
    from interlock.server.experience.transport.websocket import WebSocketHandler

EXTENSION: Final = "interlock.exchange"
"""Key of the :class:`Exchange` in ``scope["extensions"]``."""

UPGRADE: Final = "interlock.upgrade"
"""Type of the message that answers 101 and makes the connection a WebSocket.

``handler`` is its :class:`interlock.server.experience.transport.websocket.WebSocketHandler`, ``headers`` are additional
response headers, and ``key`` is the validated ``Sec-WebSocket-Key``."""

_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
_STATUS_LINES: Final = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
_ABSOLUTE: Final = re.compile(rb"https?://[^/?]*(.*)\Z", re.IGNORECASE | re.DOTALL)
_PATH_BYTES: Final = 1024
_WRITTEN_APART: Final = 8 * 1024
"""Content of at least this size is written separately from the head, to avoid a copy."""
_NO_CONTENT: Final = frozenset({204, 304})


def header_block(headers: RawHeaders) -> bytes:
    """Return the encoded ``headers``.

    Raises:
        RuntimeError: a header holds a line end or NUL.
    """
    block = b"".join([b"%b: %b\r\n" % header for header in headers])
    if block.count(b"\n") != len(headers) or block.count(b"\r") != len(headers) or b"\0" in block:
        raise RuntimeError("a header holds a line end or NUL")
    return block


_SECURITY: Final = header_block(SECURITY)
_NO_DOCUMENT: Final = header_block([*SECURITY, NO_DOCUMENT])
_NO_STORE: Final = header_block([NO_STORE])


class Connection(Protocol):
    """The connection of an exchange."""

    write_paused: bool

    def write(self, data: bytes) -> None:
        """Send ``data``; drop it once the connection is lost."""
        ...

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written, or is gone."""
        ...

    def finished(self, *, keep_alive: bool) -> None:
        """Handle the end of a complete response."""
        ...

    def abort(self) -> None:
        """Drop the TCP connection and all unsent data."""
        ...

    def mark_streaming(self) -> None:
        """See :meth:`Exchange.mark_streaming`."""
        ...

    @property
    def heard_more(self) -> bool:
        """Whether the client has sent data after its request, or closed its end."""
        ...

    def upgrade(self, handler: WebSocketHandler, headers: RawHeaders, key: bytes) -> None:
        """Make it a WebSocket; see :data:`UPGRADE`."""
        ...


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_disconnected",
        "_head",
        "_keep_alive",
        "_received",
        "_remaining",
        "complete",
        "request",
        "started",
    )

    def __init__(self, connection: Connection, request: Request) -> None:
        self.request = request
        self.started = False
        self.complete = False
        self._connection = connection
        self._keep_alive = request.keep_alive
        self._received = False
        self._disconnected: asyncio.Event | None = None
        self._head: bytes | None = None
        self._chunked = False
        self._remaining: int | None = None

    def scope(self, client: tuple[Any, ...] | None, server: tuple[Any, ...] | None) -> dict[str, Any]:
        """Return the ASGI scope of the request, sent from the socket address ``client`` to ``server``."""
        request = self.request
        raw_path, query = split_target(request.target)
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": request.http_version,
            "method": request.method,
            "scheme": "http",
            "path": path_of(raw_path),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": request.headers,
            "client": client[:2] if client else None,
            "server": server[:2] if server else None,
            "state": {},
            "extensions": {EXTENSION: self},
        }

    async def receive(self) -> dict[str, Any]:
        """ASGI ``receive``: return the request, then a disconnect once the response is complete or the client is gone."""
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self.request.body, "more_body": False}
        if not self.complete:
            if self._disconnected is None:
                self._disconnected = asyncio.Event()
            await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """ASGI ``send``, plus the message :data:`UPGRADE`. Messages to a client that is gone are dropped.

        Raises:
            RuntimeError: the message is out of order, or not a valid response.
            ConnectionError: the client of an upgrade is gone.
            RequestRefused: the client of an upgrade sent data before it had the answer (RFC 6455, 4.1).
        """
        kind = message["type"]
        if self.complete:
            if kind == UPGRADE:
                raise ConnectionResetError
        elif kind == "http.response.body":
            if not self.started:
                raise RuntimeError("the response was not started")
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
            if self._connection.write_paused:
                await self._connection.drain()
        elif self.started:
            raise RuntimeError("the response was started already")
        elif kind == UPGRADE:
            self.refuse_early_data()
            self._connection.upgrade(message["handler"], message["headers"], message["key"])
            self.started = True
            self.disconnect()
        else:
            self._head = self._begin(message["status"], message.get("headers", ()))
            self.started = True

    def respond(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send a whole response, bypassing the application."""
        self._head = self._begin(status, headers)
        self.started = True
        self._send_body(body, more=False)

    def respond_prepared(self, block: bytes) -> None:
        """Send 200 without content, bypassing the application. ``block`` is the :func:`header_block` of its headers."""
        self._remaining = 0
        self._head = self._head_of(200, block, _NO_DOCUMENT, _NO_STORE)
        self.started = True
        self._send_body(b"", more=False)

    def disconnect(self) -> None:
        """Mark the exchange as over: wake the task waiting in ``receive``, and drop further messages."""
        self.complete = True
        if self._disconnected is not None:
            self._disconnected.set()

    def close_after(self) -> None:
        """Close the connection after this response."""
        self._keep_alive = False

    def abort(self) -> None:
        """Drop the TCP connection and all unsent data."""
        self._connection.abort()

    def mark_streaming(self) -> None:
        """Mark the response as an endless stream, which the client's end ends. The application cuts slow clients."""
        self._connection.mark_streaming()

    def refuse_early_data(self) -> None:
        """Refuse a handshake whose client sent data, or closed its end, before the answer (RFC 6455, 4.1).

        Raises:
            RequestRefused: 400; the connection closes after the response.
        """
        if self._connection.heard_more:
            self.close_after()
            raise RequestRefused(400, "data received before the handshake was answered: wait for the 101 response")

    def _begin(self, status: int, headers: Any) -> bytes:
        """Return the response's head."""
        block = header_block(headers)
        security, no_store = _NO_DOCUMENT, _NO_STORE
        for name, value in headers:
            if name == b"content-length":
                self._remaining = int(value)
            elif name == b"cache-control":
                no_store = b""
            elif name == b"content-security-policy":
                security = _SECURITY
        return self._head_of(status, block, security, no_store)

    def _head_of(self, status: int, block: bytes, security: bytes, no_store: bytes) -> bytes:
        framing = self._frame(status)
        return b"".join((_STATUS_LINES[status], date_line(), block, security, no_store, framing, b"\r\n"))

    def _frame(self, status: int) -> bytes:
        """Choose how the end of the content is marked (RFC 9112, 6.3), and return the headers for it."""
        framing = b""
        if status in _NO_CONTENT:
            self._remaining = 0
        elif self._remaining is None:
            if self.request.http_version == "1.0":
                self._keep_alive = False
            elif self.request.method != "HEAD":
                self._chunked = True
                framing = b"transfer-encoding: chunked\r\n"
        if not self._keep_alive:
            framing += b"connection: close\r\n"
        elif self.request.http_version == "1.0":
            framing += b"connection: keep-alive\r\n"
        return framing

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.request.method == "HEAD":
            # HEAD of a stream: the content would never end.
            body, more, self._remaining = b"", False, None
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        elif self._remaining is not None:
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more):
                raise RuntimeError("the response is not as long as its Content-Length")
        head, self._head = self._head, None
        if head is not None and len(body) < _WRITTEN_APART:
            body = head + body
        elif head is not None:
            self._connection.write(head)
        self._connection.write(body)
        if not more:
            self.disconnect()
            self._connection.finished(keep_alive=self._keep_alive)


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a request target in origin-form or absolute-form (RFC 9112, 3.2) into path and query."""
    absolute = None if target.startswith(b"/") else _ABSOLUTE.match(target)
    if absolute is not None:
        target = absolute[1] if absolute[1].startswith(b"/") else b"/" + absolute[1]
    path, _, query = target.partition(b"?")
    return path, query


def path_of(raw_path: bytes) -> str:
    """Return the path for routing, decoded except where that would change its segments.

    An encoded slash belongs to its segment (RFC 3986, 2.2). An empty segment is kept; no route has one. Otherwise other
    readers, such as a proxy's rules, would see another path. A long path is not decoded: no route has one.
    """
    if b"%" not in raw_path and b"//" not in raw_path:
        return raw_path.decode("utf-8", "replace")
    if len(raw_path) > _PATH_BYTES:
        return "/%2F"
    segments = raw_path.split(b"/")
    decoded = [unquote_to_bytes(each).replace(b"%", b"%25").replace(b"/", b"%2F") for each in segments]
    kept = [segment or b"%2F" if 0 < number < len(segments) - 1 else segment for number, segment in enumerate(decoded)]
    return b"/".join(kept).decode("utf-8", "replace")


_date: tuple[int, bytes] = (0, b"")


def date_line() -> bytes:
    """Return the Date header for now (RFC 9110, 6.6.1)."""
    global _date  # noqa: PLW0603  # cached per second
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"date: %b\r\n" % formatdate(now, usegmt=True).encode())
    return _date[1]
