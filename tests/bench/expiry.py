"""How long after its deadline the end of a session is on disk, among 100,000 sessions."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from interlock.machine.ledger import Record
from interlock.machine.session.commands import Create
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.ids import new_session_id
from interlock.server.runtime.expiry import Expiry
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.log import Step
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.bench.figure import Bench, Figure, at_most, now_ms, percentile
from tests.bench.population import POLICY, RawWriter, step_of

BAR_MS: Final = 100
_LEAD_MS: Final = 2000
_A_SECOND: Final = 1000
_IDLE_MS: Final = 3_600_000


class _ShiftedClock:
    """The wall clock, shifted so that the file's first deadline comes just after it was opened."""

    def __init__(self) -> None:
        self.shift_ms = 0

    def now_ms(self) -> int:
        """See :class:`interlock.server.clock.Clock`."""
        return time.time_ns() // 1_000_000 + self.shift_ms

    def reach(self, at_ms: int) -> None:
        """See :class:`interlock.server.clock.Clock`."""
        self.shift_ms += max(0, at_ms - self.now_ms())


async def measure(bench: Bench) -> list[Figure]:
    """Measure a thousand deadlines per second, evenly; then many in the same millisecond."""
    total = bench.pick(100_000, 5000)
    seconds = bench.pick(15, 2)
    at_once = bench.pick(5000, 500)
    evenly = await _lateness(bench, "evenly", total, [n // (_A_SECOND // 1000) for n in range(_A_SECOND * seconds)])
    burst = await _lateness(bench, "burst", total, [0] * at_once)
    return [
        _figure(f"expiry lateness, {total:,} sessions, {_A_SECOND:,} deadlines a second", evenly, BAR_MS),
        _figure(f"expiry lateness, {total:,} sessions, {at_once:,} deadlines in one millisecond", burst, None),
    ]


def _figure(title: str, late: list[float], bar: float | None) -> Figure:
    note = (
        f"{len(late):,} ends; p50 {percentile(late, 0.5):.0f}, p99 {percentile(late, 0.99):.0f}, max {max(late):.0f} ms"
    )
    if bar is None:
        return Figure(title, f"{max(late):.0f} ms", note=note)
    return at_most(f"{title}, max", max(late), bar, "ms", note)


async def _lateness(bench: Bench, name: str, total: int, offsets_ms: list[int]) -> list[float]:
    """Return ms from deadline to durable end, for each session with one of ``offsets_ms`` after the first deadline."""
    folder = bench.path(f"expiry-{name}")
    bench.say(f"writing {total:,} sessions")
    created_ms = now_ms() - _IDLE_MS
    _write(folder, total, offsets_ms, created_ms)
    late: list[float] = []
    clock = _ShiftedClock()
    done = asyncio.Event()

    def observe(record: Record, session: Session | None) -> None:
        if session is not None and record.transition.event == "expire":
            late.append(clock.now_ms() - session.deadline_ms)
            if len(late) == len(offsets_ms):
                done.set()

    async with open_surface(folder, max_waiting=20_000, on_failure=bench.say, supervisor=Supervisor()) as surface:
        feed = Feed(surface.log)
        sessions = Sessions(feed, clock, policy=POLICY, cache_limit=200_000)
        expiry = Expiry(sessions, clock)
        expiry.restore(await surface.log.live_deadlines("session"))
        feed.subscribe(expiry.observe)
        feed.subscribe(observe)
        await feed.start(surface.last().position)
        clock.shift_ms = created_ms + _IDLE_MS - _LEAD_MS - now_ms()
        bench.say(f"waiting for {len(offsets_ms):,} deadlines")
        running = asyncio.create_task(expiry.run())
        await asyncio.wait_for(done.wait(), 120)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return late


def _write(folder: Path, total: int, offsets_ms: list[int], created_ms: int) -> None:
    """Write the sessions. Keep nothing in memory, which the garbage collector would scan during the measurement."""
    raw = RawWriter(folder)
    for first in range(0, total, 10_000):
        steps: list[Step] = []
        for number in range(first, min(first + 10_000, total)):
            idle_ms = _IDLE_MS + (offsets_ms[number] if number < len(offsets_ms) else 2 * _IDLE_MS)
            policy = msgspec.structs.replace(POLICY, idle_timeout_ms=idle_ms)
            steps.append(step_of(SESSION_MACHINE.absent(new_session_id(created_ms)), Create(policy), created_ms))
        raw.commit(steps)
    raw.close()
