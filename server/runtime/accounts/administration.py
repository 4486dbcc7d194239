"""What administrators do: list and end sessions, disable, enable and delete accounts, issue reset codes, set groups.

Each change is a transition with the actor ``admin:<name>``, on disk before the response: the log is the audit trail. It is
recorded under the authority of the presented secret, so none follows the record of that secret's removal; or, in the console,
of the operator's session, so none follows its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.commands import Data, Delete, Disable, Enable, IssueResetCode, SetGroups
from interlock.machine.account.commitments import KEY_BYTES, commit
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import Receipt, Record
from interlock.machine.machine import Authority
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.guard.passwords.reset_codes import new_code, normalise_code
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.door import Recorded
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.accounts import AccountStore, checked_emails
from interlock.server.surface.directory import Cursor, Directory, InstanceFilter
from interlock.server.surface.log import TransitionLog

__all__ = ["Administration", "Caller", "Cursor", "InstanceFilter"]
"""Includes two types of the surface, which the experience uses but may not import from there."""


class Caller(msgspec.Struct, frozen=True):
    """The calling administrator: its name in the records, and the client address, None if unknown.

    ``acting`` gives the authority for the records of a call, and raises the error for the caller if it is lost.
    """

    actor: str
    address: str | None
    acting: Callable[[], AbstractAsyncContextManager[Authority]]


class EndedAccount(msgspec.Struct, frozen=True):
    """A disabled or deleted account, the receipt of the last record, and how many sessions ended."""

    account: Account
    receipt: Receipt | None
    sessions: int


class IssuedCode(msgspec.Struct, frozen=True):
    """A reset ``code``, which is stored nowhere, until when it is valid, and the receipt of its record."""

    code: str
    until_ms: int
    receipt: Receipt | None


class Administration:
    """All changes and queries by administrators. The experience has checked that the caller may make them.

    Nothing is answered after the log has stopped, because memory and disk may then differ. A change raises
    CredentialRefused if the removal of the caller's secret, or the end of the operator's session, was recorded first.
    """

    def __init__(  # noqa: PLR0913  # the stores by name
        self,
        sessions: Sessions,
        account_sessions: AccountSessions,
        accounts: Accounts,
        *,
        log: TransitionLog,
        store: AccountStore,
        directory: Directory,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._account_sessions = account_sessions
        self._accounts = accounts
        self._log = log
        self._store = store
        self._directory = directory
        self._clock = clock

    async def sessions(self, wanted: InstanceFilter, before: Cursor | None, limit: int) -> list[Session]:
        """Return a page of all sessions, newest first."""
        self._sessions.check_alive()
        return await self._directory.page(SESSION_MACHINE, wanted, before, limit)

    async def accounts(self, wanted: InstanceFilter, before: Cursor | None, limit: int) -> list[Account]:
        """Return a page of all accounts, newest first, including deleted ones."""
        self._accounts.check_alive()
        return await self._directory.page(ACCOUNT_MACHINE, wanted, before, limit)

    async def emails(self, accounts: Sequence[Account]) -> dict[str, str]:
        """Return the email addresses of those ``accounts`` that have one, by account id.

        Raises:
            SurfaceFailed: an address is not the one that the account's records commit to.
        """
        return checked_emails(accounts, await self._store.of_accounts([each.account_id for each in accounts]))

    async def account_of(self, email: str) -> Account | None:
        """Return the account with this normalised email address, or None."""
        owner = await self._accounts.by_email(email)
        return owner.account if owner else None

    async def audit_records(self, after: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records of administrators' changes above position ``after``, oldest first."""
        self._sessions.check_alive()
        return await self._log.audit(after, limit)

    async def end(self, session: Session, caller: Caller) -> Receipt | None:
        """Revoke one session. Return None if it had already ended."""
        async with caller.acting() as under:
            return await self._sessions.end(session, "revoked", caller.actor, under=under)

    async def end_all(self, account_id: str, caller: Caller) -> list[Receipt]:
        """Revoke every session of the account that is alive now. Return the receipts of the ends."""
        async with caller.acting() as under:
            return await self._account_sessions.end_all(account_id, "revoked", caller.actor, under=under)

    async def disable(self, account_id: str, caller: Caller) -> EndedAccount:
        """Disable the account, then end all its sessions.

        The disable is durable first. From then on no session of the account is usable or recorded, even by a login in progress
        (:meth:`interlock.server.runtime.accounts.logins.Login.record`). If the server dies before all sessions have ended, its
        next start ends the rest. A repeated call waits for the ends.

        Raises:
            InstanceNotFound, TransitionRefused: there is no such account, or it was deleted.
        """
        try:
            outcome = await self._ask(account_id, caller, Disable(caller.address))
        except TransitionRefused:
            outcome = Recorded(await self._accounts.load(account_id), [])
            if outcome.instance.state != "disabled":
                raise
        return await self._without_sessions(outcome)

    async def delete(self, account_id: str, caller: Caller) -> EndedAccount:
        """Delete the account and its owner's personal data, then end all its sessions; as :meth:`disable`.

        Its records stay. A repeated call waits for the ends.

        Raises:
            InstanceNotFound: there is no such account.
        """
        try:
            async with caller.acting() as under:
                outcome = await self._accounts.erase(account_id, caller.actor, Delete(caller.address), under=under)
        except TransitionRefused:
            outcome = Recorded(await self._accounts.load(account_id), [])
        return await self._without_sessions(outcome)

    async def enable(self, account_id: str, caller: Caller) -> Recorded[Account]:
        """Enable the account if it is disabled, after all its sessions have ended. They stay ended.

        Raises:
            InstanceNotFound, TransitionRefused: there is no such account, or it was deleted.
        """
        account = await self._accounts.load(account_id)
        if account.state == "disabled":
            # An overload or a crash may have left some.
            await self._account_sessions.end_superseded(account, "server")
        try:
            return await self._ask(account_id, caller, Enable(caller.address))
        except TransitionRefused:
            outcome = Recorded(await self._accounts.load(account_id), [])
            if outcome.instance.state != "active":
                raise
            return outcome

    async def issue_reset_code(self, account_id: str, lifetime_ms: int, caller: Caller) -> IssuedCode:
        """Issue a code with which the owner can set another password within ``lifetime_ms``. It replaces an earlier one.

        Raises:
            InstanceNotFound, TransitionRefused: there is no such account, or it has no password, is disabled or deleted.
        """
        owner = await self._accounts.by_id(account_id)
        code, until_ms = new_code(), self._clock.now_ms() + lifetime_ms
        key = owner.data.key if owner else bytes(KEY_BYTES)
        issue = IssueResetCode(commit(key, "reset_code", normalise_code(code)), until_ms, caller.address)
        return IssuedCode(code, until_ms, (await self._ask(account_id, caller, issue)).receipt)

    async def set_groups(self, account_id: str, groups: tuple[str, ...], caller: Caller) -> Recorded[Account]:
        """Replace the account's groups.

        Raises:
            InstanceNotFound, TransitionRefused: there is no such account, or it was deleted.
        """
        return await self._ask(account_id, caller, SetGroups(groups, caller.address))

    async def _ask(self, account_id: str, caller: Caller, data: Data) -> Recorded[Account]:
        async with caller.acting() as under:
            return await self._accounts.ask(account_id, caller.actor, data, under=under)

    async def _without_sessions(self, outcome: Recorded[Account]) -> EndedAccount:
        # They follow from what is recorded, and happen whatever becomes of the administrator: as those of a start.
        ended = await self._account_sessions.end_superseded(outcome.instance, "server")
        return EndedAccount(outcome.instance, max(filter(None, [outcome.receipt, *ended]), default=None), len(ended))
