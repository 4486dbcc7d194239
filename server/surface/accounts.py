"""Accounts as they are stored: who may log in, and the hash of the password."""

from __future__ import annotations

from typing import Protocol

import msgspec

from interlock.server.surface.audit import Act
from interlock.server.surface.log import Along


class Account(msgspec.Struct, frozen=True):
    """One account. ``email`` is normalised; ``password_hash`` is an argon2id string with its own parameters and salt.

    Both are None where somebody else proves who its owner is. ``groups`` are names that other software is told;
    ``disabled_at_ms`` is when an administrator closed the account, or None.
    """

    account_id: str
    email: str | None
    password_hash: str | None
    created_at_ms: int
    password_changed_at_ms: int
    groups: tuple[str, ...] = ()
    disabled_at_ms: int | None = None


class AccountStore(Protocol):
    """Where accounts are kept. Every implementation passes the same contract suite."""

    async def add(self, account: Account) -> None:
        """Store a new account durably.

        Raises:
            AccountExists: the email address is taken; nothing changed.
        """
        ...

    async def by_email(self, email: str) -> Account | None:
        """The account with this normalised email address, or None."""
        ...

    async def by_id(self, account_id: str) -> Account | None:
        """The account with this id, or None."""
        ...

    def still(self, account: Account) -> Along:
        """Check, with a step, that the account is open and has the password that ``account`` has.

        Raises (with the step):
            AccountDisabled: an administrator has closed it.
            CredentialInvalid: the password was changed, or the account is gone.
        """
        ...

    def new_password(self, account: Account, changed: Account) -> Along:
        """Replace, with a step, the password that ``account`` has by the one that ``changed`` has.

        Each password has a time of its own: at least a millisecond after the one before.

        Raises (with the step):
            PasswordWrong: the password was replaced already, or the account is disabled.
        """
        ...

    async def sessions_of_old_passwords(self) -> list[str]:
        """The ids of the sessions that have not ended and whose last login was before the account's password was set."""
        ...

    async def rehash(self, account_id: str, old_hash: str, new_hash: str) -> bool:
        """Replace ``old_hash`` durably by another hash of the same password; False when it is no longer the account's."""
        ...

    async def page(self, after: str, limit: int) -> list[Account]:
        """At most ``limit`` accounts whose id comes after ``after``, in the order of the ids."""
        ...

    async def set_disabled(self, account_id: str, at_ms: int | None, act: Act) -> Account | None:
        """Close the account, or open it with an ``at_ms`` of None, and write ``act``, durably: both, or neither.

        The account as it is now; it keeps the time when it was closed first. None, and nothing written, when there is none.
        """
        ...

    async def set_groups(self, account_id: str, groups: tuple[str, ...], act: Act) -> Account | None:
        """Replace the account's groups and write ``act``, durably: both, or neither. None when there is no such account."""
        ...

    async def disabled_with_sessions(self) -> list[str]:
        """The ids of the disabled accounts that have sessions which have not ended."""
        ...
