"""The personal data of accounts as it is stored, beside the log, which holds commitments to it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.commitments import Commitment, commit
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


class AccountStore(Protocol):
    """Where personal data is kept. Every implementation passes the same contract suite.

    What reads raises SurfaceFailed where the data is not what the account's records are about.
    """

    async def by_email(self, email: str) -> Owner | None:
        """The owner of this normalised email address, or None."""
        ...

    async def by_id(self, account_id: str) -> Owner | None:
        """The owner of the account with this id; None when there is none, or it was deleted."""
        ...

    async def by_identity(self, issuer: str, subject: str) -> Owner | None:
        """The owner whom the provider ``issuer`` calls ``subject``, or None."""
        ...

    async def emails(self, account_ids: Collection[str]) -> dict[str, str]:
        """The email addresses of those of the accounts that have one, by account id."""
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
