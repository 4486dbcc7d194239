"""A network between client and server that a test disturbs: a relay that is slow, stops forwarding, or cuts its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Relay:
    """Forwards TCP connections to a server. ``url`` is its base URL."""

    def __init__(self, target: str) -> None:
        place = urlsplit(target)
        self._target = (place.hostname or "", place.port or 0)
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._last: bytes | None = None
        self.url = ""
        self.delay_s = 0.0
        """How long each piece of data is held up."""

    def freeze(self) -> None:
        """Forward nothing more in either direction; both sides still hold their connections."""
        self._open.clear()

    def thaw(self) -> None:
        """Forward again, and first what was held up."""
        self._open.set()

    def cut_behind(self, last: bytes) -> None:
        """Close the next connection that sends ``last``, once, with nothing after it."""
        self._last = last

    def cut(self) -> None:
        """Drop all connections, without a goodbye."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        there, back = await asyncio.open_connection(*self._target)
        self._writers |= {writer, back}
        await asyncio.gather(self._forward(reader, back), self._forward(there, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await asyncio.sleep(self.delay_s)
                await self._open.wait()
                if writer.transport.is_closing():
                    break
                before, found, _ = data.partition(self._last) if self._last else (data, b"", b"")
                writer.write(before + found)
                await writer.drain()
                if found:
                    self._last = None
                    break
        writer.close()
        self._writers.discard(writer)


@asynccontextmanager
async def relay_to(target: str) -> AsyncIterator[Relay]:
    """Run a relay to the server at ``target`` until the context ends."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        relay.cut()
