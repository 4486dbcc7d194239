"""Pages of the growing log for readers that follow it. Each reader has its own position and misses nothing between pages.

A reader asks for the records after its position. The newest records are kept in memory once for all readers; older ones are
read from the log. So history and live records form one sequence, a slow reader costs no more than a fast one, and after a
pause or a reconnect a reader continues exactly where it was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from interlock.machine.ledger import Record

_KEPT: Final = 2048

After = Callable[[int, int], Awaitable[list[Record]]]


class Tail:
    """The end of the log. ``after(position, limit)`` reads from disk; ``newest`` is the last position at the start."""

    def __init__(self, after: After, newest: int) -> None:
        self._after = after
        self._newest = newest
        self._kept: deque[Record] = deque(maxlen=_KEPT)
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def newest(self) -> int:
        """The position of the newest acknowledged record; 0 in an empty log."""
        return self._newest

    def observe(self, record: Record, _instance: object) -> None:
        """Add ``record``, which is on disk. Call it in the order of the log, without gaps."""
        self._kept.append(record)
        self._newest = record.position
        self.wake()

    def wake(self) -> None:
        """Wake all waiting readers."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def after(self, position: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records with a position above ``position``, oldest first; empty if there are none yet."""
        if position >= self._newest:
            return []
        if self._kept and self._kept[0].position <= position + 1:
            skip = position + 1 - self._kept[0].position
            return [self._kept[n] for n in range(skip, min(skip + limit, len(self._kept)))]
        return await self._after(position, limit)

    async def wait(self, position: int, at_most_s: float) -> float:
        """Wait until there may be a record after ``position``, :meth:`wake` is called, or ``at_most_s`` have passed.

        Return how many seconds it took.
        """
        if position < self._newest:
            return 0.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(at_most_s):
                    await future
        finally:
            self._waiting.discard(future)
        return loop.time() - began
