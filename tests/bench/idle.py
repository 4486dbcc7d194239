"""5,000 idle WebSockets of one account: the processor time of their heartbeats, and how long it takes to end them all."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Final

from tests.bench.figure import Bench, BenchError, Figure, cores, number
from tests.bench.processes import Process, cpu_s, interlock, open_files
from tests.bench.wire import Socket, http_pool, open_as, spread

_ENDED: Final = 4403
_PING: Final = 9
_PATIENCE_S: Final = 120.0


class _Idle(Socket):
    """A WebSocket that counts the pings it answers."""

    __slots__ = ("pings",)

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.pings = 0

    def _frame(self, kind: int, payload: bytes, now: float) -> None:
        self.pings += kind == _PING
        super()._frame(kind, payload, now)


async def measure(bench: Bench) -> list[Figure]:
    """Measure. The clients are this process, on another core than the server's; they answer the server's pings."""
    count, watched_s = bench.pick(5000, 300), bench.pick(60, 25)
    open_files(count + 500)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        with interlock(bench, bench.path("idle")) as server:
            bench.say("watching the server without sockets")
            alone = await _busy(server, watched_s / 3)
            async with http_pool(server.url, 16) as pool:
                email = await pool[0].register("idle@example.org")
                bench.say(f"opening {count:,} sockets, each of its own session")
                users = await spread(pool, count, lambda http, _: http.log_in(email))
                sockets = await spread(pool, count, lambda _, n: open_as(_Idle, server.url, users[n].access_token))
            bench.say("watching their heartbeats")
            pings = sum(socket.pings for socket in sockets)
            busy = await _busy(server, watched_s)
            pings = sum(socket.pings for socket in sockets) - pings
            if any(socket.closed.done() for socket in sockets):
                raise BenchError("an idle socket was closed")
            bench.say("ending all sessions")
            share = busy - alone
            note = (
                f"of one core, beside {alone * 100:.2f} % without sockets; {pings:,} pings in {watched_s} s,"
                f" {share * watched_s / pings * 1e6:.0f} µs each"
            )
            title = f"processor time of {count:,} idle sockets' heartbeats"
            return [Figure(title, f"{share * 100:.2f} %", note=note), await _ended(server, sockets, email)]
    finally:
        os.sched_setaffinity(0, before)


async def _busy(server: Process, seconds: float) -> float:
    """Return the share of a core that the server uses."""
    began, before = time.perf_counter(), cpu_s(server.pid)
    await asyncio.sleep(seconds)
    return (cpu_s(server.pid) - before) / (time.perf_counter() - began)


async def _ended(server: Process, sockets: Sequence[Socket], email: str) -> Figure:
    """Log in once more, and end all other sessions of the account with one request."""
    async with http_pool(server.url, 1) as (http,):
        own = await http.log_in(email)
        cpu_before = cpu_s(server.pid)
        answer = await http.ok("DELETE", "/api/sessions", token=own.access_token)
    closes = await asyncio.wait_for(asyncio.gather(*(socket.closed for socket in sockets)), _PATIENCE_S)
    if any(code != _ENDED for code, _ in closes):
        raise BenchError("a socket was closed for another reason")
    first_s, last_s = (pick(at for _, at in closes) - answer.sent_at for pick in (min, max))
    cpu_us = (cpu_s(server.pid) - cpu_before) / len(sockets) * 1e6
    note = (
        f"from the request to the last close frame; to the first {first_s * 1e3:.0f} ms, to the answer"
        f" {answer.answered_at - answer.sent_at:.2f} s; {cpu_us:.0f} µs of processor time a socket"
    )
    return Figure(
        f"end of all {len(sockets):,} sessions of an account, each with a socket", f"{number(last_s)} s", note=note
    )
