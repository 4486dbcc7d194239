"""The log as it grows, for whoever follows it: each reader has a place of its own, and nothing is ever missed between pages.

A reader asks for what comes after its place. The newest records are kept in memory, once for all readers; what is older is
read from the log. So there is no seam between history and the present, a reader costs the same however slow it is, and it
goes on after a pause, or a new connection, exactly where it was.
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
    """The end of the log. ``after(position, limit)`` reads it from disk; ``newest`` is the last position as it is opened.

    ``followers``: how many follow it now; they count themselves.
    """

    def __init__(self, after: After, newest: int) -> None:
        self.followers = 0
        self._after = after
        self._newest = newest
        self._kept: deque[Record] = deque(maxlen=_KEPT)
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def newest(self) -> int:
        """The position of the newest record that was acknowledged; 0 in an empty log."""
        return self._newest

    def observe(self, record: Record, _instance: object) -> None:
        """``record`` is on disk. Call it in the order of the log, without gaps."""
        self._kept.append(record)
        self._newest = record.position
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def after(self, position: int, limit: int) -> list[Record]:
        """At most ``limit`` records with a position above ``position``, oldest first; empty when there are none yet."""
        if position >= self._newest:
            return []
        if self._kept and self._kept[0].position <= position + 1:
            skip = position + 1 - self._kept[0].position
            return [self._kept[n] for n in range(skip, min(skip + limit, len(self._kept)))]
        return await self._after(position, limit)

    async def wait(self, position: int, at_most_s: float) -> float:
        """Until there may be something after ``position``, :meth:`wake` is called, or ``at_most_s`` have passed.

        How many seconds it took.
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
