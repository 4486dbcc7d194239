"""Effect of a flood of logins on other clients: p99 of ``GET /api/session`` with and without it, in turns."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator

from tests.bench.figure import Bench, Figure, Pairs, in_turns, percentile
from tests.bench.processes import running
from tests.bench.wire import Answer, Http, User, http_pool, spread

_BAR = 2.0
_READERS = 8
_EVERY_S = 0.02
_FLOODERS = 64
_MANY = 200
"""More than may wait for a password hash, so that the rest is refused."""


async def measure(bench: Bench) -> list[Figure]:
    """Measure with real password hashes and default limits. A trusted proxy names each request's client."""
    figures = []
    for title, flooders, addresses in (
        (f"from one address, {_FLOODERS} connections", _FLOODERS, 1),
        (f"from 60,000 addresses, {_FLOODERS} connections", _FLOODERS, 60_000),
        (f"from 60,000 addresses, {_MANY} connections", _MANY, 60_000),
    ):
        arguments = ["--port", "0", "--data", str(bench.path(f"flood-{flooders}-{addresses}"))]
        arguments += ["--trusted-proxies", "127.0.0.1"]
        with running(bench, "interlock.server.cli", "serve", *arguments, pinned=False, cheap_passwords=False) as server:
            figures.append(await _one(bench, server.url, title, flooders, addresses))
    return figures


async def _one(bench: Bench, url: str, title: str, flooders: int, addresses: int) -> Figure:
    statuses: Counter[int] = Counter()
    async with http_pool(url, _READERS) as readers, http_pool(url, flooders) as pool:
        users = await spread(readers, _READERS, _user)
        numbers = iter(range(100_000_000))

        async def quiet() -> float:
            return await _p99_ms(bench, readers, users)

        async def flooded() -> float:
            over = asyncio.Event()
            flood = [asyncio.create_task(_flood(http, numbers, addresses, over, statuses)) for http in pool]
            # Until the queue for hashes is full.
            await asyncio.sleep(1)
            p99_ms = await _p99_ms(bench, readers, users)
            over.set()
            await asyncio.gather(*flood)
            return p99_ms

        pairs = await in_turns(bench, f"flood {title}", bench.pick(7, 1), flooded, quiet)
    return _figure(f"p99 of `GET /api/session` in a login flood {title}, vs. without", pairs, statuses)


def _figure(title: str, pairs: Pairs, statuses: Counter[int]) -> Figure:
    answers = ", ".join(f"{count:,} times {status}" for status, count in sorted(statuses.items()))
    return Figure(
        title=title,
        ours=f"{statistics.median(pairs.ours):.2f} ms",
        ceiling=f"{statistics.median(pairs.ceiling):.2f} ms",
        ratio=pairs.spread(),
        bar=f"≤ {_BAR:g}",
        reached=pairs.ratio <= _BAR,
        note=f"the flood was answered {answers}",
    )


async def _user(http: Http, number: int) -> User:
    return await http.log_in(await http.register(f"user{number}@example.org"))


async def _p99_ms(bench: Bench, readers: list[Http], users: list[User]) -> float:
    """Return p99. Each reader sends every 20 ms, however fast the server is: users notice the wait."""
    took: list[float] = []

    async def read(http: Http, user: User, count: int) -> None:
        begin = time.perf_counter()
        for turn in range(count):
            await asyncio.sleep(max(0.0, begin + turn * _EVERY_S - time.perf_counter()))
            answer: Answer = await http.ok("GET", "/api/session", token=user.access_token)
            took.append((answer.answered_at - answer.sent_at) * 1e3)

    count = bench.pick(150, 50)
    await asyncio.gather(*(read(http, user, count) for http, user in zip(readers, users, strict=True)))
    return percentile(took, 0.99)


async def _flood(
    http: Http, numbers: Iterator[int], addresses: int, over: asyncio.Event, statuses: Counter[int]
) -> None:
    """Send wrong passwords for made-up accounts, the next one after each answer."""
    while not over.is_set():
        number = next(numbers)
        address = f"10.1.{number % addresses // 250}.{number % addresses % 250}"
        body = {"email": f"user{number}@leaked.example", "password": "a leaked password or other"}
        answer = await http.request("POST", "/api/auth/login", body=body, address=address)
        statuses[answer.status] += 1
