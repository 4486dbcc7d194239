"""A server without sessions, on real sockets: a handshake opens a WebSocket that records and echoes messages.

Any other request is answered with its method, its target and the length of its body; HEAD with 204.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from interlock.machine.closing import Close
from interlock.server.experience.transport.exchange import EXTENSION, UPGRADE
from interlock.server.experience.transport.handshake import handshake_key
from interlock.server.experience.transport.limits import TransportLimits
from interlock.server.experience.transport.server import HttpServer
from interlock.server.experience.transport.websocket import WebSocket
from interlock.server.guard.throttling.addresses import Addresses
from interlock.server.settings import Settings
from tests.support.frames import CLOSE

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Noting:
    """An endpoint that records events, and echoes text messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.binaries = 0
        self.broken_by: list[str] = []
        self.lost_with: int | None = None
        self.over = asyncio.Event()
        self.wire: WebSocket | None = None

    def opened(self, wire: WebSocket) -> None:
        self.wire = wire

    def text(self, text: str) -> None:
        self.texts.append(text)
        if self.wire is not None:
            self.wire.send(text.encode())

    def binary(self) -> None:
        self.binaries += 1

    def writable(self) -> None:
        pass

    def broken(self, closing: Close) -> None:
        self.broken_by.append(closing.name)
        if self.wire is not None:
            self.wire.close(closing)

    def lost(self, code: int) -> None:
        self.lost_with = code
        self.over.set()


class Upgrading:
    """The server, and the endpoint of each of its WebSockets, oldest first."""

    def __init__(self, app: Any = None, **settings: Any) -> None:
        self.endpoints: list[Noting] = []
        values = Settings(**settings)
        self._limits = TransportLimits(values, Addresses((), values.forwarded_header))
        self.server = HttpServer(app or self._app, self._limits)
        self.port = 0

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        request = scope["extensions"][EXTENSION].request
        if (b"upgrade", b"websocket") not in request.headers:
            if request.method == "HEAD":
                await send({"type": "http.response.start", "status": 204, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body"})
                return
            body = b"%b %b %d" % (request.method.encode(), request.target, len(request.body))
            head = {"status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            await send({"type": "http.response.start", **head})
            await send({"type": "http.response.body", "body": body})
            return
        key = handshake_key(request)
        endpoint = Noting()
        self.endpoints.append(endpoint)
        await send({"type": UPGRADE, "handler": endpoint, "headers": [], "key": key})

    @property
    def count(self) -> int:
        """Return the number of connections."""
        return len(self._limits.open)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Noting]:
        """Connect. Return the client's end after the handshake, and the server's endpoint."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(HANDSHAKE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return reader, writer, self.endpoints[-1]


@asynccontextmanager
async def upgrading(*, app: Any = None, buffer_bytes: int | None = None, **settings: Any) -> AsyncIterator[Upgrading]:
    """Run such a server until the context ends. ``app``: what answers instead.

    ``buffer_bytes``: the kernel's buffer for each connection and direction.
    """
    made = Upgrading(app, **settings)
    listener = socket.create_server(("127.0.0.1", 0))
    if buffer_bytes is not None:
        # Accepted sockets inherit it.
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            listener.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
    made.port = listener.getsockname()[1]
    await made.server.start(listener)
    try:
        yield made
    finally:
        await made.server.close(0)


async def talk(server: Upgrading, segments: list[bytes]) -> tuple[Noting, int]:
    """Send ``segments`` on a new WebSocket. Return the recorded events, and the close code; -1 if there was none."""
    reader, writer, noted = await server.connect()
    for segment in segments:
        if not writer.transport.is_closing():
            writer.write(segment)
        await asyncio.sleep(0)
    code = -1
    try:
        while code < 0:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await reader.readexactly(8))
            payload = await reader.readexactly(length)
            if first & 0x0F == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
    await noted.over.wait()
    return noted, code


async def converse(server: Upgrading, segments: list[bytes]) -> list[bytes]:
    """Send ``segments`` on a new connection, then its end. Return each answer's status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answers = []
    try:
        for segment in segments:
            if not writer.transport.is_closing():
                writer.write(segment)
            await asyncio.sleep(0)
        if not writer.transport.is_closing():
            writer.write_eof()
        while head := await reader.readuntil(b"\r\n\r\n"):
            status = head.split(b" ", 2)[1]
            if status == b"100":
                continue
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0])
            body = await reader.readexactly(length)
            answers.append(b"%b %b" % (status, body) if status == b"200" else status)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
    return answers
