"""A clock that stands still until a test moves it."""

from __future__ import annotations

from tests.support.steps import NOW_MS


class HandClock:
    """A manual :class:`interlock.server.clock.Clock`."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.time_ms = now_ms

    def advance(self, by_ms: int) -> None:
        self.time_ms += by_ms

    def now_ms(self) -> int:
        return self.time_ms

    def reach(self, at_ms: int) -> None:
        self.time_ms = max(self.time_ms, at_ms)
