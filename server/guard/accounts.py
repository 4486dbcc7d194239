"""Own accounts: register, prove a password, change it."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from interlock.machine.errors import AccountDisabled, AccountError, CredentialInvalid, Overloaded, PasswordWrong
from interlock.server.clock import Clock
from interlock.server.guard.emails import fold_email
from interlock.server.guard.known_accounts import KnownAccounts
from interlock.server.guard.passwords.hash_queue import Count, Requester
from interlock.server.guard.passwords.hashing import Passwords, uncounted
from interlock.server.ids import new_id
from interlock.server.surface.accounts import Account
from interlock.server.surface.log import Along

_MAX_EMAIL_LENGTH: Final = 254
"""RFC 5321, 4.5.3.1.3, less the angle brackets."""


class PasswordChange(msgspec.Struct, frozen=True):
    """A change that was found allowed. ``along``: makes it, with the step that renews the session which asks.

    ``account``: the account with the new password.
    """

    account: Account
    along: Along


class Accounts:
    """Accounts with an email address and a password."""

    def __init__(self, store: KnownAccounts, passwords: Passwords, clock: Clock) -> None:
        self._store = store
        self._passwords = passwords
        self._clock = clock

    async def register(self, email: str, password: str, place: str) -> Account:
        """Make an account. ``place`` is the key by which the client's address is limited.

        Raises:
            AccountError: the address is none, or is taken, or the password breaks a rule; nothing changed.
        """
        normalised = normalise_email(email)
        requester = Requester(normalised, place)
        await self._passwords.check_new(password, [normalised], requester)
        now_ms = self._clock.now_ms()
        account = Account(new_id("acc"), normalised, await self._passwords.hash(password, requester), now_ms, now_ms)
        await self._store.add(account)
        return account

    async def prove(self, requester: Requester, password: str, count: Count = uncounted) -> Account:
        """The account that ``password`` opens for ``requester``. An unknown address takes as long as a wrong password.

        A hash of older parameters is replaced on the way. ``count`` counts the try, which no longer counts if it was right.

        Raises:
            CredentialInvalid: there is none; the message does not say which of the two was wrong.
            AccountDisabled: both are right, and the account is disabled: nobody else is told.
            Overloaded: too many hashes wait.
            RateLimited: ``count`` refused it.
        """
        account = await self._store.by_email(requester.account)
        stored = account.password_hash if account else None
        if not await self._passwords.verify(stored, password, requester, count) or account is None or stored is None:
            raise CredentialInvalid("email or password is wrong")
        ensure_enabled(account)
        if self._passwords.is_outdated(stored):
            await self._rehash(account, stored, password, requester)
        return account

    def still(self, account: Account) -> Along:
        """Record a session of ``account``, which was proved before, only with this: a check in the same transaction.

        So no session outlives the password it was opened with, nor the closing of its account: either the check fails, or
        the session is recorded before the change, which then ends it.
        """
        return self._store.still(account)

    async def prepare_password(
        self, account_id: str, current: str, new: str, place: str, count: Count = uncounted
    ) -> PasswordChange:
        """Check ``current`` and hash ``new``; nothing is changed yet.

        ``place`` is the key by which the client's address is limited. ``count`` counts the try, unless ``current`` is right.

        Raises:
            PasswordWrong: ``current`` is wrong.
            PasswordRefused: ``new`` breaks a rule.
            RateLimited: ``count`` refused it.
        """
        account = await self._store.by_id(account_id)
        email = account.email if account else None
        requester = Requester(email or account_id, place, known=True)
        stored = account.password_hash if account else None
        if not await self._passwords.verify(stored, current, requester, count) or account is None:
            raise PasswordWrong("the current password is wrong")
        await self._passwords.check_new(new, [email] if email else [], requester)
        password_hash = await self._passwords.hash(new, requester)
        changed_at_ms = max(self._clock.now_ms(), account.password_changed_at_ms + 1)
        # A session whose last login was before this time is one of the old password.
        self._clock.reach(changed_at_ms)
        changed = msgspec.structs.replace(account, password_hash=password_hash, password_changed_at_ms=changed_at_ms)
        return PasswordChange(changed, self._store.new_password(account, changed))

    async def _rehash(self, account: Account, stored: str, password: str, requester: Requester) -> None:
        """Store ``password`` under today's parameters, unless somebody else has changed or rehashed it meanwhile."""
        # Not worth a failed login: the next one tries again.
        with suppress(Overloaded):
            await self._store.rehash(account.account_id, stored, await self._passwords.hash(password, requester))


def ensure_enabled(account: Account) -> None:
    """Check that ``account`` may be used. Ask only for somebody who has proved to be its owner.

    Raises:
        AccountDisabled: an administrator has closed it.
    """
    if account.disabled_at_ms is not None:
        raise AccountDisabled("an administrator has disabled this account")


def normalise_email(email: str) -> str:
    """``email`` as accounts are found by it (see :func:`fold_email`). Only its rough form is checked.

    Raises:
        AccountError: it has no form of an email address.
    """
    normalised = fold_email(email)
    local, _, domain = normalised.rpartition("@")
    if not (local and domain) or len(normalised) > _MAX_EMAIL_LENGTH:
        raise AccountError("not an email address")
    if not normalised.isprintable() or " " in normalised:
        raise AccountError("not an email address")
    return normalised
