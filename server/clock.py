"""What time it is, in integer milliseconds since the Unix epoch."""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

_NS_PER_MS: Final = 1_000_000


class Clock(Protocol):
    """Where the server takes the time from; tests bring their own."""

    def now_ms(self) -> int:
        """The time now. It never goes backwards within a process."""
        ...

    def reach(self, at_ms: int) -> None:
        """Return no time before ``at_ms`` from now on: it is about to be recorded as the present."""
        ...


class SystemClock:
    """The wall clock, which never goes backwards and never stands still. Any thread may ask it.

    ``floor_ms`` is the time of the newest record at start: a clock that was set back must not bring overdue sessions back
    to life. While the wall clock is behind it, or behind what was said before, time goes on from there at its usual pace.
    """

    def __init__(self, floor_ms: int = 0) -> None:
        self._ahead_of_monotonic_ns = floor_ms * _NS_PER_MS - time.monotonic_ns()
        self._raising = threading.Lock()

    def now_ms(self) -> int:
        """See :meth:`Clock.now_ms`."""
        wall_ns = time.time_ns()
        # Read after the wall clock. A pause in between then makes the difference too small, and the next reading corrects that;
        # the other way round it would be too large, and would stay so.
        monotonic_ns = time.monotonic_ns()
        if wall_ns - monotonic_ns > self._ahead_of_monotonic_ns:
            self._raise(wall_ns - monotonic_ns)
        return (monotonic_ns + self._ahead_of_monotonic_ns) // _NS_PER_MS

    def reach(self, at_ms: int) -> None:
        """See :meth:`Clock.reach`."""
        self._raise(at_ms * _NS_PER_MS - time.monotonic_ns())

    def ahead_ms(self) -> int:
        """How far this clock is ahead of the wall clock, which was set back, or was behind the newest record at start."""
        # In this order a pause in between makes it less: nobody is told of a clock that is right.
        monotonic_ns = time.monotonic_ns()
        return max(0, monotonic_ns + self._ahead_of_monotonic_ns - time.time_ns()) // _NS_PER_MS

    def _raise(self, ahead_of_monotonic_ns: int) -> None:
        with self._raising:
            # Another thread may have seen more.
            self._ahead_of_monotonic_ns = max(self._ahead_of_monotonic_ns, ahead_of_monotonic_ns)
