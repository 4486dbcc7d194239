"""Writes down the end of every session whose deadline has passed.

The guard ``alive`` refuses an overdue session everything from the millisecond of its deadline on; this makes the end
durable and closes the sockets. One heap entry a session: a deadline only ever moves later, so an entry that comes up early
is put back at the session's deadline of now, and activity costs the heap nothing. The entries of sessions that ended before
their deadline are removed together, once they are half of the heap.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
from contextlib import suppress

import structlog

from machine.commands import Expire
from machine.errors import SessionNotFound, SurfaceError, SurfaceFailed, TransitionRefused
from machine.ledger import Record
from machine.session import Session, overdue_reason
from server.clock import Clock
from server.runtime.sessions import Sessions, patiently

_log = structlog.get_logger("interlock.expiry")

_LONGEST_SLEEP_S = 1.0
"""The wall clock may jump; so it is looked at this often."""

_AT_ONCE = 64
"""How many expiries are handed to the log together. They keep the event loop for a few milliseconds."""

_RETRY_MS = 1000

_FEW = 1024
"""So many entries of sessions that have ended may stay whatever the size of the heap."""


class Expiry:
    """The heap and the task that empties it."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._heap: list[tuple[int, str]] = []
        self._ended: set[str] = set()
        self._in_hand: set[str] = set()
        self._earlier = asyncio.Event()

    def restore(self, deadlines: list[tuple[int, str]]) -> None:
        """Start from (deadline in ms, session id) of every session that has not ended."""
        self._heap = deadlines
        heapq.heapify(self._heap)

    def observe(self, record: Record, session: Session) -> None:
        """Watch a session from its creation until its end."""
        if record.transition.version == 1:
            self._push(session.deadline_ms, session.session_id)
        if session.ended and session.session_id not in self._in_hand:
            self._ended.add(session.session_id)
            if len(self._ended) > max(_FEW, len(self._heap) // 2):
                self._heap = [entry for entry in self._heap if entry[1] not in self._ended]
                heapq.heapify(self._heap)
                self._ended.clear()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._expire_due()
            self._earlier.clear()
            delay_s = _LONGEST_SLEEP_S
            if self._heap:
                delay_s = min(delay_s, max(0, self._heap[0][0] - self._clock.now_ms()) / 1000)
            # Not wait_for: when the event is set in the moment of the cancellation, Python 3.11's forgets the latter.
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._earlier.wait()

    async def _expire_due(self) -> None:
        while self._heap and self._heap[0][0] <= self._clock.now_ms():
            due: list[str] = []
            while self._heap and len(due) < _AT_ONCE and self._heap[0][0] <= self._clock.now_ms():
                session_id = heapq.heappop(self._heap)[1]
                if session_id in self._ended:
                    self._ended.remove(session_id)
                else:
                    due.append(session_id)
            self._in_hand.update(due)
            await asyncio.gather(*map(self._expire, due))

    async def _expire(self, session_id: str) -> None:
        later_ms = await self._look_at(session_id)
        self._in_hand.remove(session_id)
        if later_ms is not None:
            self._push(later_ms, session_id)

    async def _look_at(self, session_id: str) -> int | None:
        """End the session if its deadline has passed; return when to look at it again, or None for never."""
        try:
            session = await patiently(functools.partial(self._sessions.load, session_id))
            if session.ended:
                return None
            now_ms = self._clock.now_ms()
            if now_ms < session.deadline_ms:
                return session.deadline_ms
            await self._sessions.insist(session_id, "server", Expire(overdue_reason(session, now_ms)))
        except SessionNotFound:
            _log.error("expiry.session_not_found", session_id=session_id)
        except TransitionRefused:
            # It ended or was renewed in the meantime: look again soon.
            return self._clock.now_ms() + _RETRY_MS
        except SurfaceError as error:
            _log.error("expiry.failed", session_id=session_id, error=str(error))
            # After a fail-stop nothing can be written before a restart, which rebuilds the heap.
            with suppress(SurfaceFailed):
                self._sessions.check_alive()
                return self._clock.now_ms() + _RETRY_MS
        except Exception:  # noqa: BLE001  # one session's trouble must not be the end of all expiry
            _log.exception("expiry.failed", session_id=session_id)
            return self._clock.now_ms() + _RETRY_MS
        return None

    def _push(self, deadline_ms: int, session_id: str) -> None:
        heapq.heappush(self._heap, (deadline_ms, session_id))
        if self._heap[0][1] == session_id:
            self._earlier.set()
