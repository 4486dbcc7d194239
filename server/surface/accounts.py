"""The personal data of accounts as it is stored, beside the log, which holds commitments to it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.commitments import Commitment, commit
from interlock.machine.errors import SurfaceFailed
from interlock.server.surface.log import Along


class PersonalData(msgspec.Struct, frozen=True):
    """What is known of the owner of account ``account_id``; ``key`` is the one of the commitments to it (32 bytes).

    ``email`` is normalised; ``password_hash`` is an argon2id string with its own parameters and salt. Both are None where the
    provider ``issuer`` proves who its owner is, whom it calls ``subject``, for ever and nobody else.
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
        """Whether the records of ``account`` are about this very data."""
        return (self.account_id, self.committed_email, self.committed_password, self.committed_identity) == (
            account.account_id,
            account.email,
            account.password,
            account.identity,
        )


class Owner(msgspec.Struct, frozen=True):
    """An account as its log has it, and the personal data that it is about."""

    account: Account
    data: PersonalData

    @property
    def account_id(self) -> str:
        """The account's id."""
        return self.account.account_id


def not_what_was_recorded(account_id: str) -> SurfaceFailed:
    """What is said where the personal data of an account is not what its records are about."""
    return SurfaceFailed(
        f"what is stored of the owner of account {account_id} is not what its records are about: something other than the"
        " server has changed it. Keep everything as it is, and look at it with `interlock verify`"
    )


class AccountStore(Protocol):
    """Where personal data is kept. Every implementation passes the same contract suite."""

    async def by_email(self, email: str) -> PersonalData | None:
        """What is stored of the owner of this normalised email address, or None: not compared with the account's records."""
        ...

    async def by_id(self, account_id: str) -> Owner | None:
        """The owner of the account with this id, read in one look; None when there is none, or it was deleted.

        Raises:
            SurfaceFailed: the data is not what the account's records are about.
        """
        ...

    async def by_identity(self, issuer: str, subject: str) -> PersonalData | None:
        """What is stored of whom the provider ``issuer`` calls ``subject``, or None; as :meth:`by_email`."""
        ...

    async def of_accounts(self, account_ids: Collection[str]) -> list[PersonalData]:
        """What is stored of the owners of these accounts, in no order; as :meth:`by_email`."""
        ...

    def add(self, data: PersonalData) -> Along:
        """Store, with a step, the data of a new account.

        Raises (with the step):
            AccountExists: the email address, or the identity, is taken.
        """
        ...

    def replace_hash(self, account_id: str, password_hash: str) -> Along:
        """Replace, with a step, the hash of the account's password."""
        ...

    def erase(self, account_id: str) -> Along:
        """Erase, with a step, all that is known of the account's owner, and the key of the commitments to it."""
        ...

    async def superseded_sessions(self) -> list[str]:
        """The ids of the sessions that have not ended and serve no more: their account has another epoch, or is not active."""
        ...
