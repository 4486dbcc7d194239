"""Share the turns of the event loop among connections that wait for theirs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

_EACH_TURN: Final = 8
"""So many connections go on in one turn: with a request each, one or two milliseconds."""


class Turns:
    """Calls what is added, in the order in which it was added, a few a turn: whoever is new waits for those few only."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` in a later turn."""
        self._waiting.append(go_on)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take)

    def _take(self) -> None:
        self._scheduled = False
        for _ in range(min(_EACH_TURN, len(self._waiting))):
            # What is left is not forgotten if one of them fails.
            if not self._scheduled and len(self._waiting) > 1:
                self._scheduled = True
                self._loop.call_soon(self._take)
            self._waiting.popleft()()
