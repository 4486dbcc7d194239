"""Cost of a transition in a file of 1,000 sessions and in one of 1,000,000."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from interlock.machine.session.commands import Touch
from interlock.server.clock import SystemClock
from interlock.server.runtime.door import commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.bench.figure import Bench, Figure, Pairs, in_turns, number
from tests.bench.population import POLICY, Population, write

FEW = 1000
TOLERANCE = 0.2


class _File:
    """An opened log and its sessions."""

    def __init__(self, sessions: Sessions, ids: list[str]) -> None:
        self._sessions = sessions
        self._recent = ids[-FEW:]
        self._all = ids
        self._random = random.Random(1)  # noqa: S311  # the choice of sessions is no secret

    async def rate(self, callers: int, seconds: float, *, anywhere: bool) -> float:
        """Return transitions per second, on the newest thousand sessions or anywhere in the file."""
        ids = self._all if anywhere else self._recent
        began = time.perf_counter()
        counts = await asyncio.gather(*(self._call(ids, began + seconds) for _ in range(callers)))
        return sum(counts) / (time.perf_counter() - began)

    async def _call(self, ids: list[str], until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            await self._sessions.submit(self._random.choice(ids), *commands("acc_1", Touch()))
            count += 1
        return count


async def measure(bench: Bench) -> list[Figure]:
    """Measure with both files open, in turns; every caller touches a session drawn at random."""
    many = bench.pick(1_000_000, 50_000)
    seconds = 1.0 if not bench.quick else 0.3
    figures = []
    async with _opened(bench, "few", FEW) as few, _opened(bench, "many", many) as large:
        for anywhere, callers in ((False, 256), (False, 1), (True, 256), (True, 1)):
            pairs = await in_turns(
                bench,
                f"{callers} callers, {'any' if anywhere else 'newest'} sessions",
                bench.pick(9, 3),
                lambda callers=callers, anywhere=anywhere: large.rate(callers, seconds, anywhere=anywhere),  # type: ignore[misc]  # mypy can't type a lambda's defaults
                lambda callers=callers, anywhere=anywhere: few.rate(callers, seconds, anywhere=anywhere),  # type: ignore[misc]  # see above
            )
            figures.append(_figure(pairs, callers, many, anywhere=anywhere))
    return figures


@asynccontextmanager
async def _opened(bench: Bench, name: str, count: int) -> AsyncIterator[_File]:
    folder: Path = bench.path(f"growth-{name}")
    ids = write(bench, folder, Population(count, transitions=1))
    async with open_surface(folder, max_waiting=20_000, on_failure=bench.say, supervisor=Supervisor()) as surface:
        clock = SystemClock(floor_ms=await surface.log.latest_at_ms())
        feed = Feed(surface.log)
        sessions = Sessions(feed, clock, policy=POLICY, cache_limit=200_000)
        await feed.start(surface.last().position)
        yield _File(sessions, ids)


def _figure(pairs: Pairs, callers: int, many: int, *, anywhere: bool) -> Figure:
    # Rates are compared; the cost of a transition is their inverse.
    cost = 1 / pairs.ratio
    title = f"cost of a transition at {many:,} sessions vs. {FEW:,}, {callers} caller{'s' * (callers > 1)}"
    return Figure(
        title=f"{title}, {'any session of the file' if anywhere else 'the newest 1,000 active'}",
        ours=f"{number(1e6 / statistics.median(pairs.ours))} µs",
        ceiling=f"{number(1e6 / statistics.median(pairs.ceiling))} µs",
        ratio=f"{cost:.2f} ({1 / pairs.ratios[-1]:.2f}-{1 / pairs.ratios[0]:.2f})",
        bar=f"≤ {1 + TOLERANCE}",
        reached=cost <= 1 + TOLERANCE,
    )
