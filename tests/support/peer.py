"""A misbehaving WebSocket peer: it answers no ping and no close, and reads only when told to."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

CLOSE = 8
PING = 9
PONG = 10


class Peer:
    """A raw connection after its handshake. ``status`` is the server's answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> None:
        self.reader = reader
        self.writer = writer
        self.status = status

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str] | None = None) -> Peer:
        """Connect to ``url`` (``ws://…``). The receive buffer is small, so that it soon is full."""
        parts = urlsplit(url)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(0)
        await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
        lines = {
            "Host": parts.netloc,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": "interlock.v1",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"GET {parts.path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer, int(answer.split()[1]))

    @staticmethod
    def frame(opcode: int, payload: bytes = b"") -> bytes:
        """Return a whole masked frame of at most 125 bytes; the mask is zero, so the payload is sent as it is."""
        return struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload)) + bytes(4) + payload

    async def read(self) -> tuple[int, bytes]:
        """Read the next frame: opcode and payload."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)

    async def read_close(self) -> tuple[int, str]:
        """Read up to the close frame. Return its code and reason."""
        while True:
            opcode, payload = await self.read()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def gone(self) -> None:
        """Read and discard until the server has dropped the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def drop(self) -> None:
        """Vanish without a close frame."""
        self.writer.transport.abort()
