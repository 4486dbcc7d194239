"""Own accounts: register, prove a password, change it."""

from __future__ import annotations

import unicodedata
from typing import Final

import msgspec

from machine.errors import AccountError, CredentialInvalid, PasswordWrong
from machine.session import Session
from server.clock import Clock
from server.guard.passwords import Passwords
from server.ids import new_id
from server.surface.accounts import Account, AccountStore

_MAX_EMAIL_LENGTH: Final = 254
"""RFC 5321, 4.5.3.1.3, less the angle brackets."""


class PasswordChange(msgspec.Struct, frozen=True):
    """A change that was found allowed: from which hash to which."""

    account_id: str
    old_hash: str
    new_hash: str


class Accounts:
    """Accounts with an email address and a password."""

    def __init__(self, store: AccountStore, passwords: Passwords, clock: Clock) -> None:
        self._store = store
        self._passwords = passwords
        self._clock = clock

    async def register(self, email: str, password: str) -> Account:
        """Make an account.

        Raises:
            AccountError: the address is none, or is taken, or the password breaks a rule; nothing changed.
        """
        normalised = normalise_email(email)
        self._passwords.check_rules(password)
        now_ms = self._clock.now_ms()
        account = Account(new_id("acc"), normalised, await self._passwords.hash(password), now_ms, now_ms)
        await self._store.add(account)
        return account

    async def prove(self, email: str, password: str) -> Account:
        """The account that ``email`` and ``password`` open. An unknown address takes as long as a wrong password.

        Raises:
            CredentialInvalid: there is none; the message does not say which of the two was wrong.
        """
        account = await self._store.by_email(_fold(email))
        if not await self._passwords.verify(account.password_hash if account else None, password) or account is None:
            raise CredentialInvalid("email or password is wrong")
        return account

    async def still_proved(self, account: Account) -> bool:
        """Whether the password that proved ``account`` still is its password.

        A session must not outlive the password it was opened with. Ask after the session is recorded: a change of password
        is recorded before it ends the sessions it finds, so one of the two sees the other.
        """
        now = await self._store.by_id(account.account_id)
        return now is not None and now.password_hash == account.password_hash

    async def prepare_password(self, account_id: str, current: str, new: str) -> PasswordChange:
        """Check ``current`` and hash ``new``; nothing changes before :meth:`replace_password`.

        Raises:
            PasswordWrong: ``current`` is wrong.
            PasswordRefused: ``new`` breaks a rule.
        """
        account = await self._store.by_id(account_id)
        stored = account.password_hash if account else None
        if not await self._passwords.verify(stored, current) or stored is None:
            raise PasswordWrong("the current password is wrong")
        self._passwords.check_rules(new)
        return PasswordChange(account_id, stored, await self._passwords.hash(new))

    async def replace_password(self, change: PasswordChange, session: Session) -> None:
        """Make the new password the account's, durably, unless ``session``, which asks, has been revoked by then.

        Raises:
            PasswordWrong: the password was changed by somebody else, or the session ended, in the meantime; nothing changed.
        """
        if not await self._store.set_password(
            change.account_id, change.old_hash, change.new_hash, self._clock.now_ms(), session.session_id
        ):
            raise PasswordWrong("the current password is wrong")


def normalise_email(email: str) -> str:
    """``email`` as accounts are found by it: trimmed, NFC, case folded. Only its rough form is checked.

    Raises:
        AccountError: it has no form of an email address.
    """
    normalised = _fold(email)
    local, _, domain = normalised.rpartition("@")
    if not (local and domain) or len(normalised) > _MAX_EMAIL_LENGTH:
        raise AccountError("not an email address")
    if not normalised.isprintable() or " " in normalised:
        raise AccountError("not an email address")
    return normalised


def _fold(email: str) -> str:
    return unicodedata.normalize("NFC", email.strip()).casefold()
