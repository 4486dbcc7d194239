"""A round trip on a WebSocket, ``ping`` and ``pong``, against an echo on stock uvicorn and one on bare picows."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from tests.bench.figure import Bench, BenchError, Figure, in_turns
from tests.bench.processes import Process, cpu_s, interlock, per_cpu_second, running
from tests.bench.wire import http_pool, spread, take_frame

_CONNECTIONS: Final = 100
_PING: Final = b'{"type":"ping"}'
_PONG: Final = b'{"type":"pong"}'
_TEXT: Final = b"\x81\x0f"
"""The head of an unmasked final text frame of 15 bytes, the size of both messages."""

_ASK: Final = b"\x81\x8f" + bytes(4) + _PING
"""The client's frame. A mask of 0 costs the server as much as any other."""

_HEARTBEAT: Final = 9


async def measure(bench: Bench) -> list[Figure]:
    """Measure round trips per second of one pinned process: 100 connections, one message in flight on each."""
    return [
        await _measure(bench, "stock uvicorn", "tests.bench.bare_asgi", 1.0),
        await _measure(bench, "bare picows", "tests.bench.bare_picows", 0.4),
    ]


async def _measure(bench: Bench, name: str, module: str, bar: float) -> Figure:
    with interlock(bench, bench.path(f"echo-{module}")) as ours, running(bench, module) as ceiling:
        async with http_pool(ours.url, 8) as pool:
            await spread(pool, _CONNECTIONS, lambda http, n: http.register(f"user{n}@example.org"))
            users = await spread(pool, _CONNECTIONS, lambda http, n: http.log_in(f"user{n}@example.org"))
        seconds = bench.pick(2, 1)
        credentials = [f"authorization: Bearer {user.access_token}\r\n" for user in users]
        async with (
            _talking(ours, credentials, _PONG, seconds) as side,
            _talking(ceiling, [""] * _CONNECTIONS, _PING, seconds) as other,
        ):
            pairs = await in_turns(bench, f"ping and pong, {name}", bench.pick(9, 3), side.rate, other.rate)
    title = f"`ping` and `pong`, {_CONNECTIONS} WebSockets, vs. an echo on {name}"
    return pairs.at_least(title, bar, "/s", per_cpu_second(side, other))


class _Talk:
    """One server and its open connections, which talk only in this side's turns."""

    def __init__(self, process: Process, connections: list[_Connection], seconds: int) -> None:
        self.per_cpu_s: list[float] = []
        self._process = process
        self._connections = connections
        self._seconds = seconds

    async def rate(self) -> float:
        """Measure one turn: round trips per second."""
        before = cpu_s(self._process.pid)
        for connection in self._connections:
            connection.begin()
        await asyncio.sleep(self._seconds)
        count = sum(connection.end() for connection in self._connections)
        self.per_cpu_s.append(count / (cpu_s(self._process.pid) - before))
        if any(connection.lost for connection in self._connections):
            raise BenchError("the server closed a WebSocket")
        # Answers still in flight belong to no turn.
        await asyncio.sleep(0.2)
        return count / self._seconds


@asynccontextmanager
async def _talking(process: Process, credentials: Iterable[str], answer: bytes, seconds: int) -> AsyncIterator[_Talk]:
    """Open a connection to ``process`` for each header line of ``credentials``. The server answers a ping with ``answer``."""
    connections: list[_Connection] = []
    try:
        for credential in credentials:
            connections.append(_Connection(credential, _TEXT + answer))
            await _open(process, connections[-1])
        yield _Talk(process, connections, seconds)
    finally:
        for connection in connections:
            connection.drop()


async def _open(process: Process, connection: _Connection) -> None:
    address = urlsplit(process.url)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: connection, address.hostname or "", address.port or 0)
    await asyncio.wait_for(connection.open, 30)


class _Connection(asyncio.Protocol):
    """A WebSocket that sends the next ping after each answer, from ``begin`` to ``end``."""

    def __init__(self, credential: str, answer: bytes) -> None:
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False
        self._credential = credential
        self._answer = answer
        self._transport: Any = None
        self._buffer = b""
        self._head = True
        self._talks = False
        self._count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            "GET /api/connect HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n{self._credential}\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Count the answer and send the next ping. Read and, if necessary, answer anything else."""
        if data == self._answer and not self._buffer:
            self._answered()
            return
        self._buffer += data
        if self._head:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            self._head, self._buffer = False, rest
            if b" 101 " in head.split(b"\r\n", 1)[0]:
                self.open.set_result(None)
            else:
                self.open.set_exception(BenchError(f"handshake refused: {head[:200]!r}"))
        while (taken := take_frame(self._buffer)) is not None:
            kind, payload, self._buffer = taken
            if payload == self._answer[len(_TEXT) :]:
                self._answered()
            elif kind == _HEARTBEAT:
                self._transport.write(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that the server closed the connection."""
        self.lost = True
        if not self.open.done():
            self.open.set_exception(BenchError("the server hung up"))

    def begin(self) -> None:
        """Send the first ping."""
        self._talks, self._count = True, 0
        self._transport.write(_ASK)

    def end(self) -> int:
        """Stop sending. Return how many answers arrived."""
        self._talks = False
        return self._count

    def drop(self) -> None:
        """Close the TCP connection, if open."""
        if self._transport is not None:
            self._transport.abort()

    def _answered(self) -> None:
        if self._talks:
            self._count += 1
            self._transport.write(_ASK)
