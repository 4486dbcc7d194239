"""The task that records the end of every session whose deadline has passed.

The guard ``alive`` refuses everything to an overdue session from the millisecond of its deadline on. This task makes the end
durable, which closes the sockets. Each session has one entry. Deadlines only move later, so an entry that is due early is put
back with the session's current deadline, and activity costs nothing here.
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
"""The wall clock may jump, so the task checks it at least this often."""

_AT_ONCE = 64
"""How many expiries are handed to the log together. They block the event loop for a few milliseconds."""

_RETRY_MS = 1000


class Expiry:
    """The deadlines, and the task that enforces them."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._deadlines = Deadlines()
        self._in_hand: set[str] = set()
        self._wakes_at_ms = 0
        self._earlier = asyncio.Event()

    def restore(self, deadlines: list[tuple[int, str]]) -> None:
        """Start from (deadline in ms, session id) of every session that has not ended.

        If other processes write meanwhile, a session may be listed whose creation is observed later. It is then checked twice.
        """
        self._deadlines.restore(deadlines)

    def observe(self, record: Record, _session: Session | None) -> None:
        """Track a session from its creation to its end, whichever process wrote them."""
        move = record.transition
        if move.version == 1:
            created = SESSION_MACHINE.evolve(SESSION_MACHINE.absent(move.instance_id), move)
            self._push(created.deadline_ms, move.instance_id)
        if move.target in FINAL_STATES and move.instance_id not in self._in_hand:
            self._deadlines.drop(move.instance_id)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            progressed()
            await self._expire_due()
            self._earlier.clear()
            now_ms = self._clock.now_ms()
            earliest_ms = self._deadlines.earliest_ms()
            self._wakes_at_ms = now_ms + round(_LONGEST_SLEEP_S * 1000)
            if earliest_ms is not None:
                self._wakes_at_ms = min(self._wakes_at_ms, earliest_ms)
            # Not wait_for: Python 3.11 loses a cancellation that arrives at the moment when the event is set.
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
        """End the session if its deadline has passed. Return when to check it again, or None for never."""
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
            # The session ended or was renewed in the meantime: check it again soon.
            return self._clock.now_ms() + _RETRY_MS
        except SurfaceError as error:
            _log.error("expiry.failed", session_id=session_id, error=str(error))
            # After a fail-stop nothing can be written until a restart, which restores the deadlines.
            with suppress(SurfaceFailed):
                self._sessions.check_alive()
                return self._clock.now_ms() + _RETRY_MS
        except Exception:  # noqa: BLE001  # one session's failure must not stop the expiry of all others
            _log.exception("expiry.failed", session_id=session_id)
            return self._clock.now_ms() + _RETRY_MS
        return None

    def _push(self, deadline_ms: int, session_id: str) -> None:
        self._deadlines.push(deadline_ms, session_id)
        if deadline_ms < self._wakes_at_ms:
            self._earlier.set()
