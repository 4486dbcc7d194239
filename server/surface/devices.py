"""What a session's owner recognises it by: its device and address. It is personal data, so no record holds it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from interlock.server.surface.log import Along


class Device(msgspec.Struct, frozen=True):
    """A client: a short ``name`` such as "Firefox on Linux", and its ``address``."""

    name: str
    address: str


class SessionDevice(msgspec.Struct, frozen=True):
    """The device that last logged in to a session of ``account_id``, or refreshed it, and when."""

    session_id: str
    account_id: str
    device: Device
    seen_at_ms: int


class DeviceStore(Protocol):
    """The store of sessions' devices: one row for each session. Every implementation passes the same contract suite."""

    def put(self, seen: SessionDevice) -> Along:
        """Store ``seen`` in the transaction of a step, instead of what is stored of the session."""
        ...

    async def of_sessions(self, session_ids: Collection[str]) -> dict[str, SessionDevice]:
        """Return what is stored of these sessions, by session id."""
        ...

    async def erase(self, seen_before_ms: int, keep: int, limit: int) -> int:
        """Erase at most ``limit`` rows, the oldest first, and return their number.

        Erased are those seen before ``seen_before_ms``, and all but the newest ``keep``.
        """
        ...
