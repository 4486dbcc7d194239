"""WebSocket frames, valid or not, and a connection that sends nothing else."""

from __future__ import annotations

import base64
import socket
import struct
import time
from contextlib import suppress
from typing import Final, Self
from urllib.parse import urlsplit

from tests.support.server import ServerProcess

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
ASK: Final = b'{"type":"ping"}'
ANSWER: Final = b'{"type":"pong"}'
WAIT_S: Final = 60
"""Limit against hanging: answers and cuts take a moment."""


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\x01\x02\x03\x04"
) -> bytes:
    """Return one frame, masked only with ``mask``."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0x80 if mask is not None else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


def fragments(opcode: int, *parts: bytes) -> bytes:
    """Return one message in as many frames as there are ``parts``."""
    last = len(parts) - 1
    return b"".join(frame(CONTINUATION if at else opcode, part, fin=at == last) for at, part in enumerate(parts))


def closing(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


class Wire:
    """A WebSocket after its greeting. It sends and reads only what the test says."""

    def __init__(self, server: ServerProcess, bearer: str) -> None:
        parts = urlsplit(server.url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0), WAIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.key = base64.b64encode(b"0123456789abcdef").decode()
        self.send(
            f"GET /api/connect HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {self.key}\r\nAuthorization: Bearer {bearer}\r\n"
            "Sec-WebSocket-Protocol: chat, interlock.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
        )
        self._reader = self._socket.makefile("rb")
        self.status = int(self._reader.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._reader.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        opcode, payload = self.read()
        assert (opcode, b'"type":"hello"' in payload) == (TEXT, True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """Read the server's next frame, which must be final and unmasked (5.1). Heartbeats are answered and skipped."""
        while True:
            first, second = self._exactly(2)
            assert first & 0x70 == 0, "no extension was agreed on"
            assert first & 0x80
            assert second & 0x80 == 0, "a server masks nothing"
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            opcode, payload = first & 0x0F, self._exactly(size)
            if opcode != PING:
                return opcode, payload
            self.send(frame(PONG, payload))

    def read_close(self, *before: tuple[int, bytes]) -> tuple[int, ...]:
        """Read the close frame, possibly after the frames ``before``. Return its code, if it has one."""
        opcode, payload = self.read()
        for expected in before:
            if opcode != CLOSE:
                assert (opcode, payload) == expected
                opcode, payload = self.read()
        assert opcode == CLOSE, payload
        payload[2:].decode()
        # The server may have closed already (7.1.1), with unread bytes from here.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send(frame(CLOSE, payload[:2]))
        with suppress(ConnectionResetError):
            assert self._reader.read() == b"", "nothing follows a close frame (5.5.1)"
        return struct.unpack("!H", payload[:2]) if payload else ()

    def asks(self) -> None:
        """Check that the connection works."""
        self.send(frame(TEXT, ASK))
        assert self.read() == (TEXT, ANSWER)

    def _exactly(self, size: int) -> bytes:
        data = self._reader.read(size)
        assert len(data) == size, "the server hung up without a word"
        return data

    def send_slowly(self, data: bytes) -> None:
        """Send ``data`` byte by byte; stop when the server closes."""
        with suppress(BrokenPipeError, ConnectionResetError):
            for byte in data:
                self.send(bytes([byte]))
                time.sleep(0.0005)
