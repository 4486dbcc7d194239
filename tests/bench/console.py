"""Cost of the console to others: how long they wait while operators look, and without a console."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from contextlib import AsyncExitStack
from typing import Final

import httpx

from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets
from tests.bench.figure import Bench, Figure, Pairs, at_most, cores, in_turns, number, percentile
from tests.bench.processes import Process, cpu_s, interlock
from tests.bench.wire import Http, http_pool, spread
from tests.support.client import PASSWORD
from tests.support.operators import COOKIE, MODULE, OWN_PAGE

BAR: Final = 1.2
_GROUP: Final = "bench"
_CONNECTIONS: Final = 16
_A_SECOND: Final = 300
_STREAMS: Final = 4
_MOST: Final = 16
"""As many live pages as a server has at once."""
_SHARE_BAR: Final = 2.0
_PAUSE_S: Final = 1.0


async def measure(bench: Bench) -> list[Figure]:
    """Measure in turns on two processes: one with four live pages, lists and looks at the past each second; one without."""
    requests, rounds = bench.pick(1500, 120), bench.pick(9, 3)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    data = bench.path("console")
    load_keys(data / "keys")
    secret = Secrets(data / "keys", "admin").create("bench", 1)
    try:
        async with AsyncExitStack() as stack:
            ours = stack.enter_context(interlock(bench, data, "--console-look", _GROUP))
            plain = stack.enter_context(interlock(bench, bench.path("no-console")))
            cookie = await _sign_in(ours.url, secret)
            pools = [await stack.enter_async_context(http_pool(each.url, _CONNECTIONS)) for each in (ours, plain)]

            async def with_console() -> float:
                looking = [asyncio.create_task(_follow(ours.url, cookie)) for _ in range(_STREAMS)]
                looking.append(asyncio.create_task(_look(ours.url, cookie)))
                try:
                    return await _p99_ms(pools[0], requests)
                finally:
                    for task in looking:
                        task.cancel()
                    await asyncio.gather(*looking, return_exceptions=True)

            pages = await _cost_of_pages(bench, ours, cookie)
            pairs = await in_turns(
                bench, "POST /api/session, console open", rounds, with_console, lambda: _p99_ms(pools[1], requests)
            )
    finally:
        os.sched_setaffinity(0, before)
    return [_figure(pairs), pages]


def _figure(pairs: Pairs) -> Figure:
    return Figure(
        title="p99 of `POST /api/session` while operators look at the console vs. without a console",
        ours=f"{number(statistics.median(pairs.ours))} ms",
        ceiling=f"{number(statistics.median(pairs.ceiling))} ms",
        ratio=pairs.spread(),
        bar=f"≤ {BAR:g}",
        reached=pairs.ratio <= BAR,
        note=f"{_A_SECOND} requests a second; {_STREAMS} live pages, two lists and two looks at the past a second",
    )


async def _cost_of_pages(bench: Bench, server: Process, cookie: str) -> Figure:
    """Return the processor time that as many live pages as possible cost a server that does nothing else."""

    async def share() -> float:
        began, before = time.perf_counter(), cpu_s(server.pid)
        await asyncio.sleep(bench.pick(20, 3))
        return (cpu_s(server.pid) - before) / (time.perf_counter() - began) * 100

    bench.say("doing nothing")
    idle = await share()
    bench.say(f"{_MOST} live pages")
    following = [asyncio.create_task(_follow(server.url, cookie)) for _ in range(_MOST)]
    await asyncio.sleep(1)
    looked_at = await share()
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    title = f"processor time of {_MOST} live pages of the console, more than without any"
    return at_most(title, looked_at - idle, _SHARE_BAR, "% of a core", f"without any {number(idle)} % of a core")


async def _p99_ms(pool: list[Http], count: int) -> float:
    began = time.perf_counter()

    async def begin(http: Http, n: int) -> float:
        await asyncio.sleep(max(0.0, began + n / _A_SECOND - time.perf_counter()))
        answer = await http.ok("POST", "/api/session")
        return (answer.answered_at - answer.sent_at) * 1e3

    return percentile(await spread(pool, count, begin), 0.99)


async def _sign_in(url: str, secret: str) -> str:
    """Register an operator, and return the Cookie header of its console."""
    who = {"email": "ada@example.org", "password": PASSWORD}
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        (await http.post("/api/auth/register", json=who)).raise_for_status()
        admin = {"Authorization": f"Bearer {secret}"}
        (account,) = (await http.get("/api/admin/accounts", headers=admin)).raise_for_status().json()
        path = f"/api/admin/accounts/{account['subject']}/groups"
        (await http.put(path, json={"groups": [_GROUP]}, headers=admin)).raise_for_status()
        answer = await http.post("/console/login", data=who, headers=OWN_PAGE)
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith(f"{COOKIE}=")]
    return cookie.partition(";")[0]


async def _follow(url: str, cookie: str) -> None:
    """Hold a stream of live numbers, and read it."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as http,
        http.stream("GET", "/console/live", headers=MODULE | {"cookie": cookie}) as answer,
    ):
        answer.raise_for_status()
        async for _ in answer.aiter_bytes():
            pass


async def _look(url: str, cookie: str) -> None:
    """Ask for a list, the log and the machine in the middle of the log, until cancelled."""
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=OWN_PAGE | {"cookie": cookie}) as http:
        while True:
            for path in ("/console/sessions", "/console/log?event=authenticate"):
                (await http.get(path)).raise_for_status()
            newest = (await http.get("/console/numbers", headers=MODULE)).raise_for_status().json()["position"]
            (await http.get("/console/numbers", headers=MODULE, params={"at": newest // 2})).raise_for_status()
            await asyncio.sleep(_PAUSE_S)
