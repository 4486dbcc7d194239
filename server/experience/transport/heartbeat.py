"""Pings every open WebSocket, and ends those whose peer does not answer. One timer serves all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

_log = structlog.get_logger("interlock.http")

_TICKS: Final = 8
"""Timer ticks per interval: a ping is late by at most an eighth."""


class Pinged(Protocol):
    """A connection with a heartbeat."""

    def ping(self) -> None:
        """Send a ping. Call ``heard`` when its pong arrives."""
        ...

    def lost(self) -> None:
        """End the connection: the pong did not arrive in time."""
        ...

    def abort(self) -> None:
        """Drop the connection, because another call failed."""
        ...


class Heartbeat:
    """Pings each member every ``interval_s``, and calls its ``lost`` when no pong arrived within ``timeout_s``.

    ``on_pong`` is called with the seconds from each ping to its pong.
    """

    def __init__(self, interval_s: float, timeout_s: float, on_pong: Callable[[float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._on_pong = on_pong
        # Both are ordered by time, since all members wait equally long.
        self._ping_at: dict[Pinged, float] = {}
        self._lost_at: dict[Pinged, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Pinged) -> None:
        """Ping ``member`` from now on."""
        self._ping_at[member] = self._loop.time() + self._interval_s
        if self._timer is None:
            self._set_timer()

    def heard(self, member: Pinged) -> None:
        """Note the pong of ``member``."""
        lost_at = self._lost_at.pop(member, None)
        if lost_at is not None:
            now = self._loop.time()
            self._ping_at[member] = now + self._interval_s
            self._on_pong(now - (lost_at - self._timeout_s))

    def remove(self, member: Pinged) -> None:
        """Stop pinging ``member``. Repeated calls are harmless."""
        self._ping_at.pop(member, None)
        self._lost_at.pop(member, None)

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(min(self._interval_s, self._timeout_s) / _TICKS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._ping_at or self._lost_at:
            self._set_timer()
        now = self._loop.time()
        while (member := _due(self._lost_at, now)) is not None:
            _call(member, member.lost)
        while (member := _due(self._ping_at, now)) is not None:
            self._lost_at[member] = now + self._timeout_s
            _call(member, member.ping)


def _call(member: Pinged, call: Callable[[], None]) -> None:
    """Call ``call`` of ``member``, and drop the member if it fails, so that the others are still pinged."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # any failure concerns only this member
        _log.error("socket.failed", exc_info=error)
        member.abort()


def _due(times: dict[Pinged, float], now: float) -> Pinged | None:
    """Remove and return the first member if it is due."""
    for member, at in times.items():
        if at > now:
            break
        del times[member]
        return member
    return None
