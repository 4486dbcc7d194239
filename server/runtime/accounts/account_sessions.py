"""The living sessions of one account, however many there are: page by page, and a few ends at a time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

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
from interlock.server.surface.directory import Directory, Place, Wanted

_PAGE: Final = 64
"""How many sessions are read, and handed to the log, together. It keeps the event loop for a few milliseconds."""

_PATIENCE_S: Final = 15.0
"""How long a request waits for a page, or for one end, while the storage is overloaded."""


class AccountSessions:
    """Reads the sessions of an account, and ends them."""

    def __init__(self, sessions: Sessions, directory: Directory, clock: Clock) -> None:
        self._sessions = sessions
        self._directory = directory
        self._clock = clock
        self._ends = asyncio.Semaphore(_PAGE)
        self._going_on: set[asyncio.Task[list[Receipt]]] = set()

    async def close(self) -> None:
        """Give up the ends that go on: the next start makes them."""
        ends = list(self._going_on)
        for each in ends:
            each.cancel()
        await asyncio.gather(*ends, return_exceptions=True)

    async def page(self, subject: str, before: Place | None, limit: int) -> list[Session]:
        """Return at most ``limit`` sessions of ``subject`` that are alive now, newest first, after the place ``before``."""
        self._sessions.check_alive()
        return await self._directory.page(
            SESSION_MACHINE, Wanted(owner=subject, alive_at_ms=self._clock.now_ms()), before, limit
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
        """Revoke every session of ``subject`` that is alive now, except ``but``. Return the receipt of each end.

        ``under``: the authority of whoever asks; see :meth:`interlock.server.runtime.door.Door.submit`.

        While the storage is overloaded it waits: what is called to end everything must not leave a rest.

        Raises:
            CredentialRefused: ``under`` does not hold any more. Some sessions may have ended.
            Overloaded: it still was after a while. Some sessions may have ended.
        """

        async def end(session: Session) -> Receipt | None:
            if session.session_id == but:
                return None
            return await self._sessions.end(session, reason, actor, under=under)

        return await self._for_each(subject, end, _PATIENCE_S)

    async def end_superseded(
        self, account: Account, actor: str, *, within_s: float | None = _PATIENCE_S
    ) -> list[Receipt]:
        """Revoke the sessions that have served until ``account``, which is on disk, became what it is; the receipts.

        Raises:
            Overloaded: the storage was overloaded for ``within_s`` seconds (None: wait without end). Some may have ended.
        """

        async def end(session: Session) -> Receipt | None:
            if session.account_epoch < account.epoch:
                # Unless its owner has logged in on it anew.
                with suppress(CredentialRefused):
                    return await self._sessions.end(
                        session, why_superseded(account), actor, under=authority_of(session)
                    )
            return None

        return await self._for_each(account.account_id, end, within_s)

    async def end_superseded_at_last(self, account: Account, actor: str) -> list[Receipt]:
        """Revoke as :meth:`end_superseded`, for a caller that can't be called again.

        When the storage has been overloaded for too long, the caller has an empty list and the ends go on. The next start
        makes those that this process does not live to make.
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
        before: Place | None = None
        while page := await patiently(functools.partial(self.page, subject, before, _PAGE), within_s):
            before = Place.of(page[-1])
            ends = [patiently(functools.partial(a_few, each), within_s) for each in page]
            receipts += filter(None, await asyncio.gather(*ends))
        return receipts
