"""An HTTP server that answers as a test's script says, one step for each request, and keeps what it received."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeAlias

from tests.support.asynchronous import LIMIT_S


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange(NamedTuple):
    """One request and the connection that it came on."""

    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def closed_by_peer(self) -> bool:
        """Wait until the client has closed the connection."""
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read(1) == b""


Step: TypeAlias = Callable[[Exchange], Awaitable[None]]


class Scripted:
    def __init__(self, url: str, steps: list[Step]) -> None:
        self.url = url
        self.received: list[Received] = []
        self._steps = steps
        self._arrived = asyncio.Event()

    async def wait(self, count: int) -> Received:
        """Return the request with this number, from 1, once it has arrived."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.received[count - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            request = Received(head[0].split(" ")[1], headers, await reader.readexactly(int(headers["content-length"])))
            step = self._steps[min(len(self.received), len(self._steps) - 1)]
            self.received.append(request)
            self._arrived.set()
            await step(Exchange(request, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def answer(status: int, body: Any = None, **headers: str) -> Step:
    """Answer with ``body``, JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", *lines, f"content-length: {len(content)}", "connection: close", "", ""])

    async def step(exchange: Exchange) -> None:
        exchange.writer.write(head.encode() + content)
        await exchange.writer.drain()

    return step


async def hang_up(exchange: Exchange) -> None:
    """Close the connection without a response."""


@asynccontextmanager
async def scripted(*steps: Step, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    """Run the server on loopback. The last step answers all further requests."""
    server_side = Scripted("", [*steps])
    server = await asyncio.start_server(server_side.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    server_side.url = f"{'https' if tls else 'http'}://localhost:{port}/interlock"
    async with server:
        yield server_side
