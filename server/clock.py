"""What time it is, in integer milliseconds since the Unix epoch."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the server takes the time from; tests bring their own."""

    def now_ms(self) -> int:
        """The time now. It never goes backwards within a process."""
        ...


class SystemClock:
    """The wall clock, held still while it is behind ``floor_ms`` or what it said before.

    ``floor_ms`` is the time of the newest record at start: a clock that was set back must not bring overdue sessions back
    to life.
    """

    def __init__(self, floor_ms: int = 0) -> None:
        self._latest_ms = floor_ms

    def now_ms(self) -> int:
        """See :meth:`Clock.now_ms`."""
        self._latest_ms = max(self._latest_ms, time.time_ns() // 1_000_000)
        return self._latest_ms
