"""Writes down the end of every session whose deadline has passed.

The guard ``alive`` refuses an overdue session everything from the millisecond of its deadline on; this makes the end
durable and closes the sockets. One entry a session: a deadline only ever moves later, so an entry that comes up early is put
back at the session's deadline of now, and activity costs nothing.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import suppress

import structlog

from interlock.machine.errors import SessionNotFound, SurfaceError, SurfaceFailed, TransitionRefused
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Expire
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import FINAL_STATES, Session, overdue_reason
from interlock.server.clock import Clock
from interlock.server.runtime.deadlines import Deadlines
from interlock.server.runtime.door import patiently
from interlock.server.runtime.sessions import Sessions
from interlock.server.system.supervision import progressed

_log = structlog.get_logger("interlock.expiry")

_LONGEST_SLEEP_S = 1.0
"""The wall clock may jump; so it is looked at this often."""

_AT_ONCE = 64
"""How many expiries are handed to the log together. They keep the event loop for a few milliseconds."""

_RETRY_MS = 1000


class Expiry:
    """The deadlines and the task that keeps them."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._deadlines = Deadlines()
        self._in_hand: set[str] = set()
        self._wakes_at_ms = 0
        self._earlier = asyncio.Event()

    def restore(self, deadlines: list[tuple[int, str]]) -> None:
        """Start from (deadline in ms, session id) of every session that has not ended.

        Should others write to the log meanwhile, one may be among them whose creation is observed later. It is looked at twice.
        """
        self._deadlines.restore(deadlines)

    def observe(self, record: Record, _session: Session | None) -> None:
        """Watch a session from its creation until its end, whoever wrote them."""
        move = record.transition
        if move.version == 1:
            created = SESSION_MACHINE.evolve(SESSION_MACHINE.absent(move.instance_id), move)
            self._push(created.deadline_ms, move.instance_id)
        if move.target in FINAL_STATES and move.instance_id not in self._in_hand:
            self._deadlines.drop(move.instance_id)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            progressed()
            await self._expire_due()
            self._earlier.clear()
            now_ms = self._clock.now_ms()
            earliest_ms = self._deadlines.earliest_ms()
            self._wakes_at_ms = now_ms + round(_LONGEST_SLEEP_S * 1000)
            if earliest_ms is not None:
                self._wakes_at_ms = min(self._wakes_at_ms, earliest_ms)
            # Not wait_for: when the event is set in the moment of the cancellation, Python 3.11's forgets the latter.
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0, self._wakes_at_ms - now_ms) / 1000):
                    await self._earlier.wait()

    async def _expire_due(self) -> None:
        while due := self._deadlines.pop_due(self._clock.now_ms(), _AT_ONCE):
            progressed()
            self._in_hand.update(due)
            await asyncio.gather(*map(self._expire, due))

    async def _expire(self, session_id: str) -> None:
        later_ms = await self._look_at(session_id)
        self._in_hand.discard(session_id)
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
            # After a fail-stop nothing can be written before a restart, which restores the deadlines.
            with suppress(SurfaceFailed):
                self._sessions.check_alive()
                return self._clock.now_ms() + _RETRY_MS
        except Exception:  # noqa: BLE001  # one session's trouble must not be the end of all expiry
            _log.exception("expiry.failed", session_id=session_id)
            return self._clock.now_ms() + _RETRY_MS
        return None

    def _push(self, deadline_ms: int, session_id: str) -> None:
        self._deadlines.push(deadline_ms, session_id)
        if deadline_ms < self._wakes_at_ms:
            self._earlier.set()
