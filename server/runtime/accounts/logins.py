"""Registration, authentication by password or by an identity provider, password changes, and deletion by the owner."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from interlock.machine.account.account import Account, has_reset_code
from interlock.machine.account.commands import Delete, SetGroups
from interlock.machine.account.commitments import KEY_BYTES, commit
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
from interlock.machine.session.commands import Authenticate, Policy
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.guard.emails import normalise_email
from interlock.server.guard.oidc.id_tokens import VerifiedIdentity
from interlock.server.guard.passwords.hash_queue import Count, Requester
from interlock.server.guard.passwords.hashing import Passwords, uncounted
from interlock.server.guard.passwords.reset_codes import normalise_code
from interlock.server.guard.session_devices.kept import Device
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.door import Change, Recorded
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.accounts import Owner
from interlock.server.surface.exchanged_tokens import ExchangedTokenStore
from interlock.server.surface.log import Along

_TRIES: Final = 3
_WRONG_CODE: Final = "email or reset code is wrong, or the code is used up or too old"


class Reset(msgspec.Struct, frozen=True):
    """A password that was set with a code: the owner after it, and the receipt of the last record."""

    owner: Owner
    receipt: Receipt


class Login:
    """An authenticated login that is not recorded yet. It entitles the owner of ``account`` to one session.

    ``method`` is how the owner authenticated, and ``auth_age_ms`` how long ago, None if unknown. ``along`` is written in the
    transaction of the session's step. ``change``, of the account, is recorded with it. ``policy`` is that of a new session, if
    not the server's.
    """

    def __init__(  # noqa: PLR0913  # each part of it once, most by name
        self,
        sessions: Sessions,
        accounts: Accounts,
        account: Account,
        method: str,
        *,
        auth_age_ms: int | None = 0,
        along: Along | None = None,
        change: Change[Account] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.subject = account.account_id
        self._sessions = sessions
        self._accounts = accounts
        self._account = account
        self._method = method
        self._auth_age_ms = auth_age_ms
        self._along = along
        self._change = change
        self._policy = policy

    async def record(self, session: Session | None, device: Device | None = None) -> Recorded[Session]:
        """Upgrade ``session``, or create one if it is None. ``device``: the client's.

        The session is recorded only while the account is as it was when its owner authenticated, so that no session outlives
        its password or account. A later change of the account ends it.

        Raises:
            AccountDisabled, CredentialInvalid: the account has changed.
            SessionEnded, TransitionRefused: ``session`` can't be upgraded.
        """
        under = authority_of(self._account)
        try:
            outcome = await self._sessions.authenticate(
                session,
                Authenticate(self.subject, self._method, self._auth_age_ms, self._account.epoch),
                policy=self._policy,
                under=under,
                along=self._along,
                joined=self._change,
                device=device,
            )
        except AuthorityLost:
            await self._accounts.explain_lost(under)
            raise
        # This may be called a second time, if another tab ends the session before its tokens are sent.
        self._along = self._change = None
        return outcome


class Logins:
    """What owners do. ``register``: an unknown user of the identity provider gets an account at the first login."""

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
        """Create an account with a password. ``place`` is the key under which the client's address is rate-limited.

        Raises:
            AccountError: the address is invalid or taken, or the password breaks a rule; nothing changed.
        """
        normalised = normalise_email(email)
        requester = Requester(normalised, place)
        await self._passwords.check_new(password, [normalised], requester)
        password_hash = await self._passwords.hash(password, requester)
        return await self._accounts.register("anonymous", email=normalised, password_hash=password_hash)

    async def verify_password(self, requester: Requester, password: str, count: Count = uncounted) -> Owner:
        """Return the owner that ``password`` authenticates. An unknown address takes as long as a wrong password.

        A hash with old parameters is replaced. ``count`` counts the attempt; a successful one no longer counts.

        Raises:
            CredentialInvalid: address or password is wrong; the message does not say which.
            AccountDisabled: both are right and the account is disabled. Only the owner gets this error.
            Overloaded: too many hashes wait.
            RateLimited: ``count`` refused the attempt.
        """
        owner = await self._accounts.by_email(requester.account)
        stored = owner.data.password_hash if owner else None
        if not await self._passwords.verify(stored, password, requester, count) or owner is None or stored is None:
            raise CredentialInvalid("email or password is wrong")
        ensure_active(owner.account)
        if self._passwords.is_outdated(stored):
            # Another request may have changed or rehashed it. The login does not fail for this: the next one tries again.
            with suppress(Overloaded, TransitionRefused):
                await self._accounts.rehash(owner, await self._passwords.hash(password, requester))
        return owner

    def login(self, owner: Owner, policy: Policy | None = None) -> Login:
        """Return the login of ``owner``, who has authenticated by password. ``policy``: see :class:`Login`."""
        return Login(self._sessions, self._accounts, owner.account, "password", policy=policy)

    async def login_by(self, identity: VerifiedIdentity) -> Login:
        """Return the login of the user that a provider's token identifies. The token is used up when the session is recorded.

        An account is found only by issuer and subject. It is created if necessary, and gets the groups that the token names.

        Raises:
            CredentialInvalid: the token was exchanged before.
            AccountDisabled: the account is disabled.
            IdentityRefused: the user has no account.
        """
        await self._exchanged_tokens.ensure_new(identity.token_hash)
        account = await self._account_of(identity)
        change = None
        if identity.groups is not None and identity.groups != account.groups:
            change = self._accounts.change(
                account.account_id, f"provider:{identity.issuer}", SetGroups(identity.groups)
            )
        now_ms = self._clock.now_ms()
        # The allowed clock skew permits a time in the future. Without max() such a login would stay recent for longer.
        age_ms = None if identity.auth_time_ms is None else max(0, now_ms - identity.auth_time_ms)
        along = self._exchanged_tokens.use_up(identity.token_hash, identity.token_until_ms, now_ms)
        return Login(self._sessions, self._accounts, account, "oidc", auth_age_ms=age_ms, along=along, change=change)

    async def change_password(  # what is changed, and by whom
        self,
        session: Session,
        current: str,
        new: str,
        place: str,
        count: Count = uncounted,
        *,
        device: Device | None = None,
    ) -> tuple[Recorded[Session], Owner]:
        """Replace ``current`` by ``new`` for the subject of ``session``, and renew the session in the same transaction.

        From then on the old password and all other sessions of the account are refused: see :meth:`end_others`. ``place`` is
        the key under which the client's address is rate-limited, ``device`` the client. ``count`` counts the attempt, unless
        ``current`` is right.

        Raises:
            PasswordWrong: ``current`` is wrong.
            PasswordRefused: ``new`` breaks a rule.
            RateLimited: ``count`` refused the attempt.
            CredentialRefused: while the passwords were hashed, the session ended, lost its rights, or had another login.
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
                    device=device,
                )
            except (AccountDisabled, CredentialInvalid, TransitionRefused):
                # The account was changed, disabled or deleted meanwhile, or another login has rehashed the same password.
                await self._accounts.ensure_serves(session)
                owner = await self._accounts.by_id(subject) or owner
            else:
                data = msgspec.structs.replace(owner.data, password_hash=password_hash)
                return outcome, Owner(outcome.joined, data)
        raise PasswordWrong("the current password is wrong")

    async def reset_password(self, requester: Requester, code: str, new: str, count: Count = uncounted) -> Reset:
        """Set the password ``new`` with an administrator's ``code``, then end all sessions of the account.

        An unknown address takes as long as a wrong code. ``count`` counts the attempt, unless the code is right.

        Raises:
            CredentialInvalid: address or code is wrong, or the code is used up or too old; the message does not say which.
            PasswordRefused: ``new`` breaks a rule.
            Overloaded: too many hashes wait.
            RateLimited: ``count`` refused the attempt.
        """
        await self._passwords.check_new(new, [requester.account], requester)
        owner = await self._accounts.by_email(requester.account)
        committed = commit(owner.data.key if owner else bytes(KEY_BYTES), "reset_code", normalise_code(code))
        if owner is None or not has_reset_code(owner.account, committed, self._clock.now_ms()):
            await self._passwords.verify(None, code, requester, count)
            raise CredentialInvalid(_WRONG_CODE)
        password_hash = await self._passwords.hash(new, requester)
        try:
            outcome = await self._accounts.reset_password(owner, committed, password_hash)
        except TransitionRefused:
            raise CredentialInvalid(_WRONG_CODE) from None
        owner = Owner(outcome.instance, msgspec.structs.replace(owner.data, password_hash=password_hash))
        return Reset(owner, max(filter(None, [outcome.receipt, *await self.end_others(owner)])))

    async def end_others(self, owner: Owner) -> list[Receipt]:
        """End the sessions that the owner's password change has superseded. Return the receipts of the ends.

        If the server dies before all of them have ended, its next start ends the rest.
        """
        return await self._account_sessions.end_superseded_at_last(owner.account, owner.account_id)

    async def delete_account(self, session: Session) -> Receipt:
        """Delete the account of ``session`` and its personal data, then end all its sessions. Return the last receipt.

        From the first record on no session of the account serves. If the server dies before all of them have ended, its next
        start ends the rest.

        Raises:
            CredentialRefused: since the caller read the session, it has ended, lost its rights, or had another login.
        """
        subject, under = session.subject or "", session_machine.authority_of(session)
        try:
            outcome = await self._accounts.erase(subject, subject, Delete(), under=under)
        except (AccountDisabled, CredentialInvalid, TransitionRefused):
            await self._accounts.ensure_serves(session)
            raise
        except AuthorityLost:
            await self._sessions.explain_lost(under)
            raise
        ended = await self._account_sessions.end_superseded_at_last(outcome.instance, "server")
        return max(filter(None, [outcome.receipt, *ended]))

    async def _account_of(self, identity: VerifiedIdentity) -> Account:
        owner = await self._accounts.by_identity(identity.issuer, identity.subject)
        actor = f"provider:{identity.issuer}"
        if owner is None:
            if not self._register:
                raise IdentityRefused("this identity has no account, and registration is closed")
            try:
                owner = await self._accounts.register(
                    actor, issuer=identity.issuer, subject=identity.subject, groups=identity.groups or ()
                )
            except AccountExists:
                # Another token of the same user has created the account at the same moment.
                owner = await self._accounts.by_identity(identity.issuer, identity.subject)
        if owner is None:
            raise IdentityRefused("there is no account for this identity any more")
        ensure_active(owner.account)
        return owner.account
