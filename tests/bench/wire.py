"""Clients that cost little and stamp the moment bytes arrive: one HTTP connection, one WebSocket."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from tests.bench.figure import BenchError

PASSWORD = "correct horse battery staple"  # an example
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10

T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S", bound="Socket")


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer, and when the request went out and the answer came in (seconds of ``perf_counter``)."""

    status: int
    body: bytes
    sent_at: float
    answered_at: float


class User(msgspec.Struct, frozen=True):
    """A logged-in session."""

    email: str
    session_id: str
    access_token: str
    refresh_token: str


class Http(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._sent_at = 0.0
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        now = time.perf_counter()
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._waiting is None or len(body) < _content_length(head):
            return
        self._buffer = b""
        waiting, self._waiting = self._waiting, None
        waiting.set_result(Answer(int(head.split(b" ", 2)[1]), body, self._sent_at, now))

    def connection_lost(self, _error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BenchError("the server closed the connection"))

    async def request(self, method: str, path: str, *, token: str = "", body: Any = None, address: str = "") -> Answer:
        """Ask, and wait for the answer; ``address``: whose request a proxy says it is."""
        content = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\n"
        if token:
            head += f"authorization: Bearer {token}\r\n"
        if address:
            head += f"x-forwarded-for: {address}\r\n"
        if content:
            head += "content-type: application/json\r\n"
        self._waiting = asyncio.get_running_loop().create_future()
        self._sent_at = time.perf_counter()
        self._transport.write(head.encode() + b"\r\n" + content)
        return await self._waiting

    async def ok(self, method: str, path: str, *, token: str = "", body: Any = None) -> Answer:
        """As :meth:`request`, and the answer is 2xx."""
        answer = await self.request(method, path, token=token, body=body)
        if answer.status >= 300:
            raise BenchError(f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}")
        return answer

    async def register(self, email: str) -> str:
        """Make an account; its email address."""
        await self.ok("POST", "/api/auth/register", body={"email": email, "password": PASSWORD})
        return email

    async def log_in(self, email: str) -> User:
        """A new session of the account."""
        answer = await self.ok("POST", "/api/auth/login", body={"email": email, "password": PASSWORD})
        tokens = msgspec.json.decode(answer.body)
        return User(email, tokens["session_id"], tokens["access_token"], tokens["refresh_token"])

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


class Socket(asyncio.Protocol):
    """One WebSocket to /api/connect. ``greeted`` resolves at the hello; ``closed`` with the close code and its time."""

    __slots__ = ("_buffer", "_head", "_request", "_transport", "closed", "greeted")

    def __init__(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[tuple[int, float]] = loop.create_future()
        self._buffer = b""
        self._head = True
        self._transport: Any = None
        key = base64.b64encode(os.urandom(16)).decode()
        self._request = (
            "GET /api/connect HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\nsec-websocket-protocol: interlock.v1\r\n"
            f"authorization: Bearer {token}\r\n\r\n"
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = transport
        self._transport.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        now = time.perf_counter()
        self._buffer += data
        if self._head:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.greeted.set_exception(BenchError(f"handshake refused: {head[:200]!r}"))
                return
            self._head, self._buffer = False, rest
        while (taken := take_frame(self._buffer)) is not None:
            kind, payload, self._buffer = taken
            self._frame(kind, payload, now)

    def connection_lost(self, _error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        if not self.greeted.done():
            self.greeted.set_exception(BenchError("the server hung up"))
        if not self.closed.done():
            self.closed.set_result((1006, time.perf_counter()))

    def hang_up(self) -> None:
        """Close properly: the server answers and hangs up."""
        self._send(_CLOSE, (1000).to_bytes(2, "big"))

    def _frame(self, kind: int, payload: bytes, now: float) -> None:
        if kind == _PING:
            self._send(_PONG, payload)
        elif kind == _TEXT and not self.greeted.done():
            self.greeted.set_result(None)
        elif kind == _CLOSE:
            if not self.closed.done():
                self.closed.set_result((int.from_bytes(payload[:2], "big"), now))
            self._send(_CLOSE, payload[:2])
            self._transport.close()

    def _send(self, kind: int, payload: bytes) -> None:
        # The mask is 0: it hides nothing on loopback, and costs nothing.
        self._transport.write(bytes((0x80 | kind, 0x80 | len(payload))) + bytes(4) + payload)


def take_frame(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Kind and payload of the first frame, and what follows it; None before it is whole. Servers mask nothing; these send less
    than 64 KiB."""
    if len(buffer) < 2:
        return None
    length, start = buffer[1] & 0x7F, 2
    if length == 126:
        length, start = int.from_bytes(buffer[2:4], "big"), 4
    end = start + length
    return None if len(buffer) < end else (buffer[0] & 0x0F, buffer[start:end], buffer[end:])


async def open_http(url: str) -> Http:
    """A connection to the server at ``url``."""
    _, http = await asyncio.get_running_loop().create_connection(Http, *_address(url))
    return http


async def open_socket(url: str, token: str) -> Socket:
    """A WebSocket that has been greeted."""
    return await open_as(Socket, url, token)


async def open_as(kind: type[S], url: str, token: str) -> S:
    """A WebSocket of class ``kind`` that has been greeted."""
    _, socket = await asyncio.get_running_loop().create_connection(lambda: kind(token), *_address(url))
    await asyncio.wait_for(socket.greeted, 30)
    return socket


def _address(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    return address.hostname or "", address.port or 0


@asynccontextmanager
async def http_pool(url: str, size: int) -> AsyncIterator[list[Http]]:
    """``size`` connections, closed at the end."""
    pool = [await open_http(url) for _ in range(size)]
    try:
        yield pool
    finally:
        for http in pool:
            http.close()


async def spread(workers: Iterable[U], count: int, work: Callable[[U, int], Awaitable[T]]) -> list[T]:
    """``work(worker, number)`` for each number below ``count``, each worker doing one at a time; results by number."""
    numbers = iter(range(count))
    results: dict[int, T] = {}

    async def run(worker: U) -> None:
        for number in numbers:
            results[number] = await work(worker, number)

    await asyncio.gather(*map(run, workers))
    return [results[number] for number in range(count)]
