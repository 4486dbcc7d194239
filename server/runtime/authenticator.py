"""Verification of credentials: the only place that maps tokens to sessions. The caller knows how a token was transported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from interlock.machine.errors import (
    CredentialInvalid,
    CredentialMissing,
    CredentialRefused,
    InterlockError,
    NotAuthenticated,
    OriginRefused,
    RateLimited,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
)
from interlock.machine.session.machine import authority_of, ensure_authority, ensure_usable
from interlock.machine.session.refresh_tokens import honoured
from interlock.machine.session.session import Session, ensure_alive, opens_until_ms, touch_due
from interlock.server.clock import Clock
from interlock.server.guard.throttling.limits import RateLimits
from interlock.server.guard.tickets import Tickets
from interlock.server.guard.tokens import Tokens, kid_of, subject_of
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.sessions import Sessions
from interlock.server.telemetry.context import note_session

T = TypeVar("T")

Check = Callable[[Session, int], None]
"""Checks a session at a time in ms: usable, or, for a credential that only ends the session, alive."""


class Authentication(msgspec.Struct, frozen=True):
    """The session of a valid access token, or of a ticket that was bought with one.

    ``authorised_until_ms`` is when the token expires. ``kid`` names the key that signed it.
    """

    session: Session
    authorised_until_ms: int
    kid: str


class Authenticator:
    """Authenticates tokens and tickets. The guard checks the token; the rules in ``machine`` check its session and account."""

    def __init__(
        self,
        sessions: Sessions,
        accounts: Accounts,
        tokens: Tokens,
        tickets: Tickets,
        limits: RateLimits,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._accounts = accounts
        self._tokens = tokens
        self._tickets = tickets
        self._limits = limits
        self._clock = clock

    async def by_access_token(self, token: str, check: Check = ensure_usable) -> Authentication:
        """Return the live session of ``token``.

        Raises:
            CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound: the token is not valid.
            SessionUnusable: ``check`` requires more than a live session.
        """
        claims = self._tokens.check_access_token(token)
        note_session(claims.sid)
        session = await self._sessions.load(claims.sid)
        with naming(claims.sid):
            ensure_authority(session, claims.epoch, self._clock.now_ms(), check=check)
            if claims.sub != subject_of(session):
                raise CredentialInvalid("the access token's subject is not its session's")
            await self._accounts.ensure_serves(session)
        return Authentication(session, claims.exp * 1000, kid_of(token))

    async def by_ticket(self, ticket: str) -> Authentication:
        """Return the live session of a single-use ticket. This uses the ticket up.

        Raises:
            CredentialInvalid, SessionEnded, SessionNotFound, TokenExpired: the ticket is not valid.
        """
        taken = await self._tickets.redeem(ticket)
        self._tokens.ensure_verifies(taken.kid)
        session = await self._sessions.load(taken.session_id)
        note_session(session.session_id)
        with naming(session.session_id):
            ensure_authority(session, taken.epoch, self._clock.now_ms())
            await self._accounts.ensure_serves(session)
        return Authentication(session, taken.authorised_until_ms, taken.kid)

    async def ensure_key_and_account(self, found: Authentication) -> None:
        """Check again, after waits, the key of ``found``, which no condition of an append covers; and its account, to say why.

        Raises:
            SessionEnded, TokenExpired: the account has taken its rights away, or the key is gone.
        """
        await self._accounts.ensure_serves(found.session)
        self._tokens.ensure_verifies(found.kid)

    async def by_refresh_token(self, token: str, check: Check = ensure_usable) -> tuple[Session, int]:
        """Return the live session and the rotation of ``token``, after checking its MAC. The caller decides about the rotation.

        Raises:
            CredentialInvalid, SessionEnded, SessionNotFound: it is not a refresh token of a live session's epoch.
            SessionUnusable: ``check`` requires more than a live session.
        """
        parsed = self._tokens.check_refresh_token(token)
        session = await self._sessions.load(parsed.session_id)
        with naming(session.session_id):
            note_session(session.session_id)
            now_ms = self._clock.now_ms()
            # CredentialInvalid, not TokenExpired: no refresh renews a token that a later login has superseded.
            ensure_authority(session, parsed.epoch, now_ms, superseded=CredentialInvalid, check=check)
            await self._accounts.ensure_serves(session)
        return session, parsed.rotation

    async def by_shown_refresh_token(self, token: str) -> tuple[Session, int]:
        """Authenticate as :meth:`by_refresh_token`, for a request that does not exchange the token.

        Presenting an old token here is no attempt to exchange it, so it is no sign of theft.

        Raises:
            TokenExpired: the token was exchanged more than one grace ago, or a second party holds it.
        """
        session, rotation = await self.by_refresh_token(token)
        now_ms = self._clock.now_ms()
        if now_ms >= opens_until_ms(session, rotation, now_ms):
            raise TokenExpired("the refresh token was already exchanged")
        return session, rotation

    async def by_any_token(self, token: str) -> Session | None:
        """Return the live session of ``token``, an access token or a refresh token, exchanged or not; else None."""
        try:
            return (await self.by_access_token(token, ensure_alive)).session
        except (CredentialRefused, SessionNotFound):
            pass
        try:
            return (await self.by_refresh_token(token, ensure_alive))[0]
        except (CredentialRefused, SessionNotFound):
            return None

    def exchangeable(self, session: Session, rotation: int) -> bool:
        """Return whether the refresh token of ``rotation`` would be exchanged."""
        return honoured(session.refresh_tokens, rotation, self._clock.now_ms()) is not None

    def exchanged(self, session: Session, rotation: int) -> bool:
        """Return whether the refresh token of ``rotation`` was exchanged, or can't be."""
        issued = honoured(session.refresh_tokens, rotation, self._clock.now_ms())
        return issued is None or issued.used_at_ms is not None

    async def note_activity(self, session: Session) -> Session:
        """Record activity in ``session``, unless it is anonymous and anonymous clients have reached their limit of writes.

        In that case the session still works, and expires as if this activity had not happened.
        """
        if session.subject is not None or not touch_due(session, self._clock.now_ms()):
            return await self._sessions.touch(session)
        try:
            with self._limits.anonymous():
                return await self._sessions.touch(session)
        except RateLimited:
            return session

    async def refuse_replaced(self, session: Session, kept: str | None) -> None:
        """End ``session`` if ``kept``, the refresh token in the browser's jar, is of another session and could be exchanged.

        Two tabs that each created a session share one jar, which keeps the later response's token. No browser uses the other
        session any more.

        Raises:
            SessionEnded: the session was ended here.
        """
        if kept is None or kept.startswith(f"{session.session_id}."):
            return
        try:
            other, rotation = await self.by_refresh_token(kept)
            if not self.exchangeable(other, rotation):
                return
            await self._sessions.end(session, "replaced", "server", under=authority_of(other))
        except (CredentialRefused, SessionNotFound):
            return
        raise SessionEnded("replaced")


