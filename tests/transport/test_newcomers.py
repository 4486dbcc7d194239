"""Many new connections send their first request at once: older connections don't wait for all of them."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.asynchronous import on_uvloop
from tests.support.running import eventually
from tests.support.upgraded import HANDSHAKE, Upgrading, upgrading

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
MANY = 320


async def _connected(stack: ExitStack, server: Upgrading, count: int) -> list[socket.socket]:
    before = server.count
    sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(count)]
    for each in sockets:
        each.settimeout(0)
    await eventually(lambda: server.count == before + count)
    return sockets


def _has_answer(each: socket.socket) -> bool:
    try:
        return bool(each.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def _answer(each: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(each, 65536), 30)


@pytest.mark.parametrize("first", [REQUEST, HANDSHAKE])
@on_uvloop
async def test_a_known_connection_is_answered_before_most_newcomers(first: bytes) -> None:
    async with upgrading() as server:
        with ExitStack() as stack:
            (known,) = await _connected(stack, server, 1)
            known.send(REQUEST)
            await _answer(known)
            newcomers = await _connected(stack, server, MANY)
            for each in newcomers:
                each.send(first)
            known.send(REQUEST)
            assert b"200 OK" in await _answer(known)
            assert sum(map(_has_answer, newcomers)) < MANY // 2
            for each in newcomers:
                assert (await _answer(each)).startswith(b"HTTP/1.1 ")


@on_uvloop
async def test_a_newcomer_waiting_for_its_turn_is_not_cut_as_slow() -> None:
    """Its request arrived in time; only the server takes longer than the limit."""

    async def busy(_scope: Any, _receive: Any, send: Any) -> None:
        time.sleep(0.02)  # noqa: ASYNC251  # the event loop is busy
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async with upgrading(app=busy, header_timeout_s=1) as server:
        with ExitStack() as stack:
            newcomers = await _connected(stack, server, 100)
            for each in newcomers:
                each.send(REQUEST)
            for each in newcomers:
                assert (await _answer(each)).startswith(b"HTTP/1.1 204 ")


@on_uvloop
async def test_a_newcomer_half_closed_before_its_turn_is_answered() -> None:
    async with upgrading() as server:
        with ExitStack() as stack:
            newcomers = await _connected(stack, server, 64)
            for each in newcomers:
                each.send(REQUEST)
                each.shutdown(socket.SHUT_WR)
            for each in newcomers:
                assert (await _answer(each)).startswith(b"HTTP/1.1 200 ")
                assert await _answer(each) == b""
