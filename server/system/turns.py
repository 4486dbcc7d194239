"""A fair lock per key."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Holds one lock per key in use. An ``asyncio.Lock`` each would cost as much as a decision."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, key: str) -> None:
        """Wait for the turn of ``key``. The caller must call :meth:`give`."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                # The turn was given at the same moment.
                self.give(key)
            raise

    def give(self, key: str) -> None:
        """End the turn of ``key``, and pass it to the next waiter, if any."""
        waiting = self._waiting[key]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._waiting[key]
