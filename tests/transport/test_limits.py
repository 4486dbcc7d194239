"""Limits of one connection: frames, requests sent ahead, and time to close."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise
from statistics import median

import pytest
import uvloop

from tests.support.asynchronous import asynchronous
from tests.support.frames import BINARY, CONTINUATION, PING, TEXT, Frame, encode
from tests.support.running import eventually
from tests.support.upgraded import HANDSHAKE, Noting, Upgrading, talk, upgrading

REQUEST = b"GET /ahead HTTP/1.1\r\nHost: x\r\n\r\n"
AHEADER_BYTES = 512 * 1024
"""Much more than small buffers hold between two processes."""
TURN_FRAMES = 64
"""Maximum frames of one peer processed in a turn, plus those read together with the last."""


async def narrow(server: Upgrading) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a client for whom the kernel holds little."""
    raw = socket.socket()
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        raw.setsockopt(socket.SOL_SOCKET, option, 4096)
    raw.settimeout(0)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", server.port))
    return await asyncio.open_connection(sock=raw, limit=4096)


async def blocked(server: Upgrading) -> tuple[asyncio.StreamWriter, Noting]:
    """Return a client that reads nothing, once the server has more for it than the kernel takes."""
    reader, writer = await narrow(server)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    noted = server.endpoints[-1]
    assert noted.wire is not None
    while noted.wire.writable:
        noted.wire.send(b"x" * 1000)
        await asyncio.sleep(0)
    return writer, noted


@pytest.mark.parametrize("kind", [PING, TEXT, BINARY])
@asynchronous
async def test_a_flood_of_frames_is_closed_with_4420(kind: int) -> None:
    async with upgrading(limit_frames="20/1h") as server:
        noted, code = await talk(server, [encode([Frame(kind)]) * 30])
        assert (code, noted.broken_by) == (4420, ["flood"])
        assert len(noted.texts) + noted.binaries == (0 if kind == PING else 20)


@asynchronous
async def test_each_four_kib_of_a_message_count_as_another_frame() -> None:
    async with upgrading(limit_frames="20/1h") as server:
        message = encode([Frame(TEXT, b"x" * 60_000)])
        noted, code = await talk(server, [message, message])
        assert (code, len(noted.texts)) == (4420, 1)


def test_each_turn_processes_a_bounded_number_of_a_peers_frames() -> None:
    """Even if several turns fit into a millisecond, the resolution of uvloop's clock."""
    frame, count = encode([Frame(BINARY, b"x" * 94)]), 20_000

    async def most_in_a_turn() -> int:
        async with upgrading(limit_frames="off") as server:
            _, writer, noted = await server.connect()
            writer.write(frame * count)
            heard = [0]
            while heard[-1] < count:
                await asyncio.sleep(0)
                heard.append(noted.binaries)
            writer.transport.abort()
            return max(after - before for before, after in pairwise(heard))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(most_in_a_turn()) <= 4 * TURN_FRAMES


def test_constantly_sending_peers_share_the_turns() -> None:
    """However many they are. The first turn does not count, as nobody has had more than others yet."""
    frame, count, peers = encode([Frame(BINARY, b"x" * 94)]), 400, 150

    async def usual_in_a_turn() -> float:
        async with upgrading(limit_frames="off") as server:
            made = [await server.connect() for _ in range(peers)]
            for _, writer, _ in made:
                writer.write(frame * count)
            heard = [0]
            while heard[-1] < count * peers:
                await asyncio.sleep(0)
                heard.append(sum(noted.binaries for _, _, noted in made))
            for _, writer, _ in made:
                writer.transport.abort()
            return median(after - before for before, after in pairwise(heard) if after > before)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(usual_in_a_turn()) <= peers * TURN_FRAMES / 4


@asynchronous
async def test_pipelined_requests_wait_in_the_kernel_and_are_all_answered() -> None:
    async with upgrading(send_timeout_s=600, buffer_bytes=4096) as server:
        reader, writer = await narrow(server)
        sent = 0
        taken = True
        while taken:
            writer.write(REQUEST * 100)
            sent += 100
            assert sent * len(REQUEST) < AHEADER_BYTES, "the server reads on while its answers are not taken"
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except TimeoutError:
                taken = False
        for _ in range(sent):
            assert (await reader.readuntil(b"GET /ahead 0")).startswith(b"HTTP/1.1 200 ")
        writer.close()


@asynchronous
async def test_a_peer_that_acknowledges_nothing_is_cut() -> None:
    async with upgrading(send_timeout_s=0.5, buffer_bytes=4096) as server:
        writer, noted = await blocked(server)
        await noted.over.wait()
        assert noted.broken_by == ["slow_consumer"]
        writer.transport.abort()


@asynchronous
async def test_a_peer_whose_input_is_paused_needs_no_pong() -> None:
    async with upgrading(send_timeout_s=600, ping_interval_s=0.2, ping_timeout_s=0.2, buffer_bytes=4096) as server:
        writer, noted = await blocked(server)
        await asyncio.sleep(1)
        assert noted.broken_by == []
        writer.transport.abort()


@asynchronous
async def test_a_peer_that_does_not_close_after_the_close_frame_is_cut() -> None:
    async with upgrading(send_timeout_s=0.2) as server:
        reader, writer, _ = await server.connect()
        # Excluding unfinished messages.
        writer.write(encode([Frame(CONTINUATION)]))
        while await reader.read(4096):
            pass
        # The server has sent everything, and closed its end; this end stays open.
        await eventually(lambda: server.count == 0)
        writer.close()
