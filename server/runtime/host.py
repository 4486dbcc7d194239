"""Watches what the machine gives the server: the time."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from machine.wire import rfc3339
from server.clock import SystemClock

_log = structlog.get_logger("interlock.host")

_LOOK_S: Final = 1.0

CLOCK_TOLERANCE_MS: Final = 5_000
"""A wall clock that is behind by less is not worth a word."""


class Host:
    """Looks at the machine once a second, and says in the log and in ``warnings`` what is wrong with it.

    ``clock`` is the server's. Whether it is behind at the start is said by the caller.
    """

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self._clock_behind = clock.ahead_ms() > CLOCK_TOLERANCE_MS

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the machine now, in words; the server goes on."""
        return ["the machine's clock was set back; the server's time goes on from before"] if self._clock_behind else []

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Look once."""
        ahead_ms = self._clock.ahead_ms()
        if (ahead_ms > CLOCK_TOLERANCE_MS) == self._clock_behind:
            return
        self._clock_behind = not self._clock_behind
        if self._clock_behind:
            _log.warning("clock.set_back", ahead_ms=ahead_ms, now=rfc3339(self._clock.now_ms() - ahead_ms))
        else:
            _log.info("clock.caught_up")
