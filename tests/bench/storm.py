"""Reconnect storm: the server is killed and restarted, and all sockets return at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from tests.bench.figure import Bench, BenchError, Figure, cores, number, percentile
from tests.bench.processes import interlock, open_files
from tests.bench.wire import Http, Socket, User, http_pool, open_socket, spread
from tests.support.ports import KeptPort

BAR: Final = 5.0
_QUIET_S: Final = 3.0
_PAUSE_S: Final = 0.1


class _Return(msgspec.Struct, frozen=True):
    """One client's reconnect: seconds from the start of the storm to its hello, and how often it retried."""

    seconds: float
    retries: int


async def measure(bench: Bench) -> list[Figure]:
    """Measure. The clients are this process, on another core than the server's."""
    count = bench.sockets or bench.pick(2000, 200)
    open_files(2 * count + 500)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        return await _measure(bench, count)
    finally:
        os.sched_setaffinity(0, before)


async def _measure(bench: Bench, count: int) -> list[Figure]:
    port, data = KeptPort(), bench.path("storm")
    quiet: list[float] = []
    busy: list[float] = []
    with interlock(bench, data, "--port", str(port.number)) as server:
        async with http_pool(server.url, 16) as pool:
            users = await _users(bench, pool, count)
            bench.say(f"opening {count:,} sockets")
            sockets = await spread(pool, count, lambda _, n: open_socket(server.url, users[n].access_token))
        async with _probing(server.url, users[0], quiet):
            bench.say("other requests, while all is quiet")
            await asyncio.sleep(_QUIET_S)
        os.kill(server.pid, signal.SIGKILL)
        killed_at = time.perf_counter()
        await asyncio.gather(*(socket.closed for socket in sockets))
    with interlock(bench, data, "--port", str(port.number)) as server:
        async with _probing(server.url, users[0], busy):
            bench.say(f"{count:,} sockets come back")
            began_at = time.perf_counter()
            back = await asyncio.gather(*(_come_back(server.url, user, began_at) for user in users))
            ended_at = time.perf_counter()
        if any(socket.closed.done() for socket, _ in back):
            raise BenchError("a socket that came back was closed")
        for socket, _ in back:
            socket.hang_up()
        await asyncio.gather(*(socket.closed for socket, _ in back))
    seconds = [each.seconds for _, each in back]
    retries = sum(each.retries for _, each in back)
    ratio = percentile(busy, 0.99) / percentile(quiet, 0.99)
    return [
        Figure(
            f"{count:,} sockets reconnect at once after a kill: until the last is back",
            f"{number(max(seconds))} s",
            note=(
                f"p50 {percentile(seconds, 0.5):.2f}, p99 {percentile(seconds, 0.99):.2f} s; {count / max(seconds):,.0f} /s; "
                f"{retries:,} tries were in vain; the start itself: ready {server.ready_s:.2f} s, "
                f"all back {ended_at - killed_at:.2f} s after the kill"
            ),
        ),
        Figure(
            f"p99 of `GET /api/forward-auth` while {count:,} sockets reconnect, vs. while they are idle",
            f"{number(percentile(busy, 0.99))} ms",
            f"{number(percentile(quiet, 0.99))} ms",
            f"{ratio:.1f}",
            f"≤ {BAR:g}",
            reached=ratio <= BAR,
            note=f"p50 {percentile(busy, 0.5):.2f} to {percentile(quiet, 0.5):.2f}, max {max(busy):.0f} to {max(quiet):.0f} ms",
        ),
    ]


async def _users(bench: Bench, pool: list[Http], count: int) -> list[User]:
    bench.say(f"logging {count:,} users in")

    async def join(http: Http, number: int) -> User:
        return await http.log_in(await http.register(f"user{number}@example.org"))

    return await spread(pool, count, join)


async def _come_back(url: str, user: User, began_at: float) -> tuple[Socket, _Return]:
    """Retry until there is a hello, as a client does."""
    retries = 0
    while True:
        try:
            socket = await open_socket(url, user.access_token)
        except (OSError, BenchError):
            retries += 1
            await asyncio.sleep(_PAUSE_S)
        else:
            return socket, _Return(time.perf_counter() - began_at, retries)


@asynccontextmanager
async def _probing(url: str, user: User, took_ms: list[float]) -> AsyncIterator[None]:
    """Run the prober meanwhile. Add the duration of each of its answers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.bench.prober", url, user.access_token),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    if await process.stdout.readline() != b"asking\n":
        raise BenchError("the prober was not answered")
    try:
        yield
    finally:
        output, _ = await process.communicate(b"")
    took_ms += msgspec.json.decode(output, type=list[float])
