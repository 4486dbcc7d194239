"""The live sessions of one account, read in pages and ended a few at a time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.machine import why_superseded
from interlock.machine.errors import CredentialRefused
from interlock.machine.ledger import Receipt
from interlock.machine.machine import Authority
from interlock.machine.session.commands import RevocationReason
from interlock.machine.session.machine import SESSION_MACHINE, authority_of
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.runtime.door import patiently
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.directory import Cursor, Directory, InstanceFilter

_PAGE: Final = 64
"""How many sessions are read, and handed to the log, together. One page blocks the event loop for a few milliseconds."""

_PATIENCE_S: Final = 15.0
"""How long a request waits for a page, or for one end, while the storage is overloaded."""


class AccountSessions:
    """Reads and ends the sessions of an account."""

    def __init__(self, sessions: Sessions, directory: Directory, clock: Clock) -> None:
        self._sessions = sessions
        self._directory = directory
        self._clock = clock
        self._ends = asyncio.Semaphore(_PAGE)
        self._going_on: set[asyncio.Task[list[Receipt]]] = set()

    async def close(self) -> None:
        """Cancel the ends in progress. The next start makes them."""
        ends = list(self._going_on)
        for each in ends:
            each.cancel()
        await asyncio.gather(*ends, return_exceptions=True)

    async def page(self, subject: str, before: Cursor | None, limit: int) -> list[Session]:
        """Return at most ``limit`` sessions of ``subject`` that are alive now, newest first, after ``before`` in that order."""
        self._sessions.check_alive()
        return await self._directory.page(
            SESSION_MACHINE, InstanceFilter(owner=subject, alive_at_ms=self._clock.now_ms()), before, limit
        )

    async def end_all(
        self,
        subject: str,
        reason: RevocationReason,
        actor: str,
        *,
        but: str | None = None,
        under: Authority | None = None,
    ) -> list[Receipt]:
        """Revoke every session of ``subject`` that is alive now, except ``but``. Return the receipts of the ends.

        ``under`` is the authority of the caller; see :meth:`interlock.server.runtime.door.Door.submit`. While the storage is
        overloaded this waits, so that no session is left.

        Raises:
            CredentialRefused: ``under`` is no longer valid. Some sessions may have ended.
            Overloaded: the storage stayed overloaded for too long. Some sessions may have ended.
        """

        async def end(session: Session) -> Receipt | None:
            if session.session_id == but:
                return None
            return await self._sessions.end(session, reason, actor, under=under)

        return await self._for_each(subject, end, _PATIENCE_S)

    async def end_superseded(
        self, account: Account, actor: str, *, within_s: float | None = _PATIENCE_S
    ) -> list[Receipt]:
        """Revoke the sessions that ``account``, as it is on disk, no longer allows. Return the receipts of the ends.

        Raises:
            Overloaded: the storage was overloaded for ``within_s`` seconds (None: wait without limit). Some may have ended.
        """

        async def end(session: Session) -> Receipt | None:
            if session.account_epoch < account.epoch:
                # A refusal means that the owner has logged in again on this session, so it stays. Its account is no
                # authority for it any more.
                own = msgspec.structs.replace(authority_of(session), rests_on=None)
                with suppress(CredentialRefused):
                    return await self._sessions.end(session, why_superseded(account), actor, under=own)
            return None

        return await self._for_each(account.account_id, end, within_s)

    async def end_superseded_at_last(self, account: Account, actor: str) -> list[Receipt]:
        """Call :meth:`end_superseded`, for a request that can't be repeated.

        If the storage is overloaded for too long, return an empty list and continue the ends in the background. The next start
        makes those that this process does not complete.
        """
        ends = asyncio.create_task(self.end_superseded(account, actor, within_s=None))
        self._going_on.add(ends)
        ends.add_done_callback(self._going_on.discard)
        done, _ = await asyncio.wait([ends], timeout=_PATIENCE_S)
        return ends.result() if done else []

    async def _for_each(
        self, subject: str, end: Callable[[Session], Awaitable[Receipt | None]], within_s: float | None
    ) -> list[Receipt]:
        async def a_few(session: Session) -> Receipt | None:
            async with self._ends:
                return await end(session)

        receipts: list[Receipt] = []
        before: Cursor | None = None
        while page := await patiently(functools.partial(self.page, subject, before, _PAGE), within_s):
            before = Cursor.of(page[-1])
            ends = [patiently(functools.partial(a_few, each), within_s) for each in page]
            receipts += filter(None, await asyncio.gather(*ends))
        return receipts