async def first_good(session_of: Callable[[T], Session], *attempts: Callable[[], Awaitable[T]]) -> T:
    """Return the result of the first attempt that is not refused: a bad credential does not hide a good one.

    A bad credential that names a session is not skipped for a credential of another session, which may be another person's.
    ``session_of`` returns the session of a result.

    Raises:
        SessionEnded: an expired or superseded credential names another session than the good one.
        InterlockError: all are refused, or a refused one names another session.
    """
    refusals: list[InterlockError] = []
    for attempt in attempts:
        try:
            good = await attempt()
        except (CredentialRefused, SessionNotFound, NotAuthenticated, OriginRefused) as refused:
            refusals.append(refused)
        else:
            _refuse_another(refusals, session_of(good).session_id)
            return good
    raise most_helpful(refusals)


def _refuse_another(refusals: Sequence[InterlockError], session_id: str) -> None:
    for refusal in refusals:
        if refusal.session_id not in {None, session_id}:
            # TokenExpired asks the client to refresh, which would hand over the other session's tokens.
            raise SessionEnded("replaced") if isinstance(refusal, TokenExpired) else refusal


def most_helpful(refusals: Sequence[InterlockError]) -> InterlockError:
    """Return the refusal that best tells the client what to do next; among equals the last one."""
    return min(reversed(refusals), key=_rank)


def _rank(refusal: InterlockError) -> int:
    """Return the rank of a refusal. An expired token can be refreshed, so it comes first; a missing credential comes last."""
    match refusal:
        case TokenExpired():
            return 0
        case CredentialMissing():
            return 3
        case OriginRefused():
            return 2
    return 1


@contextmanager
def naming(session_id: str) -> Iterator[None]:
    """Store this session's id in every refusal raised inside: see :func:`first_good`."""
    try:
        yield
    except (CredentialRefused, NotAuthenticated) as refused:
        refused.session_id = session_id
        raise
