"""The devices of sessions: stored with each login and refresh, and erased some time after the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from interlock.machine.errors import Overloaded, SurfaceFailed
from interlock.server.clock import Clock
from interlock.server.surface.devices import Device, DeviceStore, SessionDevice
from interlock.server.surface.log import Along
from interlock.server.system.supervision import progressed

__all__ = ["Device", "SessionDevice", "SessionDevices"]
"""Includes two types of the surface, which the experience uses but may not import from there."""

_MOST: Final = 1_000_000
"""How many are kept, about 200 bytes each."""

_AT_ONCE: Final = 1000
"""How many one write erases, in a few milliseconds."""

_ROUND_S: Final = 15.0
_ROUNDS: Final = 240
"""What is due is erased once an hour, because each look counts all rows."""


class SessionDevices:
    """Stores and erases devices. ``keep_ms``: how long after the session's last login or refresh; 0 stores none."""

    def __init__(self, store: DeviceStore, clock: Clock, keep_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._keep_ms = keep_ms

    def seen(self, session_id: str, account_id: str, device: Device | None) -> Along | None:
        """Return what stores ``device`` in the transaction of the session's step, or None if nothing is to be stored."""
        if device is None or not self._keep_ms:
            return None
        return self._store.put(SessionDevice(session_id, account_id, device, self._clock.now_ms()))

    async def of_sessions(self, session_ids: Collection[str]) -> dict[str, SessionDevice]:
        """Return what is known of these sessions, by session id. It is not older than the declared time."""
        found = await self._store.of_sessions(session_ids)
        since_ms = self._clock.now_ms() - self._keep_ms
        return {session_id: each for session_id, each in found.items() if since_ms < each.seen_at_ms}

    async def run(self) -> None:
        """Erase what is due, until cancelled."""
        while True:
            # Skip an hour while the log is overloaded. After an I/O error nothing is written until the next start.
            with suppress(Overloaded, SurfaceFailed):
                await self.erase_due()
            for _ in range(_ROUNDS):
                progressed()
                await asyncio.sleep(_ROUND_S)

    async def erase_due(self) -> None:
        """Erase everything whose time is over, and the oldest beyond the number that is kept."""
        before_ms = self._clock.now_ms() - self._keep_ms + 1
        while await self._store.erase(before_ms, _MOST if self._keep_ms else 0, _AT_ONCE) == _AT_ONCE:
            progressed()
