"""Limits of one peer's share: memory of a used connection, and turns of the event loop."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.attacks.test_pipelines import memory_kib
from tests.support.raw import TEXT, Raw, bearer, handshake, head, log_in
from tests.support.server import ServerProcess, running_server

KIB: Final = 64
LIVE: Final = head("GET /health/live HTTP/1.1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("shares") / "data", connections_per_session=100) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


def long_frame(payload: bytes) -> bytes:
    """Return a masked text frame of 126 bytes or more; the mask is zero."""
    return struct.pack("!BBH", 0x80 | TEXT, 0x80 | 126, len(payload)) + bytes(4) + payload


@pytest.mark.parametrize("size", [4_000, 60_000])
def test_large_messages_leave_no_large_buffers(server: ServerProcess, size: int) -> None:
    """Sent in bursts, so that each read fills the available space.

    A buffer that grows with each read would keep megabytes per connection. Assembling a message takes a few copies of it,
    and the allocator may keep those.
    """
    sockets, times = 20, 400_000 // size
    ping = b'{"type":"ping"}'
    burst = long_frame(ping + b" " * (size - len(ping))) * times
    tokens = log_in(server)
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(server.url)) for _ in range(sockets)]
        for raw in raws:
            raw.send(handshake(bearer(tokens)))
            assert raw.response().status == 101
        before = memory_kib(server)
        for _ in range(4):
            for raw in raws:
                raw.send(burst)
            for raw in raws:
                pongs = 0
                while pongs < times:
                    pongs += raw.frame()[1] == b'{"type":"pong"}'
        assert memory_kib(server) - before <= sockets * (KIB + 4 * size // 1024)


def test_a_new_connection_does_not_wait_for_all_earlier_ones(server: ServerProcess) -> None:
    """A newcomer waits neither for requests that others sent ahead, nor behind a burst of unused connections."""
    peers, requests, burst = 40, 400, 300
    parts = urlsplit(server.url)
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(server.url)) for _ in range(peers)]
        for raw in raws:
            raw.send(LIVE * requests)
        for _ in range(burst):
            idle = stack.enter_context(socket.socket())
            idle.setblocking(False)  # noqa: FBT003  # the socket's signature
            idle.connect_ex((parts.hostname, parts.port))
        newcomer = stack.enter_context(Raw(server.url))
        newcomer.send(LIVE)
        assert newcomer.response().status == 200
        answered = metric(server)
        for raw in raws:
            for _ in range(requests):
                assert raw.response().status == 200
    assert answered < peers * requests / 2


def metric(server: ServerProcess) -> int:
    """Return how many requests the server has read, by the numbers that it gives them."""
    with Raw(server.url) as raw:
        raw.send(LIVE)
        identity = raw.response().header("x-request-id")
    assert identity is not None
    return int(identity.rpartition("_")[2])
