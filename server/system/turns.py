"""One at a time for each key, in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """A lock for each key that is held or waited for. An ``asyncio.Lock`` each would cost as much as a decision."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, key: str) -> None:
        """Wait for the turn of ``key``. The caller ends it with :meth:`give`."""
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
                # The turn was given in the same moment.
                self.give(key)
            raise

    def give(self, key: str) -> None:
        """End the turn of ``key``: it is the next one's, if one waits."""
        waiting = self._waiting[key]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._waiting[key]
