"""The living sessions of one account, however many there are: page by page, and a few ends at a time."""

from __future__ import annotations

import asyncio
import functools
from typing import Final

from machine.commands import RevocationReason, Revoke
from machine.errors import TransitionRefused
from machine.ledger import Receipt
from machine.session import Session
from server.clock import Clock
from server.runtime.sessions import Sessions, patiently
from server.surface.directory import Place, SessionDirectory, Wanted

_PAGE: Final = 64
"""How many sessions are read, and handed to the log, together. It keeps the event loop for a few milliseconds."""


class AccountSessions:
    """Reads the sessions of an account, and ends them."""

    def __init__(self, sessions: Sessions, directory: SessionDirectory, clock: Clock) -> None:
        self._sessions = sessions
        self._directory = directory
        self._clock = clock

    async def page(self, subject: str, before: Place | None, limit: int) -> list[Session]:
        """Return at most ``limit`` sessions of ``subject`` that are alive now, newest first, after the place ``before``."""
        self._sessions.check_alive()
        return await self._directory.page(Wanted(subject=subject, alive_at_ms=self._clock.now_ms()), before, limit)

    async def end_all(
        self, subject: str, reason: RevocationReason, actor: str, *, but: str | None = None
    ) -> list[Receipt]:
        """Revoke every session of ``subject`` that is alive now, except ``but``. Return the receipt of each end.

        While the storage is overloaded it waits: what is called to end everything must not leave a rest.
        """
        receipts: list[Receipt] = []
        before: Place | None = None
        while page := await patiently(functools.partial(self.page, subject, before, _PAGE)):
            before = Place.of(page[-1])
            ends = (self._end(session, reason, actor) for session in page if session.session_id != but)
            receipts += filter(None, await asyncio.gather(*ends))
        return receipts

    async def _end(self, session: Session, reason: RevocationReason, actor: str) -> Receipt | None:
        try:
            return (await self._sessions.insist(session.session_id, actor, Revoke(reason))).receipt
        except TransitionRefused:
            return None
