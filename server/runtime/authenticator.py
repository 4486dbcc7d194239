"""From tokens to sessions: the one place where a credential is found good or not. How it travelled, the caller knows."""

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
from interlock.machine.machine import Authority
from interlock.machine.session.machine import SESSION_MACHINE, ensure_authority, ensure_usable
from interlock.machine.session.refresh_tokens import honoured
from interlock.machine.session.session import Session, ensure_alive, opens_until_ms, touch_due
from interlock.server.clock import Clock
from interlock.server.guard.throttling.limits import Limits
from interlock.server.guard.tickets import Tickets
from interlock.server.guard.tokens import Tokens, kid_of, subject_of
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.sessions import Sessions
from interlock.server.telemetry.context import note_session

T = TypeVar("T")

Check = Callable[[Session, int], None]
"""What a session has to be at a time in ms for a credential of it to count: usable, or, to be ended, only alive."""


class Authentication(msgspec.Struct, frozen=True):
    """A session of which a valid access token was shown, or a ticket that one bought.

    ``authorised_until_ms``: when the token expires. ``kid``: the key that signed it.
    """

    session: Session
    authorised_until_ms: int
    kid: str


class Authenticator:
    """Authenticates tokens and tickets: the guard checks the token, the machines' rules its session and the account."""

    def __init__(  # one of each kind, so that the types tell them apart
        self,
        sessions: Sessions,
        accounts: Accounts,
        tokens: Tokens,
        tickets: Tickets,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._accounts = accounts
        self._tokens = tokens
        self._tickets = tickets
        self._limits = limits
        self._clock = clock

    async def by_access_token(self, token: str, check: Check = ensure_usable) -> Authentication:
        """The living session that ``token`` opens.

        Raises:
            CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound: it opens none.
            SessionUnusable: ``check`` asks for more than a living session.
        """
        claims = self._tokens.check_access_token(token)
        note_session(claims.sid)
        session = self._sessions.cached(claims.sid) or await self._sessions.load(claims.sid)
        with naming(claims.sid):
            ensure_authority(session, claims.epoch, self._clock.now_ms(), check=check)
            if claims.sub != subject_of(session):
                raise CredentialInvalid("the access token's subject is not its session's")
            await self._accounts.ensure_serves(session)
        return Authentication(session, claims.exp * 1000, kid_of(token))

    async def by_ticket(self, ticket: str) -> Authentication:
        """The living session that a single-use ticket opens; the ticket is used up by this.

        Raises:
            CredentialInvalid, SessionEnded, SessionNotFound, TokenExpired: it opens none.
        """
        taken = await self._tickets.redeem(ticket)
        self._tokens.ensure_verifies(taken.kid)
        session = await self._sessions.load(taken.session_id)
        note_session(session.session_id)
        with naming(session.session_id):
            ensure_authority(session, taken.epoch, self._clock.now_ms())
            await self._accounts.ensure_serves(session)
        return Authentication(session, taken.authorised_until_ms, taken.kid)

    async def by_refresh_token(self, token: str, check: Check = ensure_usable) -> tuple[Session, int]:
        """The living session and the rotation of ``token``, whose MAC holds; what the rotation means, others ask for.

        Raises:
            CredentialInvalid, SessionEnded, SessionNotFound: it is no refresh token of a living session's epoch.
            SessionUnusable: ``check`` asks for more than a living session.
        """
        parsed = self._tokens.check_refresh_token(token)
        session = await self._sessions.load(parsed.session_id)
        with naming(session.session_id):
            note_session(session.session_id)
            now_ms = self._clock.now_ms()
            # Nothing renews a refresh token that a later login has superseded.
            ensure_authority(session, parsed.epoch, now_ms, superseded=CredentialInvalid, check=check)
            await self._accounts.ensure_serves(session)
        return session, parsed.rotation

    async def by_shown_refresh_token(self, token: str) -> tuple[Session, int]:
        """As :meth:`by_refresh_token`, of a token that opens something without being exchanged.

        To show an old one is no attempt to exchange it, so no sign of theft.

        Raises:
            TokenExpired: it was exchanged longer than a grace ago, or is in a second hand.
        """
        session, rotation = await self.by_refresh_token(token)
        now_ms = self._clock.now_ms()
        if now_ms >= opens_until_ms(session, rotation, now_ms):
            raise TokenExpired("the refresh token was already exchanged")
        return session, rotation

    async def by_former_refresh_token(self, token: str) -> Session:
        """The living session that ``token`` is or was a refresh token of, also before a login. By itself it opens nothing.

        Raises:
            CredentialInvalid, SessionEnded, SessionNotFound: there is none.
        """
        session = await self._sessions.load(self._tokens.check_refresh_token(token).session_id)
        note_session(session.session_id)
        ensure_usable(session, self._clock.now_ms())
        return session

    async def by_any_token(self, token: str) -> Session | None:
        """The living session that ``token`` is of, be it an access token or a refresh token, exchanged or not; else None."""
        try:
            return (await self.by_access_token(token, ensure_alive)).session
        except (CredentialRefused, SessionNotFound):
            pass
        try:
            return (await self.by_refresh_token(token, ensure_alive))[0]
        except (CredentialRefused, SessionNotFound):
            return None

    def exchangeable(self, session: Session, rotation: int) -> bool:
        """Whether the refresh token of ``rotation`` would be exchanged."""
        return honoured(session.refresh_tokens, rotation, self._clock.now_ms()) is not None

    def exchanged(self, session: Session, rotation: int) -> bool:
        """Whether the refresh token of ``rotation`` was exchanged, or can't be."""
        issued = honoured(session.refresh_tokens, rotation, self._clock.now_ms())
        return issued is None or issued.used_at_ms is not None

    async def note_activity(self, session: Session) -> Session:
        """Note activity in ``session``, unless it is anonymous and too much is written for those who have not logged in.

        Then it goes on, and ends when it would have without this activity.
        """
        if session.subject is not None or not touch_due(session, self._clock.now_ms()):
            return await self._sessions.touch(session)
        try:
            with self._limits.anonymous():
                return await self._sessions.touch(session)
        except RateLimited:
            return session

    async def refuse_replaced(self, session: Session, kept: str | None) -> None:
        """End ``session`` if ``kept``, the refresh token of the browser that calls on it, could be exchanged, and is another's.

        Two tabs that began a session each share one jar, which holds the later answer's. The other session is nobody's then.

        Raises:
            SessionEnded: it was.
        """
        if kept is None or kept.startswith(f"{session.session_id}."):
            return
        try:
            other, rotation = await self.by_refresh_token(kept)
            if not self.exchangeable(other, rotation):
                return
            under = Authority(SESSION_MACHINE.kind, other.session_id)
            await self._sessions.end(session, "replaced", "server", under=under)
        except (CredentialRefused, SessionNotFound):
            return
        raise SessionEnded("replaced")


async def first_good(session_of: Callable[[T], Session], *attempts: Callable[[], Awaitable[T]]) -> T:
    """Return what the first of ``attempts`` returns that is not refused: a bad credential does not hide a good one.

    A bad credential that names a session is not passed over for a credential of another session, which may be another
    person's. ``session_of`` says which session was opened.

    Raises:
        SessionEnded: an expired or superseded credential names another session than the good one beside it.
        InterlockError: all are refused, or one that names another session is.
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
            # To refresh would hand over the other session's tokens.
            raise SessionEnded("replaced") if isinstance(refusal, TokenExpired) else refusal


def most_helpful(refusals: Sequence[InterlockError]) -> InterlockError:
    """Of several refusals, the one that says most about what to do next; of those alike the last one."""
    return min(reversed(refusals), key=_rank)


def _rank(refusal: InterlockError) -> int:
    """An expired token can be refreshed, so that comes first; that a credential is missing matters only if all are."""
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
    """Note in every refusal from within that the credential names this session: see :func:`first_good`."""
    try:
        yield
    except (CredentialRefused, NotAuthenticated) as refused:
        refused.session_id = session_id
        raise
