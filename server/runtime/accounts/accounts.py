"""Accounts: their commands, submitted through the door, and the personal data that is written in the same transaction."""

from __future__ import annotations

import secrets
from contextlib import suppress

from interlock.machine.account.account import Account
from interlock.machine.account.commands import ChangePassword, Data, Register, Rehash, ResetPassword
from interlock.machine.account.commitments import KEY_BYTES, Commitment, commit
from interlock.machine.account.machine import ACCOUNT_MACHINE, ensure_serves
from interlock.machine.errors import InstanceNotFound
from interlock.machine.machine import Authority
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.ids import new_id
from interlock.server.runtime.door import Change, Door, Recorded, commands
from interlock.server.runtime.feed import Feed
from interlock.server.surface.accounts import AccountStore, Owner, PersonalData

__all__ = ["Accounts", "Owner"]
"""Includes a type of the surface, which the experience uses but may not import from there."""


class Accounts(Door[Account]):
    """All accounts."""

    def __init__(self, feed: Feed, clock: Clock, store: AccountStore, *, cache_limit: int) -> None:
        super().__init__(ACCOUNT_MACHINE, feed, clock, cache_limit=cache_limit)
        self._store = store

    async def standing(self, account_id: str) -> Account:
        """Return the current account, at version 0 if it was never registered."""
        with suppress(InstanceNotFound):
            return await self.load(account_id)
        return Account(account_id)

    async def ensure_serves(self, session: Session) -> None:
        """Check that the account of ``session`` still allows it.

        Raises:
            SessionEnded: the account is not active, or a change of it has ended the session's rights.
        """
        if session.subject is not None:
            ensure_serves(await self.standing(session.subject), session.account_epoch)

    async def by_email(self, email: str) -> Owner | None:
        """Return the owner of this normalised email address, or None."""
        self.check_alive()
        return await self._owner(await self._store.by_email(email))

    async def by_id(self, account_id: str) -> Owner | None:
        """Return the owner of the account with this id; None if there is none or it was deleted."""
        self.check_alive()
        return await self._store.by_id(account_id)

    async def by_identity(self, issuer: str, subject: str) -> Owner | None:
        """Return the owner with the id ``subject`` at provider ``issuer``, or None."""
        self.check_alive()
        return await self._owner(await self._store.by_identity(issuer, subject))

    async def register(
        self,
        actor: str,
        *,
        email: str | None = None,
        password_hash: str | None = None,
        issuer: str | None = None,
        subject: str | None = None,
        groups: tuple[str, ...] = (),
    ) -> Owner:
        """Create an account, for the holder of a password or for the ``subject`` of a provider.

        Raises:
            AccountExists: the email address or the identity is taken; nothing changed.
        """
        key = secrets.token_bytes(KEY_BYTES)
        data = PersonalData(new_id("acc"), key, email, password_hash, issuer, subject)
        registration = Register(data.committed_email, data.committed_password, data.committed_identity, groups)
        asked = commands(actor, registration)
        outcome = await self.submit(data.account_id, *asked, along=self._store.add(data))
        return Owner(outcome.instance, data)

    def password_change(self, owner: Owner, password_hash: str) -> Change[Account]:
        """Return the change that replaces the owner's password. Record it together with the renewal of the owner's session.

        The log refuses it if the account's epoch or hash has changed since, or the account is not active.
        """
        change = ChangePassword(*self._hashes(owner, password_hash))
        along = self._store.replace_hash(owner.account_id, password_hash)
        return Change(self, owner.account_id, commands(owner.account_id, change), along, owner.account.epoch)

    async def reset_password(self, owner: Owner, code: Commitment, password_hash: str) -> Recorded[Account]:
        """Replace the owner's password, and use up ``code``.

        Raises:
            TransitionRefused: the code does not count any more, or the account is not active.
        """
        reset = ResetPassword(code, commit(owner.data.key, "password_hash", password_hash))
        along = self._store.replace_hash(owner.account_id, password_hash)
        return await self.submit(owner.account_id, *commands(owner.account_id, reset), along=along)

    async def rehash(self, owner: Owner, password_hash: str) -> None:
        """Replace the owner's password hash by another hash of the same password.

        Raises:
            TransitionRefused: the hash is no longer the account's, or the account is not active.
        """
        rehash = Rehash(*self._hashes(owner, password_hash))
        along = self._store.replace_hash(owner.account_id, password_hash)
        await self.submit(owner.account_id, *commands(owner.account_id, rehash), along=along)

    def change(self, account_id: str, actor: str, data: Data) -> Change[Account]:
        """Return ``data`` as a change, to be recorded together with another."""
        return Change(self, account_id, commands(actor, data))

    async def ask(
        self, account_id: str, actor: str, data: Data, *, under: Authority | None = None
    ) -> Recorded[Account]:
        """Submit ``data``, which involves no personal data, under the authority ``under``."""
        return await self.submit(account_id, *commands(actor, data), under=under)

    async def erase(
        self, account_id: str, actor: str, data: Data, *, under: Authority | None = None
    ) -> Recorded[Account]:
        """Submit ``data``, a delete, under ``under``, and erase the owner's personal data in the same transaction."""
        return await self.submit(account_id, *commands(actor, data), under=under, along=self._store.erase(account_id))

    async def _owner(self, data: PersonalData | None) -> Owner | None:
        """Return the owner of ``data``, which was just read. The account is in memory, or is compared with its records once."""
        if data is None:
            return None
        account = await self.standing(data.account_id)
        if data.is_of(account):
            return Owner(account, data)
        # The account and the data may have been read at different times; one snapshot of both decides.
        return await self._store.by_id(data.account_id)

    @staticmethod
    def _hashes(owner: Owner, password_hash: str) -> tuple[str, str]:
        current = owner.data.committed_password or ""
        return current, commit(owner.data.key, "password_hash", password_hash)
