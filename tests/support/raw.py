"""One TCP connection to a server: requests are sent exactly as written, responses are read by their own framing."""

from __future__ import annotations

import base64
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from tests.support.asynchronous import LIMIT_S
from tests.support.client import PASSWORD, new_email
from tests.support.server import ServerProcess

LONG_S: Final = min(60, LIMIT_S)
"""Limit against hanging: answers and cuts take a second or two."""

PAUSE_S: Final = 0.002
"""Pause between two segments, so that the server reads them separately."""

PAGE: Final = 100

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_BODILESS: Final = frozenset({204, 304})


class Ended(Exception):
    """The server ended the connection before a whole response. The message is what it sent."""


class Response(msgspec.Struct, frozen=True):
    """One response. Header names are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the value of header ``name``, with several lines joined."""
        values = [value for each, value in self.headers if each == name]
        return ", ".join(values) if values else None

    @property
    def closes(self) -> bool:
        """Whether it announces the end of the connection."""
        return (self.header("connection") or "").lower() == "close"

    @property
    def problem(self) -> str:
        """The last part of the problem's type; empty if the body is no problem document."""
        if self.header("content-type") != "application/problem+json" or not self.body:
            return ""
        kind: str = msgspec.json.decode(self.body)["type"]
        return kind.rpartition(":")[2]


class Raw:
    """One connection. Leaving the context drops it."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(LONG_S)
        self.socket.connect((parts.hostname, parts.port))
        self.port = int(self.socket.getsockname()[1])
        self._read = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *segments: bytes) -> None:
        """Send each of ``segments`` separately. Ignore that the server has cut the connection."""
        try:
            for number, segment in enumerate(segments):
                if number:
                    time.sleep(PAUSE_S)
                self.socket.sendall(segment)
        except ConnectionError:
            pass

    def finish(self) -> None:
        """Send no more: a half-close."""
        self.socket.shutdown(socket.SHUT_WR)

    def response(self, method: str = "GET") -> Response:
        """Read the next response, to a request with ``method``. 1xx count as responses.

        Raises:
            Ended: the connection ended before the response was whole.
        """
        head = self._until(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        version, status = first.split(" ", 2)[:2]
        assert version in {"HTTP/1.1", "HTTP/1.0"}, first
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        known = Response(int(status), headers)
        if method == "HEAD" or known.status < 200 or known.status in _BODILESS:
            return known
        if known.header("transfer-encoding") is not None:
            return msgspec.structs.replace(known, body=self._chunks())
        length = known.header("content-length")
        assert length is not None, head
        return msgspec.structs.replace(known, body=self._exactly(int(length)))

    def rest(self) -> bytes:
        """Read until the server ends the connection."""
        while self._more():
            pass
        return self._exactly(len(self._read))

    def frame(self) -> tuple[int, bytes]:
        """Read the next WebSocket frame: opcode and payload.

        Raises:
            Ended: the connection ended before the frame was whole.
        """
        first, second = self._exactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(length)

    def close_code(self) -> int | None:
        """Read up to the close frame. Return its code; None if the connection ended without one."""
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big")
        except Ended:
            return None

    def _until(self, end: bytes) -> bytes:
        while (at := self._read.find(end)) < 0:
            if not self._more():
                raise Ended(bytes(self._read))
        return self._exactly(at + len(end))

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            if not self._more():
                raise Ended(bytes(self._read))
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._until(b"\r\n") == b"\r\n"
        return body

    def _more(self) -> bool:
        """Read once. Return whether there was anything."""
        try:
            received = self.socket.recv(262_144)
        except ConnectionError:
            return False
        self._read += received
        return bool(received)


def held(url: str, raw: Raw) -> bool:
    """Return whether the server at ``url`` (on 127.0.0.1) still has its end of the connection."""
    # A socket that its process has closed, but the kernel still sends for, has no inode.
    return any(row[9] != "0" for row in _server_ends(url, raw))


def unacknowledged(url: str, raw: Raw) -> int:
    """Return how many bytes the kernel of the server at ``url`` holds for the client."""
    return max((int(row[4].partition(":")[0], 16) for row in _server_ends(url, raw)), default=0)


def _server_ends(url: str, raw: Raw) -> list[list[str]]:
    """Return the rows of the connection's other end in proc(5)'s net/tcp."""
    ends = [f"0100007F:{port:04X}" for port in (int(url.rpartition(":")[2]), raw.port)]
    rows = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
    return [row for row in rows if row[1:3] == ends]


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a masked frame; the mask is zero, so the payload is sent as it is."""
    first = (0x80 if final else 0) | opcode
    if len(payload) < 126:
        return struct.pack("!BB", first, 0x80 | len(payload)) + bytes(4) + payload
    return struct.pack("!BBH", first, 0x80 | 126, len(payload)) + bytes(4) + payload


def head(first: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of a request with the line ``first``, to host ``x``."""
    lines = {"Host": "x", **(headers or {})}
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in lines.items()), "", ""]).encode("latin-1")


def handshake(headers: Mapping[str, str] | None = None) -> bytes:
    """Return a WebSocket handshake as a client sends it."""
    return head("GET /api/connect HTTP/1.1", {**offer(), **(headers or {})})


def offer() -> dict[str, str]:
    """Return the headers of a WebSocket handshake."""
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": "interlock.v1",
    }


NEXT: Final = head("GET /.well-known/jwks.json HTTP/1.1", {"Connection": "close"})
"""A request with a unique answer, for the end of a connection."""


def answered_once(raw: Raw, method: str = "GET") -> Response:
    """Read the one response to the last request, with ``method``. Then NEXT is answered, or the connection is over."""
    response = raw.response(method)
    if response.closes:
        assert response.status >= 400
        assert raw.rest() == b"", "nothing else was answered"
        return response
    raw.send(NEXT)
    following = raw.response()
    assert (following.status, following.body[:8]) == (200, b'{"keys":'), following
    assert raw.rest() == b""
    return response


def asked(server: ServerProcess, *segments: bytes, method: str = "GET") -> Response:
    """Return the one response to ``segments``, a request with ``method``, on a new connection."""
    with Raw(server.url) as raw:
        raw.send(*segments)
        return answered_once(raw, method)


def log_in(server: ServerProcess) -> dict[str, Any]:
    """Return the tokens of a new account's new session."""
    credentials = {"email": new_email(), "password": PASSWORD}
    httpx.post(f"{server.url}/api/auth/register", json=credentials).raise_for_status()
    tokens: dict[str, Any] = httpx.post(f"{server.url}/api/auth/login", json=credentials).raise_for_status().json()
    return tokens


def bearer(tokens: Mapping[str, Any]) -> dict[str, str]:
    """Return the header with the access token."""
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def events(server: ServerProcess, tokens: Mapping[str, Any]) -> Counter[str]:
    """Count the recorded events of the session of ``tokens``."""
    rows: list[dict[str, Any]] = []
    with httpx.Client(base_url=server.url, headers=bearer(tokens), timeout=60) as http:
        while len(rows) % PAGE == 0:
            after = rows[-1]["version"] if rows else 0
            answer = http.get("/api/session/transitions", params={"after_version": after, "limit": PAGE})
            if not (page := answer.raise_for_status().json()):
                break
            rows += page
    return Counter(row["event"] for row in rows)
