"""The personal data of accounts as stored beside the log. The log holds commitments to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.commitments import Commitment, commit
from interlock.machine.errors import SurfaceFailed
from interlock.server.surface.log import Along


class PersonalData(msgspec.Struct, frozen=True):
    """The personal data of the owner of account ``account_id``. ``key`` (32 bytes) is the key of the commitments to it.

    ``email`` is normalised. ``password_hash`` is an argon2id string with its own parameters and salt. Both are None for an
    account that logs in at the identity provider ``issuer``; ``subject`` is the owner's id there, which the provider never
    gives to anyone else.
    """

    account_id: str
    key: bytes
    email: str | None = None
    password_hash: str | None = None
    issuer: str | None = None
    subject: str | None = None

    @property
    def committed_email(self) -> Commitment | None:
        """The commitment to ``email``."""
        return None if self.email is None else commit(self.key, "email", self.email)

    @property
    def committed_password(self) -> Commitment | None:
        """The commitment to ``password_hash``."""
        return None if self.password_hash is None else commit(self.key, "password_hash", self.password_hash)

    @property
    def committed_identity(self) -> Commitment | None:
        """The commitment to ``issuer`` and ``subject``."""
        if self.issuer is None or self.subject is None:
            return None
        return commit(self.key, "identity", self.issuer, self.subject)

    def is_of(self, account: Account) -> bool:
        """Return whether the records of ``account`` commit to exactly this data."""
        return (self.account_id, self.committed_email, self.committed_password, self.committed_identity) == (
            account.account_id,
            account.email,
            account.password,
            account.identity,
        )


class Owner(msgspec.Struct, frozen=True):
    """An account as the log has it, and its personal data."""

    account: Account
    data: PersonalData

    @property
    def account_id(self) -> str:
        """The account's id."""
        return self.account.account_id


def not_what_was_recorded(account_id: str) -> SurfaceFailed:
    """Return the error for personal data that differs from what the account's records commit to."""
    return SurfaceFailed(
        f"what is stored of the owner of account {account_id} is not what its records are about: something other than the"
        " server has changed it. Keep everything as it is, and look at it with `interlock verify`"
    )


def checked_emails(accounts: Iterable[Account], found: Iterable[PersonalData]) -> dict[str, str]:
    """Return the email addresses of those ``accounts`` that have one, by account id. ``found`` is what is stored of them.

    Raises:
        SurfaceFailed: an address is not the one that the account's records commit to.
    """
    recorded = {account.account_id: account.email for account in accounts}
    emails = {}
    for data in found:
        # An address never changes, but the account may have been deleted in the meantime.
        if recorded[data.account_id] not in {None, data.committed_email}:
            raise not_what_was_recorded(data.account_id)
        if data.email is not None:
            emails[data.account_id] = data.email
    return emails


class AccountStore(Protocol):
    """The store of personal data. Every implementation passes the same contract suite."""

    async def by_email(self, email: str) -> PersonalData | None:
        """Return the data stored for this normalised email address, or None. It is not compared with the account's records."""
        ...

    async def by_id(self, account_id: str) -> Owner | None:
        """Return the account with this id and its data, from one snapshot; None if there is none or it was deleted.

        Raises:
            SurfaceFailed: the data is not what the account's records commit to.
        """
        ...

    async def by_identity(self, issuer: str, subject: str) -> PersonalData | None:
        """Return the data stored for the ``subject`` of provider ``issuer``, or None; unchecked, like :meth:`by_email`."""
        ...

    async def of_accounts(self, account_ids: Collection[str]) -> list[PersonalData]:
        """Return the data stored for these accounts, in no order; unchecked, like :meth:`by_email`."""
        ...

    def add(self, data: PersonalData) -> Along:
        """Store the data of a new account in the transaction of a step.

        Raises (when the step is written):
            AccountExists: the email address or the identity is taken.
        """
        ...

    def replace_hash(self, account_id: str, password_hash: str) -> Along:
        """Replace the account's password hash in the transaction of a step."""
        ...

    def erase(self, account_id: str) -> Along:
        """Erase the data of the account, its sessions and its executions, with all keys, in the transaction of a step."""
        ...

    async def superseded_sessions(self) -> list[str]:
        """Return the ids of the sessions that have not ended, but whose account is not active or has another epoch."""
        ...
