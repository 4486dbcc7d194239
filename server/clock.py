"""What time it is, in integer milliseconds since the Unix epoch."""

from __future__ import annotations

import time
from typing import Final, Protocol

_NS_PER_MS: Final = 1_000_000


class Clock(Protocol):
    """Where the server takes the time from; tests bring their own."""

    def now_ms(self) -> int:
        """The time now. It never goes backwards within a process."""
        ...


class SystemClock:
    """The wall clock, which never goes backwards and never stands still.

    ``floor_ms`` is the time of the newest record at start: a clock that was set back must not bring overdue sessions back
    to life. While the wall clock is behind it, or behind what was said before, time goes on from there at its usual pace.
    """

    def __init__(self, floor_ms: int = 0) -> None:
        self._latest_ns = floor_ms * _NS_PER_MS
        self._monotonic_ns = time.monotonic_ns()

    def now_ms(self) -> int:
        """See :meth:`Clock.now_ms`."""
        monotonic_ns = time.monotonic_ns()
        at_least_ns = self._latest_ns + monotonic_ns - self._monotonic_ns
        wall_ns = time.time_ns()
        # Every request asks several times: a comparison takes a third of what max() does.
        self._latest_ns = latest_ns = wall_ns if wall_ns > at_least_ns else at_least_ns  # noqa: FURB136  # see above
        self._monotonic_ns = monotonic_ns
        return latest_ns // _NS_PER_MS
