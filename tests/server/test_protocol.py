"""The WebSocket protocol below ASGI, with raw sockets: heartbeats, bad handshakes, and peers that don't read."""

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
    """Run a server with frequent pings and small buffers, which soon waits for its peers."""
    folder: Path = tmp_path_factory.mktemp("protocol") / "data"
    with small_buffers(folder, ping_interval_s=1, send_timeout_s=3) as process:
        yield process


async def connected(client: Client) -> int:
    return int((await client.session())["connections"])


UPGRADE = "/api/connect HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

VERSION = "Sec-WebSocket-Version: 13\r\n"

MALFORMED = {
    "no key": (f"GET {UPGRADE}{VERSION}\r\n", 400),
    "a bad key": (f"GET {UPGRADE}{VERSION}Sec-WebSocket-Key: short\r\n\r\n", 400),
    "two keys": (f"GET {UPGRADE}{VERSION}{KEY}{KEY}\r\n", 400),
    "content": (f"GET {UPGRADE}{VERSION}{KEY}Content-Length: 1\r\n\r\nx", 400),
    "a frame before the answer": (f"GET {UPGRADE}{VERSION}{KEY}\r\n\x89\x80\0\0\0\0", 400),
    "a request before the answer": (f"GET {UPGRADE}{VERSION}{KEY}\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no version": (f"GET {UPGRADE}{KEY}\r\n", 426),
    "another version": (f"GET {UPGRADE}Sec-WebSocket-Version: 8\r\n{KEY}\r\n", 426),
    "another protocol": (f"GET {UPGRADE}{VERSION}{KEY}\r\n".replace("websocket", "h2c", 1), 426),
    "no upgrade": (f"GET {UPGRADE}{VERSION}{KEY}\r\n".replace("Upgrade: websocket\r\n", ""), 426),
    "no connection": (f"GET {UPGRADE}{VERSION}{KEY}\r\n".replace("Connection: Upgrade\r\n", ""), 426),
    "HEAD": (f"HEAD {UPGRADE}{VERSION}{KEY}\r\n", 426),
    "HTTP/1.0": (f"GET {UPGRADE}{VERSION}{KEY}\r\n".replace("HTTP/1.1", "HTTP/1.0"), 426),
    "another method": (f"POST {UPGRADE}{VERSION}{KEY}Content-Length: 0\r\n\r\n", 405),
}


@pytest.mark.parametrize(("head", "status"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_handshake_is_refused_over_http(server: ServerProcess, head: str, status: int) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as wire:
        wire.sendall(head.encode("latin-1"))
        said = wire.recv(65536).decode("latin-1")
    assert int(said.split()[1]) == status
    assert ("sec-websocket-version: 13" in said) == (status == 426)
    assert "Traceback" not in server.log_path.read_text()


@asynchronous
async def test_a_pong_echoes_its_pings_payload(server: ServerProcess) -> None:
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
async def test_a_peer_that_does_not_read_is_not_read_and_loses_no_pong(tmp_path: Path) -> None:
    """It pings without end: the server stops reading, so that answers don't pile up, and continues when the peer reads."""
    with small_buffers(tmp_path / "data", send_timeout_s=600, ping_interval_s=600) as server:
        async with await logged_in(server.url) as client:
            peer = await Peer.open(server.socket_url, client.bearer)
            await peer.read()
            sent = 0
            taken = True
            while taken:
                peer.writer.write(
                    b"".join(Peer.frame(PING, f"{sent + number:0125}".encode()) for number in range(1000))
                )
                sent += 1000
                assert sent < 1_000_000, "more than all kernels on the way can hold was read"
                try:
                    await asyncio.wait_for(peer.writer.drain(), 3)
                except TimeoutError:
                    taken = False
            for number in range(sent):
                assert await peer.read() == (PONG, f"{number:0125}".encode())
            peer.drop()
            await eventually(lambda: nobody(client))


@asynchronous
async def test_a_peer_that_sends_after_the_close_gets_no_answer_and_is_cut(server: ServerProcess) -> None:
    """It neither echoes the close frame nor answers the heartbeat: the connection still ends, with one close."""
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
