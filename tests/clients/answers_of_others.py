"""A server in the place of Interlock that knows one session, and answers a follower of ends with what a test chooses."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

SESSION: Final = "s1"
TOKEN: Final = f"a.{base64.urlsafe_b64encode(json.dumps({'sid': SESSION}).encode()).decode().rstrip('=')}.b"

KNOWN: Final = {
    "active": True,
    "token_type": "Bearer",
    "sid": SESSION,
    "sub": "acc_1",
    "session_state": "authenticated",
    "exp": 1 << 40,
}
_EVERY_S: Final = 0.2


class OtherServer:
    """What is answered to the next follower: ``media_type`` and ``text``, which is sent again and again while it is open.

    ``known`` is what introspection says of any token, once ``answers`` is set. ``most_waiting`` is how many callers have
    waited for that at once.
    """

    def __init__(self) -> None:
        self.url = ""
        self.known: object = KNOWN
        self.media_type = "text/event-stream"
        self.text = ":\n\n"
        self.answers = asyncio.Event()
        self.answers.set()
        self.most_waiting = 0
        self._waiting = 0
        self._followers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End the open streams."""
        for writer in self._followers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /api/events/stream"):
            await self._follow(writer)
        else:
            await self._answering(head, reader)
            body = json.dumps(self.known)
            writer.write(
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"connection: close\r\n\r\n{body}".encode()
            )
        writer.close()

    async def _answering(self, head: bytes, reader: asyncio.StreamReader) -> None:
        """Wait until introspection is to be answered, or the caller has left."""
        length = re.search(rb"(?i)content-length: *([0-9]+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        self._waiting += 1
        self.most_waiting = max(self.most_waiting, self._waiting)
        either = [asyncio.ensure_future(self.answers.wait()), asyncio.ensure_future(reader.read(1))]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for each in either:
            each.cancel()
        self._waiting -= 1

    async def _follow(self, writer: asyncio.StreamWriter) -> None:
        self._followers.add(writer)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {self.media_type}\r\nconnection: close\r\n\r\n".encode())
        while not writer.is_closing():
            writer.write(self.text.encode())
            await asyncio.sleep(_EVERY_S)
        self._followers.discard(writer)


@asynccontextmanager
async def other_server() -> AsyncIterator[OtherServer]:
    """Run one."""
    other = OtherServer()
    async with await asyncio.start_server(other.serve, "127.0.0.1", 0) as server:
        other.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield other
        other.cut()
