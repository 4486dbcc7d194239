"""What administrators do: end sessions, close accounts and open them again, name an account's groups.

An end is a transition whose actor is ``admin:<name>``; what is no transition is an act in the audit trail. Either is on disk
before it is answered.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from interlock.machine.ledger import Receipt
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.runtime.account_sessions import AccountSessions
from interlock.server.runtime.door import patiently
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.accounts import Account, AccountStore
from interlock.server.surface.audit import Act, AuditRecord, AuditStore
from interlock.server.surface.directory import Directory, Place, Wanted

__all__ = [
    "Account",
    "Administration",
    "AuditRecord",
    "Caller",
    "Place",
    "Wanted",
    "end_of_disabled",
    "end_of_old_passwords",
]
"""Those of the surface as well: the experience shows them, and knows no surface."""


class Caller(msgspec.Struct, frozen=True):
    """The administrator who asks: ``actor`` is ``admin:<name>``; ``address`` is where from, if known."""

    actor: str
    address: str | None


class Administration:
    """Every act and every look of administrators. Who may call it, the experience has checked.

    Nothing is answered once the log has stopped: memory and disk may then differ.
    """

    def __init__(
        self,
        sessions: Sessions,
        account_sessions: AccountSessions,
        clock: Clock,
        *,
        accounts: AccountStore,
        directory: Directory,
        audit: AuditStore,
    ) -> None:
        self._sessions = sessions
        self._account_sessions = account_sessions
        self._clock = clock
        self._accounts = accounts
        self._directory = directory
        self._audit = audit

    async def sessions(self, wanted: Wanted, before: Place | None, limit: int) -> list[Session]:
        """A page of all sessions, newest first."""
        self._sessions.check_alive()
        return await self._directory.page(SESSION_MACHINE, wanted, before, limit)

    async def accounts(self, after: str, limit: int) -> list[Account]:
        """A page of all accounts, by id."""
        self._sessions.check_alive()
        return await self._accounts.page(after, limit)

    async def account(self, account_id: str) -> Account | None:
        """The account with this id, or None."""
        self._sessions.check_alive()
        return await self._accounts.by_id(account_id)

    async def account_of(self, email: str) -> Account | None:
        """The account with this normalised email address, or None."""
        self._sessions.check_alive()
        return await self._accounts.by_email(email)

    async def acts(self, after: int, limit: int) -> list[AuditRecord]:
        """At most ``limit`` acts with a position above ``after``, oldest first."""
        self._sessions.check_alive()
        return await self._audit.after(after, limit)

    async def end(self, session: Session, caller: Caller) -> Receipt | None:
        """Revoke one session; None when it had ended already."""
        return await self._sessions.end(session, "revoked", caller.actor)

    async def end_all(self, account_id: str, caller: Caller) -> list[Receipt]:
        """Revoke every session of the account that lives now; the receipt of each end."""
        return await self._account_sessions.end_all(account_id, "revoked", caller.actor)

    async def disable(self, account_id: str, caller: Caller) -> tuple[Account, list[Receipt]] | None:
        """Close the account, then end all of its sessions; None when there is no such account.

        First the account, durably: no session is recorded for it afterwards, also by a login that is under way
        (:meth:`interlock.server.guard.accounts.Accounts.still`). Should the server die in between, its next start ends the
        rest.
        """
        now_ms = self._clock.now_ms()
        account = await self._accounts.set_disabled(
            account_id, now_ms, self._act(caller, "account.disable", account_id)
        )
        if account is None:
            return None
        return account, await self._account_sessions.end_all(account_id, "account_disabled", caller.actor)

    async def enable(self, account_id: str, caller: Caller) -> Account | None:
        """Open the account again; what was ended stays ended. None when there is no such account."""
        return await self._accounts.set_disabled(account_id, None, self._act(caller, "account.enable", account_id))

    async def set_groups(self, account_id: str, groups: tuple[str, ...], caller: Caller) -> Account | None:
        """Replace the account's groups; None when there is no such account."""
        act = self._act(caller, "account.groups", account_id, groups=groups)
        return await self._accounts.set_groups(account_id, groups, act)

    def _act(self, caller: Caller, action: str, about: str, **detail: Any) -> Act:
        return Act(self._clock.now_ms(), caller.actor, action, about, detail, caller.address)


async def end_of_disabled(account_sessions: AccountSessions, accounts: AccountStore) -> int:
    """End what is left of the sessions of disabled accounts, before this process takes work; how many there were.

    A disable is on disk before the sessions that it ends: a server that died in between has left some.
    """
    subjects = await accounts.disabled_with_sessions()
    end_all = account_sessions.end_all
    return sum([len(await end_all(each, "account_disabled", "server", within_s=None)) for each in subjects])


async def end_of_old_passwords(sessions: Sessions, accounts: AccountStore) -> int:
    """End the sessions that a change of password should have ended, before this process takes work; how many there were.

    A new password is on disk before the ends of the account's other sessions: a server that died in between has left some.
    """
    session_ids = await accounts.sessions_of_old_passwords()
    for session_id in session_ids:
        session = await sessions.load(session_id)
        await patiently(functools.partial(sessions.end, session, "password_changed", "server"))
    return len(session_ids)
