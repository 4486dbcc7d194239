"""5,000 idle WebSockets of one account: the processor time of their heartbeats, and how long it takes to end them all."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from tests.bench.figure import Bench, BenchError, Figure, cores, number
from tests.bench.processes import Process, cpu_s, interlock, open_files
from tests.bench.wire import Socket, User, http_pool, open_socket, spread

_ENDED: Final = 4403
_PATIENCE_S: Final = 120.0


async def measure(bench: Bench) -> list[Figure]:
    """Measure. The clients are this process, on another core than the server's; they answer the server's pings."""
    count, watched_s = bench.pick(5000, 300), bench.pick(60, 5)
    open_files(count + 500)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        with interlock(bench, bench.path("idle")) as server:
            async with http_pool(server.url, 16) as pool:
                email = await pool[0].register("idle@example.org")
                own = await pool[0].log_in(email)
                bench.say("watching the server without sockets")
                alone = await _busy(server, watched_s / 3)
                bench.say(f"opening {count:,} sockets, each of its own session")
                users = await spread(pool, count, lambda http, _: http.log_in(email))
                sockets = await spread(pool, count, lambda _, n: open_socket(server.url, users[n].access_token))
                bench.say("watching their heartbeats")
                busy = await _busy(server, watched_s)
                if any(socket.closed.done() for socket in sockets):
                    raise BenchError("an idle socket was closed")
                bench.say("ending all sessions")
                return [_heartbeats(count, busy, alone), await _ended(server, sockets, own)]
    finally:
        os.sched_setaffinity(0, before)


async def _busy(server: Process, seconds: float) -> float:
    """Return the share of a core that the server uses."""
    began, before = time.perf_counter(), cpu_s(server.pid)
    await asyncio.sleep(seconds)
    return (cpu_s(server.pid) - before) / (time.perf_counter() - began)


def _heartbeats(count: int, busy: float, alone: float) -> Figure:
    note = f"of one core; {alone * 100:.2f} % without sockets"
    return Figure(f"processor time of {count:,} idle sockets' heartbeats", f"{(busy - alone) * 100:.2f} %", note=note)


async def _ended(server: Process, sockets: list[Socket], own: User) -> Figure:
    """End all other sessions of the account with one request."""
    cpu_before = cpu_s(server.pid)
    async with http_pool(server.url, 1) as (http,):
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
