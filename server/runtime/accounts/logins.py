"""Logging in and what goes with it: register, prove a password or an identity, change the password."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from interlock.machine.account.account import Account
from interlock.machine.account.commands import SetGroups
from interlock.machine.account.machine import authority_of, ensure_active
from interlock.machine.errors import (
    AccountDisabled,
    AccountExists,
    AuthorityLost,
    CredentialInvalid,
    IdentityRefused,
    Overloaded,
    PasswordWrong,
    TransitionRefused,
)
from interlock.machine.ledger import Receipt
from interlock.machine.session import machine as session_machine
from interlock.machine.session.commands import Authenticate
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.guard.emails import normalise_email
from interlock.server.guard.oidc.id_tokens import Arrival
from interlock.server.guard.passwords.hash_queue import Count, Requester
from interlock.server.guard.passwords.hashing import Passwords, uncounted
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.door import Change, Outcome
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.accounts import Owner
from interlock.server.surface.exchanged_tokens import ExchangedTokenStore
from interlock.server.surface.log import Along

_TRIES: Final = 3


class Login:
    """One that is proved and not recorded yet: somebody is the owner of ``account``, and may have a session of it, once.

    ``method``: how they proved it; ``proof_age_ms``: how long ago, None if nobody knows. ``along`` goes with the session's
    step, and ``change``, of the account, is recorded with it.
    """

    def __init__(  # noqa: PLR0913  # each part of it once, most by name
        self,
        sessions: Sessions,
        accounts: Accounts,
        account: Account,
        method: str,
        *,
        proof_age_ms: int | None = 0,
        along: Along | None = None,
        change: Change[Account] | None = None,
    ) -> None:
        self.subject = account.account_id
        self._sessions = sessions
        self._accounts = accounts
        self._account = account
        self._method = method
        self._proof_age_ms = proof_age_ms
        self._along = along
        self._change = change

    async def record(self, session: Session | None) -> Outcome[Session]:
        """Upgrade ``session``, or begin one.

        No session outlives the password it was opened with, nor the account: it is recorded only while the account is what
        it was when its owner was proved. What changes the account later ends it.

        Raises:
            AccountDisabled, CredentialInvalid: the account is not what it was.
            SessionEnded, TransitionRefused: ``session`` can't be upgraded.
        """
        under = authority_of(self._account)
        try:
            outcome = await self._sessions.authenticate(
                session,
                Authenticate(self.subject, self._method, self._proof_age_ms, self._account.epoch),
                under=under,
                along=self._along,
                joined=self._change,
            )
        except AuthorityLost:
            await self._accounts.explain_lost(under)
            raise
        # Another tab may have ended the session before its tokens were sent: then there is a second one.
        self._along = self._change = None
        return outcome


class Logins:
    """Who may log in, and how. ``register``: whether a provider's token makes an account for whoever has none."""

    def __init__(  # noqa: PLR0913  # each by name
        self,
        *,
        accounts: Accounts,
        sessions: Sessions,
        account_sessions: AccountSessions,
        passwords: Passwords,
        exchanged_tokens: ExchangedTokenStore,
        clock: Clock,
        register: bool,
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._account_sessions = account_sessions
        self._passwords = passwords
        self._exchanged_tokens = exchanged_tokens
        self._clock = clock
        self._register = register

    async def register(self, email: str, password: str, place: str) -> Owner:
        """Make an account with a password. ``place`` is the key by which the client's address is limited.

        Raises:
            AccountError: the address is none, or is taken, or the password breaks a rule; nothing changed.
        """
        normalised = normalise_email(email)
        requester = Requester(normalised, place)
        await self._passwords.check_new(password, [normalised], requester)
        password_hash = await self._passwords.hash(password, requester)
        return await self._accounts.register("anonymous", email=normalised, password_hash=password_hash)

    async def prove(self, requester: Requester, password: str, count: Count = uncounted) -> Owner:
        """The owner of the account that ``password`` opens. An unknown address takes as long as a wrong password.

        A hash of older parameters is replaced on the way. ``count`` counts the try, which no longer counts if it was right.

        Raises:
            CredentialInvalid: there is none; the message does not say which of the two was wrong.
            AccountDisabled: both are right, and the account is disabled: nobody else is told.
            Overloaded: too many hashes wait.
            RateLimited: ``count`` refused it.
        """
        owner = await self._accounts.by_email(requester.account)
        stored = owner.data.password_hash if owner else None
        if not await self._passwords.verify(stored, password, requester, count) or owner is None or stored is None:
            raise CredentialInvalid("email or password is wrong")
        ensure_active(owner.account)
        if self._passwords.is_outdated(stored):
            # Unless somebody else has changed or rehashed it meanwhile. Not worth a failed login: the next one tries again.
            with suppress(Overloaded, TransitionRefused):
                await self._accounts.rehash(owner, await self._passwords.hash(password, requester))
        return owner

    def login(self, owner: Owner) -> Login:
        """That of ``owner``, who has proved it by their password."""
        return Login(self._sessions, self._accounts, owner.account, "password")

    async def login_by(self, arrival: Arrival) -> Login:
        """That of whoever a provider vouches for with a token; with the session the token is used up.

        An account is only ever found by issuer and subject. It is made if need be, and gets the groups that the token names.

        Raises:
            CredentialInvalid: the token was exchanged before.
            IdentityRefused: there is no account for them, or it is disabled.
        """
        await self._exchanged_tokens.ensure_new(arrival.token_hash)
        account = await self._account_of(arrival)
        change = None
        if arrival.groups is not None and arrival.groups != account.groups:
            change = self._accounts.change(account.account_id, f"provider:{arrival.issuer}", SetGroups(arrival.groups))
        now_ms = self._clock.now_ms()
        # Not in the future, for which clock skew is granted: it would be recent for longer.
        age_ms = None if arrival.proved_at_ms is None else max(0, now_ms - arrival.proved_at_ms)
        along = self._exchanged_tokens.use_up(arrival.token_hash, arrival.token_until_ms, now_ms)
        return Login(self._sessions, self._accounts, account, "oidc", proof_age_ms=age_ms, along=along, change=change)

    async def change_password(
        self, session: Session, current: str, new: str, place: str, count: Count = uncounted
    ) -> tuple[Outcome[Session], Owner]:
        """Replace ``current`` by ``new`` for the subject of ``session``, which is renewed by that, in one transaction.

        Nobody comes in by the old password any more, and no other session of the account serves: see :meth:`end_others`.
        ``place`` is the key by which the client's address is limited. ``count`` counts the try, unless ``current`` is right.

        Raises:
            PasswordWrong: ``current`` is wrong.
            PasswordRefused: ``new`` breaks a rule.
            RateLimited: ``count`` refused it.
            CredentialRefused: the session has ended or serves no more, or somebody has logged in on it, while the passwords
                were hashed.
        """
        subject = session.subject or ""
        owner = await self._accounts.by_id(subject)
        email = owner.data.email if owner else None
        requester = Requester(email or subject, place, known=True)
        stored = owner.data.password_hash if owner else None
        if not await self._passwords.verify(stored, current, requester, count) or owner is None:
            raise PasswordWrong("the current password is wrong")
        await self._passwords.check_new(new, [email] if email else [], requester)
        password_hash = await self._passwords.hash(new, requester)
        for _ in range(_TRIES):
            try:
                outcome = await self._sessions.authenticate(
                    session,
                    Authenticate(subject, "password_change", account_epoch=owner.account.epoch + 1),
                    under=session_machine.authority_of(session),
                    joined=self._accounts.password_change(owner, password_hash),
                )
            except (AccountDisabled, CredentialInvalid, TransitionRefused):
                # It has been changed, disabled or deleted meanwhile, unless another login has hashed the same password again.
                await self._accounts.ensure_serves(session)
                owner = await self._accounts.by_id(subject) or owner
            else:
                data = msgspec.structs.replace(owner.data, password_hash=password_hash)
                return outcome, Owner(outcome.joined, data)
        raise PasswordWrong("the current password is wrong")

    async def end_others(self, owner: Owner) -> list[Receipt]:
        """End the sessions that a change of password of ``owner`` has superseded; the receipts of their ends.

        Should the server die before all of them have ended, its next start ends them.
        """
        return await self._account_sessions.end_superseded_at_last(owner.account, owner.account_id)

    async def _account_of(self, arrival: Arrival) -> Account:
        owner = await self._accounts.by_identity(arrival.issuer, arrival.subject)
        actor = f"provider:{arrival.issuer}"
        if owner is None:
            if not self._register:
                raise IdentityRefused("nobody is registered for this identity, and registration is closed")
            try:
                owner = await self._accounts.register(
                    actor, issuer=arrival.issuer, subject=arrival.subject, groups=arrival.groups or ()
                )
            except AccountExists:
                # By another token, in the same moment.
                owner = await self._accounts.by_identity(arrival.issuer, arrival.subject)
        if owner is None:
            raise IdentityRefused("there is no account for this identity any more")
        try:
            ensure_active(owner.account)
        except AccountDisabled as disabled:
            raise IdentityRefused(str(disabled)) from None
        return owner.account
