"""One request and its response, as ASGI: ``receive`` and ``send`` of the application, bytes on the connection."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from interlock.server.experience.headers import NO_STORE, SECURITY, RawHeaders
from interlock.server.experience.problems import RequestRefused
from interlock.server.experience.transport.reader import Request

if TYPE_CHECKING:
    from interlock.server.experience.transport.websocket import WebSocketHandler

EXTENSION: Final = "interlock.exchange"
"""Key of the :class:`Exchange` in ``scope["extensions"]``."""

UPGRADE: Final = "interlock.upgrade"
"""Type of the message that answers 101 and makes the connection a WebSocket.

``handler`` is its :class:`interlock.server.experience.transport.websocket.WebSocketHandler`, ``headers`` are more headers
of the answer, and ``key`` is the handshake's ``Sec-WebSocket-Key``, which was checked.
"""

_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
_STATUS_LINES: Final = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
_ABSOLUTE: Final = re.compile(rb"https?://[^/?]*(.*)\Z", re.IGNORECASE | re.DOTALL)
_PATH_BYTES: Final = 1024
_WRITTEN_APART: Final = 8 * 1024
"""Content of this size is not copied behind the head."""
_NO_CONTENT: Final = frozenset({204, 304})


def header_block(headers: RawHeaders) -> bytes:
    """``headers`` as they are sent.

    Raises:
        RuntimeError: one of them holds what would end it.
    """
    block = b"".join([b"%b: %b\r\n" % header for header in headers])
    if block.count(b"\n") != len(headers) or block.count(b"\r") != len(headers) or b"\0" in block:
        raise RuntimeError("a header holds a line end or NUL")
    return block


_SECURITY: Final = header_block(SECURITY)
_NO_STORE: Final = header_block([NO_STORE])


class Connection(Protocol):
    """What an exchange needs of the connection that it takes place on."""

    write_paused: bool

    def write(self, data: bytes) -> None:
        """Send ``data``; nothing once the connection is lost."""
        ...

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written, or is gone."""
        ...

    def finished(self, *, keep_alive: bool) -> None:
        """The response is complete."""
        ...

    def abort(self) -> None:
        """Drop the TCP connection, with what is still to be sent."""
        ...

    def mark_streaming(self) -> None:
        """See :meth:`Exchange.mark_streaming`."""
        ...

    @property
    def heard_more(self) -> bool:
        """Whether the client has sent more behind its request, or its end."""
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
        """The ASGI scope of the request, sent by the socket address ``client`` to ``server``."""
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
        """ASGI's ``receive``: the request, then its end: the response is complete, or the client is gone."""
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self.request.body, "more_body": False}
        if not self.complete:
            if self._disconnected is None:
                self._disconnected = asyncio.Event()
            await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """ASGI's ``send``, with one more message, :data:`UPGRADE`. What is sent to a client that is gone is dropped.

        Raises:
            RuntimeError: the message is out of place, or no response of HTTP's.
            ConnectionError: the client is gone, and there is nobody to upgrade.
            RequestRefused: the client of an upgrade sent something before it had the answer (RFC 6455, 4.1).
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
        """Send a whole response, without the application."""
        self._head = self._begin(status, headers)
        self.started = True
        self._send_body(body, more=False)

    def respond_prepared(self, block: bytes) -> None:
        """Send 200 without content, without the application. ``block`` is the :func:`header_block` of its headers."""
        self._remaining = 0
        self._head = self._head_of(200, block, _NO_STORE)
        self.started = True
        self._send_body(b"", more=False)

    def disconnect(self) -> None:
        """The client is gone, or has its response: whoever waits in ``receive`` hears of it, and what is sent is dropped."""
        self.complete = True
        if self._disconnected is not None:
            self._disconnected.set()

    def close_after(self) -> None:
        """End the connection with this response."""
        self._keep_alive = False

    def abort(self) -> None:
        """Drop the TCP connection, with what is still to be sent."""
        self._connection.abort()

    def mark_streaming(self) -> None:
        """The response is a stream without end: the client's end ends it, and the application cuts one that does not read."""
        self._connection.mark_streaming()

    def refuse_early_data(self) -> None:
        """Refuse a handshake behind which the client has sent more, or its end (RFC 6455, 4.1): it waits for the answer.

        Raises:
            RequestRefused: 400; the connection ends with the answer.
        """
        if self._connection.heard_more:
            self.close_after()
            raise RequestRefused(400, "data received before the handshake was answered: wait for the 101 response")

    def _begin(self, status: int, headers: Any) -> bytes:
        """The response's head."""
        block = header_block(headers)
        no_store = _NO_STORE
        for name, value in headers:
            if name == b"content-length":
                self._remaining = int(value)
            elif name == b"cache-control":
                no_store = b""
        return self._head_of(status, block, no_store)

    def _head_of(self, status: int, block: bytes, no_store: bytes) -> bytes:
        framing = self._frame(status)
        return b"".join((_STATUS_LINES[status], date_line(), block, _SECURITY, no_store, framing, b"\r\n"))

    def _frame(self, status: int) -> bytes:
        """Decide how the client is told where the content ends (RFC 9112, 6.3); the headers that say so."""
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
            # A stream would have no end: its head is all that was asked for.
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
    """The path and the query of a request's target, in origin-form or absolute-form (RFC 9112, 3.2)."""
    absolute = None if target.startswith(b"/") else _ABSOLUTE.match(target)
    if absolute is not None:
        target = absolute[1] if absolute[1].startswith(b"/") else b"/" + absolute[1]
    path, _, query = target.partition(b"?")
    return path, query


def path_of(raw_path: bytes) -> str:
    """The path that is routed by: decoded, but for what would change where its segments end.

    An encoded slash is a part of its segment (RFC 3986, 2.2), and an empty segment is one, which no route has. Other readers,
    such as the rules of a proxy, would otherwise see another path. A long one is not taken apart: no route has it.
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
    """The Date header of a response of now (RFC 9110, 6.6.1)."""
    global _date  # noqa: PLW0603  # one per second and process
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"date: %b\r\n" % formatdate(now, usegmt=True).encode())
    return _date[1]
