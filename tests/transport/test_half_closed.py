"""A peer that has closed its end (FIN): the server closes the other one, whether or not the peer reads."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

from tests.support.asynchronous import on_uvloop
from tests.support.frames import TEXT, Frame, encode
from tests.support.running import eventually
from tests.support.upgraded import HANDSHAKE, Upgrading, upgrading

LONG_S = 600
UNREAD = 8 * 1024
"""Less than what pauses the server's writing, and more than a kernel with small buffers takes."""


def _client(stack: ExitStack, server: Upgrading) -> socket.socket:
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.connect(("127.0.0.1", server.port))
    client.settimeout(0)
    return client


async def _read(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), 30)


@on_uvloop
async def test_a_websocket_half_closed_without_a_close_frame_is_closed() -> None:
    async with upgrading(ping_interval_s=LONG_S) as server:
        with ExitStack() as stack:
            client = _client(stack, server)
            client.send(HANDSHAKE)
            assert (await _read(client)).startswith(b"HTTP/1.1 101 ")
            client.send(encode([Frame(TEXT, b"last")]))
            client.shutdown(socket.SHUT_WR)
            assert await _read(client) == b"\x81\x04last"
            assert await _read(client) == b""
            assert server.endpoints[0].lost_with == 1006
            await eventually(lambda: server.count == 0)


@on_uvloop
async def test_a_half_closed_unread_websocket_is_closed() -> None:
    async with upgrading(ping_interval_s=LONG_S, send_timeout_s=0.5, buffer_bytes=1024) as server:
        with ExitStack() as stack:
            client = _client(stack, server)
            client.send(HANDSHAKE)
            assert (await _read(client)).startswith(b"HTTP/1.1 101 ")
            noted = server.endpoints[0]
            assert noted.wire is not None
            noted.wire.send(b"x" * UNREAD)
            client.shutdown(socket.SHUT_WR)
            await eventually(lambda: noted.over.is_set() and server.count == 0)
            assert noted.lost_with == 1006


@on_uvloop
async def test_a_half_closed_client_that_reads_no_answer_is_cut() -> None:
    async def long(_scope: Any, _receive: Any, send: Any) -> None:
        head = {"status": 200, "headers": [(b"content-length", b"%d" % UNREAD)]}
        await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": b"x" * UNREAD})

    async with upgrading(app=long, keep_alive_s=LONG_S, buffer_bytes=1024) as server:
        with ExitStack() as stack:
            client = _client(stack, server)
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await asyncio.get_running_loop().sock_recv(client, 12)) == b"HTTP/1.1 200"
            client.shutdown(socket.SHUT_WR)
            await eventually(lambda: server.count == 0)
