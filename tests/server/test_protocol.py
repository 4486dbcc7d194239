"""The WebSocket protocol below ASGI, with raw sockets: heartbeats, bad handshakes, and peers that let things pile up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.asynchronous import asynchronous
from tests.support.client import Client, logged_in
from tests.support.peer import CLOSE, PING, Peer
from tests.support.running import eventually
from tests.support.server import ServerProcess
from tests.support.small_buffers import small_buffers

PONG = 10
TEXT = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """It asks often whether its peers are there, and with small buffers it soon has to wait for them."""
    folder: Path = tmp_path_factory.mktemp("protocol") / "data"
    with small_buffers(folder, ping_interval_s=1, send_timeout_s=3) as process:
        yield process


async def connected(client: Client) -> int:
    return int((await client.session())["connections"])


UPGRADE = "/api/connect HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

MALFORMED = {
    "no key": f"GET {UPGRADE}Sec-WebSocket-Version: 13\r\n\r\n",
    "a bad key": f"GET {UPGRADE}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
    "another version": f"GET {UPGRADE}Sec-WebSocket-Version: 8\r\n{KEY}\r\n",
    "another method": f"POST {UPGRADE}Sec-WebSocket-Version: 13\r\n{KEY}Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("head", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_handshake_is_refused_over_http(server: ServerProcess, head: str) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as wire:
        wire.sendall(head.encode())
        status = int(wire.recv(65536).split()[1])
    assert 400 <= status < 500
    assert "Traceback" not in server.log_path.read_text()


@asynchronous
async def test_a_ping_is_answered_with_its_own_words(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        peer = await Peer.open(server.socket_url, client.bearer)
        assert (await peer.read())[0] == TEXT
        peer.writer.write(Peer.frame(PING, b"are you there?"))
        while (answer := await peer.read())[0] == PING:
            pass
        assert answer == (PONG, b"are you there?")
        peer.drop()
        await eventually(lambda: nobody(client))


async def nobody(client: Client) -> bool:
    return await connected(client) == 0


@asynchronous
async def test_pongs_do_not_pile_up_for_a_peer_that_pings_and_does_not_read(server: ServerProcess) -> None:
    """It sends pings worth megabytes; once it reads, it finds a bounded number of pongs, and in the end the last one."""
    async with await logged_in(server.url) as client:
        peer = await Peer.open(server.socket_url, client.bearer)
        await peer.read()
        count = 40_000
        flood = b"".join(Peer.frame(PING, f"{number:060}".encode()) for number in range(count))
        peer.writer.write(flood)
        peer.writer.write(Peer.frame(PING, b"last"))
        await peer.writer.drain()
        pongs = 0
        while True:
            opcode, payload = await peer.read()
            if opcode == PING:
                peer.writer.write(Peer.frame(PONG, payload))
            elif opcode == PONG:
                pongs += 1
                if payload == b"last":
                    break
        assert pongs < count, "most of them nobody waited for"
        peer.drop()
        await eventually(lambda: nobody(client))


@asynchronous
async def test_a_peer_that_goes_on_after_the_close_is_answered_nothing_and_cut(server: ServerProcess) -> None:
    """It neither echoes the close frame nor answers the heartbeat: the connection ends all the same, with one close."""
    async with await logged_in(server.url) as client:
        peer = await Peer.open(server.socket_url, client.bearer)
        await peer.read()
        opcode = TEXT
        while opcode != PING:
            opcode, _ = await peer.read()
        (await client.request("POST", "/api/auth/logout")).raise_for_status()
        code, reason = await peer.read_close()
        assert (code, reason) == (4403, "session ended: logout")
        peer.writer.write(Peer.frame(PING, b"still there?") + Peer.frame(TEXT, b"{}"))
        later: list[int] = []
        async with asyncio.timeout(20):
            try:
                while True:
                    later.append((await peer.read())[0])
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
        assert CLOSE not in later
        assert PONG not in later
        peer.drop()
