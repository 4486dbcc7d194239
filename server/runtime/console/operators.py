"""Operators: accounts in one of two groups, signed in to the console with a session of its own (ADR 74)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.machine import ensure_serves
from interlock.machine.errors import (
    AuthorityLost,
    CredentialInvalid,
    CredentialRefused,
    RoleMissing,
    SessionNotFound,
)
from interlock.machine.machine import Authority
from interlock.machine.session.commands import Policy
from interlock.machine.session.machine import authority_of, ensure_authority
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.guard.tokens import Tokens
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.accounts.logins import Login
from interlock.server.runtime.sessions import Sessions


class Groups(msgspec.Struct, frozen=True):
    """The groups whose members may look, and those whose members may also act. Empty: none."""

    look: str
    act: str

    @property
    def named(self) -> bool:
        """Whether there can be operators."""
        return bool(self.look or self.act)

    def role(self, account: Account) -> bool | None:
        """Return whether ``account`` may act, or None if it may not even look."""
        if self.act and self.act in account.groups:
            return True
        return False if self.look and self.look in account.groups else None


class Operator(msgspec.Struct, frozen=True):
    """A signed-in operator, and whether it may act."""

    session: Session
    account: Account
    may_act: bool

    @property
    def actor(self) -> str:
        """The name in the records of what the operator does: that of an administrator, so the audit trail has them."""
        return f"admin:{self.account.account_id}"

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[Authority]:
        """Give the authority for the records of a call: the operator's session and account.

        Raises:
            CredentialInvalid: the session's end or another login on it was recorded first, or the account lost its rights.
        """
        try:
            yield authority_of(self.session)
        except AuthorityLost:
            raise CredentialInvalid("the operator's session ended first") from None


class Operators:
    """Signs operators in, and recognises them. ``policy`` is that of their sessions in the console."""

    def __init__(
        self, sessions: Sessions, accounts: Accounts, tokens: Tokens, clock: Clock, groups: Groups, policy: Policy
    ) -> None:
        self.policy: Final = policy
        self._sessions = sessions
        self._accounts = accounts
        self._tokens = tokens
        self._clock = clock
        self._groups = groups

    async def sign_in(self, login: Login, held: str | None) -> tuple[Session, str]:
        """Record ``login``, of an account that may look. Return its session, and the value of the browser's cookie.

        ``held`` is the cookie that the browser has. Its session goes on if it is of the same account, and ends if not.

        Raises:
            RoleMissing: the account is no operator's. Nothing is recorded.
            AccountDisabled, CredentialInvalid: the account has changed since its password was verified.
        """
        if self._groups.role(await self._accounts.standing(login.subject)) is None:
            raise RoleMissing("the console")
        before = None
        if held is not None:
            with suppress(CredentialRefused):
                before = await self._session_of(held)
        if before is not None and before.subject == login.subject:
            with suppress(CredentialRefused):
                session = (await login.record(before)).instance
                return session, self._tokens.console_token(session)
        session = (await login.record(None)).instance
        if before is not None:
            await self._sessions.end(before, "replaced", "server", under=authority_of(session))
        return session, self._tokens.console_token(session)

    async def sign_out(self, held: str) -> None:
        """End the session of the cookie ``held``, if it lives."""
        with suppress(CredentialRefused):
            session = await self._session_of(held)
            await self._sessions.end(session, "logout", session.subject or "")

    async def authenticate(self, held: str) -> Operator:
        """Return the operator whose browser shows the cookie ``held``: session, account and groups as they are now.

        Raises:
            CredentialRefused: the session is not alive, had another login, or its account lost its rights.
            RoleMissing: the account is in neither group any more.
        """
        session = await self._session_of(held)
        account = await self._accounts.standing(session.subject or "")
        ensure_serves(account, session.account_epoch)
        may_act = self._groups.role(account)
        if may_act is None:
            raise RoleMissing("the console")
        return Operator(session, account, may_act)

    async def _session_of(self, held: str) -> Session:
        session_id, epoch = self._tokens.check_console_token(held)
        try:
            session = await self._sessions.load(session_id)
        except SessionNotFound:
            raise CredentialInvalid("the session of this cookie does not exist") from None
        ensure_authority(session, epoch, self._clock.now_ms())
        return session
