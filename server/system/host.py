"""Monitors the machine: its clock, disk space, and whether the signed head can be written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from interlock.machine.times import rfc3339
from interlock.server.clock import SystemClock
from interlock.server.system.supervision import progressed

_log = structlog.get_logger("interlock.host")

_LOOK_S: Final = 1.0
_BEGIN_S: Final = 5.0

CLOCK_TOLERANCE_MS: Final = 5_000
"""Wall clock deviations below this are not reported."""


class HostMonitor:
    """Checks the machine once a second, and reports problems in the log and in ``warnings``.

    ``clock`` is the server's. The caller reports a machine clock that is behind it at the start. ``refuse_growth`` is
    called with True when the disk of folder ``data`` has less than ``reserve`` bytes free, and with False when it has an
    eighth more; 0 disables it. ``head_failing`` returns whether the signed head can't be written.
    """

    def __init__(
        self,
        clock: SystemClock,
        data: Path,
        reserve: int,
        refuse_growth: Callable[[bool], None],
        head_failing: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._data = data
        self._reserve = reserve
        self._refuse_growth = refuse_growth
        self.head_failing = head_failing
        self.disk_low = False
        self._clock_behind = clock.ahead_ms() > CLOCK_TOLERANCE_MS

    @property
    def warnings(self) -> list[str]:
        """The machine's current problems, in words; the server continues."""
        found = {
            "the machine's clock was set back; the server's time goes on from before": self._clock_behind,
            "the disk is nearly full; sessions can only be ended": self.disk_low,
            "the signed head can't be written; the server's log says why": self.head_failing(),
        }
        return [warning for warning, holds in found.items() if holds]

    async def run(self) -> None:
        """Check periodically until cancelled."""
        while True:
            progressed()
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def begin(self) -> None:
        """Check once, with a time limit: a hanging disk must not prevent the start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_BEGIN_S):
                await self.look()

    async def look(self) -> None:
        """Check once."""
        self._look_at_clock()
        try:
            # In a thread: a disk may hang.
            space = await asyncio.to_thread(os.statvfs, self._data)
        except (OSError, RuntimeError):
            # A write will reveal the problem. A RuntimeError means that no thread can start.
            return
        self._look_at_disk(space.f_bavail * space.f_frsize)

    def _look_at_disk(self, free: int) -> None:
        low = free < self._reserve + (self._reserve // 8 if self.disk_low else 0)
        if low == self.disk_low:
            return
        self.disk_low = low
        self._refuse_growth(low)
        if low:
            _log.error("disk.low", path=str(self._data), free_mib=free >> 20)
        else:
            _log.info("disk.enough", path=str(self._data), free_mib=free >> 20)

    def _look_at_clock(self) -> None:
        ahead_ms = self._clock.ahead_ms()
        if (ahead_ms > CLOCK_TOLERANCE_MS) == self._clock_behind:
            return
        self._clock_behind = not self._clock_behind
        if self._clock_behind:
            _log.warning("clock.set_back", ahead_ms=ahead_ms, now=rfc3339(self._clock.now_ms() - ahead_ms))
        else:
            _log.info("clock.caught_up")
