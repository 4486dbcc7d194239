"""Sessions over a log in memory, for tests of the one door."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from interlock.machine.ledger import Record
from interlock.machine.machine import Authority
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.log import Step
from interlock.server.surface.memory import MemoryLog
from tests.support.clock import HandClock
from tests.support.steps import POLICY


async def start(feed: Feed) -> None:
    """Follow the log from its current end."""
    newest = await feed.log.newest()
    await feed.start(newest.position if newest is not None else 0)


class HeldLog(MemoryLog):
    """A log that delays its answers until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.held: asyncio.Event | None = None

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        appended = super().append(steps, under)
        if self.held is None:
            return appended
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Record]] = loop.create_future()
        held = self.held

        async def let_go() -> None:
            await held.wait()
            answer.set_result(await appended)

        self.task = loop.create_task(let_go())
        return answer


class Door:
    """Sessions over a log in memory, and what a listener received. It follows the log from the event loop's next turn on."""

    def __init__(self, log: MemoryLog | None = None, cache_limit: int = 100) -> None:
        self.log = log or MemoryLog()
        self.feed = Feed(self.log)
        self.clock = HandClock()
        self.sessions = Sessions(self.feed, self.clock, policy=POLICY, cache_limit=cache_limit)
        self.heard: list[tuple[str, int]] = []
        self.feed.subscribe(lambda record, _after: self.heard.append((record.transition.event, record.position)))
        self.starting = asyncio.ensure_future(self.feed.start(len(self.log.store.entries)))
