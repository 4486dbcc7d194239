"""Distributes work over turns of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from interlock.server.system.workers import settle

EACH_TURN: Final = 4
"""Calls per turn. At a request or a handshake step each, this takes about a millisecond."""


class LoopTurns:
    """Calls what is added, in order, a few per turn, so that newly arrived events wait only for those few."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` in a later turn."""
        self._waiting.append(go_on)
        self._schedule()

    async def wait(self) -> None:
        """Return in a later turn."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add(lambda: settle([mine], [None]))
        await mine

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._take)

    def _take(self) -> None:
        self._scheduled = False
        for _ in range(min(EACH_TURN, len(self._waiting))):
            # Schedule the rest first, in case this call fails.
            if len(self._waiting) > 1:
                self._schedule()
            self._waiting.popleft()()
