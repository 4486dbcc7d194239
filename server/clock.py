"""Time in integer milliseconds since the Unix epoch."""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

_NS_PER_MS: Final = 1_000_000


class Clock(Protocol):
    """The server's source of time. Tests use their own."""

    def now_ms(self) -> int:
        """Return the current time. It never decreases within a process."""
        ...

    def reach(self, at_ms: int) -> None:
        """Never return a time before ``at_ms`` from now on, because ``at_ms`` is about to be recorded as the present."""
        ...


class SystemClock:
    """The wall clock, made monotonic: it never decreases and never stands still. It is safe to use from any thread.

    ``floor_ms`` is the time of the newest record at the start, because a clock that was set back must not revive overdue
    sessions. While the wall clock is behind it, or behind an earlier result, time continues from there at its usual pace.
    """

    def __init__(self, floor_ms: int = 0) -> None:
        self._ahead_of_monotonic_ns = floor_ms * _NS_PER_MS - time.monotonic_ns()
        self._raising = threading.Lock()

    def now_ms(self) -> int:
        """See :meth:`Clock.now_ms`."""
        wall_ns = time.time_ns()
        # Read after the wall clock. A pause in between then makes the difference too small, which the next reading corrects.
        # In the other order it would be too large, permanently.
        monotonic_ns = time.monotonic_ns()
        if wall_ns - monotonic_ns > self._ahead_of_monotonic_ns:
            self._raise(wall_ns - monotonic_ns)
        return (monotonic_ns + self._ahead_of_monotonic_ns) // _NS_PER_MS

    def reach(self, at_ms: int) -> None:
        """See :meth:`Clock.reach`."""
        self._raise(at_ms * _NS_PER_MS - time.monotonic_ns())

    def ahead_ms(self) -> int:
        """Return how far this clock is ahead of a wall clock that was set back, or was behind the newest record at start."""
        # In this order a pause in between makes the result smaller, so a correct clock is never reported.
        monotonic_ns = time.monotonic_ns()
        return max(0, monotonic_ns + self._ahead_of_monotonic_ns - time.time_ns()) // _NS_PER_MS

    def _raise(self, ahead_of_monotonic_ns: int) -> None:
        with self._raising:
            # Another thread may have set a larger value.
            self._ahead_of_monotonic_ns = max(self._ahead_of_monotonic_ns, ahead_of_monotonic_ns)
