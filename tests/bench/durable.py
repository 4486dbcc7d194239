"""Durable transitions through the one door, against the same rows through the writer's bare statements."""

from __future__ import annotations

import asyncio
import time

from interlock.machine.session.commands import Authenticate, Create
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.clock import SystemClock
from interlock.server.runtime.door import commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.bench.figure import Bench, Figure, in_turns, now_ms
from tests.bench.population import POLICY, RawWriter, next_data, step_of

CALLERS = 256


async def measure(bench: Bench) -> list[Figure]:
    """Measure transitions per second on two files of the same disk."""
    seconds = 1.0 if not bench.quick else 0.3
    raw = _Raw(RawWriter(bench.path("raw")))
    async with open_surface(
        bench.path("door"), max_waiting=20_000, on_failure=bench.say, supervisor=Supervisor()
    ) as surface:
        feed = Feed(surface.log)
        door = Sessions(feed, SystemClock(), policy=POLICY, cache_limit=200_000)
        await feed.start(0)
        held = [(await door.begin("acc_1", Authenticate("acc_1", "password"))).instance for _ in range(CALLERS)]

        async def through_the_door(callers: int) -> float:
            began = time.perf_counter()
            counts = await asyncio.gather(*(_call(door, held, n, began + seconds) for n in range(callers)))
            return sum(counts) / (time.perf_counter() - began)

        many = await in_turns(
            bench,
            f"{CALLERS} callers",
            bench.pick(9, 3),
            lambda: through_the_door(CALLERS),
            lambda: raw.rate(bench.pick(20_000, 5_000), 100),
        )
        one = await in_turns(
            bench, "1 caller", bench.pick(9, 3), lambda: through_the_door(1), lambda: raw.rate(bench.pick(2000, 500), 1)
        )
    raw.close()
    return [
        many.at_least(f"durable transitions, {CALLERS} callers vs. bare statements at 100 a commit", 0.4, "/s"),
        one.at_least("durable transitions, 1 caller vs. one bare row a commit", 0.5, "/s"),
    ]


async def _call(door: Sessions, held: list[Session], number: int, until: float) -> int:
    """Run one caller on its own session: the next transition as soon as the last is acknowledged."""
    session = held[number]
    count = 0
    while time.perf_counter() < until:
        session = (await door.submit(session.session_id, *commands(session.subject or "", next_data(session)))).instance
        count += 1
    held[number] = session
    return count


class _Raw:
    """The baseline: the same rows of as many sessions, decided in advance."""

    def __init__(self, writer: RawWriter) -> None:
        self._writer = writer
        self._sessions = []
        for number in range(CALLERS):
            created = step_of(SESSION_MACHINE.absent(f"{number:036d}"), Create(POLICY), now_ms())
            authenticated = step_of(created.instance, Authenticate("acc_1", "password"), now_ms())
            writer.commit([created, authenticated])
            self._sessions.append(authenticated.instance)

    async def rate(self, rows: int, a_commit: int) -> float:
        """Return rows per second."""
        steps = []
        for number in range(rows):
            step = step_of(self._sessions[number % CALLERS], next_data(self._sessions[number % CALLERS]), now_ms())
            self._sessions[number % CALLERS] = step.instance
            steps.append(step)
        began = time.perf_counter()
        for first in range(0, rows, a_commit):
            self._writer.commit(steps[first : first + a_commit])
        return rows / (time.perf_counter() - began)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
