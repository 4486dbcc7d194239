"""One browser has one session: its tabs share what it stores, and concurrent calls of theirs must leave one session alive.

A browser keeps the refresh token of its session. A second response overwrites it, and the token alone does not show that there
was a first. So each session given to a browser also leaves a *session marker*, which grants no access and shows that this
browser had the session. A call continues with one session, and ends the others that it presents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from operator import itemgetter
from typing import Final

import msgspec

from interlock.machine.errors import (
    CredentialInvalid,
    CredentialMissing,
    CredentialRefused,
    InterlockError,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
    TransitionRefused,
)
from interlock.machine.ledger import Receipt
from interlock.machine.session.machine import authority_of, ensure_usable
from interlock.machine.session.session import Session, ensure_alive
from interlock.server.clock import Clock
from interlock.server.guard.session_devices.kept import Device
from interlock.server.guard.throttling.limits import LimitedAction, RateLimits
from interlock.server.guard.tokens import Tokens
from interlock.server.runtime.accounts.logins import Login
from interlock.server.runtime.authenticator import Authenticator, Check, first_good, most_helpful, naming
from interlock.server.runtime.door import Recorded
from interlock.server.runtime.sessions import Sessions
from interlock.server.telemetry.context import note_session

_TRIES: Final = 3
"""Each attempt but the last lost its session to a concurrent call of the same browser, of which there are few."""


class Presented(msgspec.Struct, frozen=True):
    """The credentials and markers that a call presents.

    ``by_page``: a browser's page makes the call; a program may have several sessions. ``access_token``: the token, or the
    refusal if there is none. ``kept``: the refresh token that the browser keeps. ``markers``: the session of each valid
    marker, and the epoch at which the browser was given it. ``address``: the client's; None if it is exempt from limits.
    ``device``: the client, to be stored with a session of an account.
    """

    by_page: bool
    access_token: str | CredentialRefused
    kept: str | None
    markers: dict[str, int]
    address: str | None
    device: Device | None = None


class Continuation(msgspec.Struct, frozen=True):
    """The outcome for the session that continues, the sessions to ``mark`` in the browser, and the markers to remove."""

    outcome: Recorded[Session]
    mark: list[Session]
    unmark: list[str]


class _Found(msgspec.Struct):
    """The live sessions of the credentials and markers that were presented, and what was refused.

    ``sessions``: those that the call may end, even if their state forbids their use. ``logins``: those of them with a
    later login whose response may be lost or under way. ``others``: those that an old marker may not end. ``kept``: the id
    of the session that the kept token is, or was, a refresh token of.
    """

    kept: str | None = None
    sessions: dict[str, Session] = {}
    logins: list[Session] = []
    others: dict[str, Session] = {}
    refused: list[InterlockError] = []

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Collect a refusal that the body raises."""
        try:
            yield
        except (CredentialRefused, SessionNotFound) as refused:
            self.refused.append(refused)


class BrowserSessions:
    """Decides which session of a browser continues, and ends the others."""

    def __init__(
        self, sessions: Sessions, authenticator: Authenticator, tokens: Tokens, limits: RateLimits, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._authenticator = authenticator
        self._tokens = tokens
        self._limits = limits
        self._clock = clock

    async def begin(self, presented: Presented) -> Continuation:
        """Continue the session of the kept refresh token by exchanging it. Create one if it opens none.

        Raises:
            TokenExpired: a login was just recorded that the kept token or a marker predates.
            RateLimited: there were too many.
            SessionEnded: every attempt failed as in :meth:`keep`.
        """
        return await self._settle(presented, partial(self._resume_or_begin, presented))

    async def log_in(self, presented: Presented, login: Login) -> Continuation:
        """Log in the user that ``login`` authenticated.

        Upgrades the session of the access token, or of the kept token, or the subject's own that a marker names; otherwise
        creates one. Neither a stale credential nor another user's login in the browser prevents a login.

        Raises:
            TransitionRefused: the access token is of another subject's live session.
            SessionEnded, TokenExpired: every attempt failed as in :meth:`keep`.
        """

        async def choose() -> Recorded[Session]:
            with suppress(CredentialRefused, SessionNotFound):
                return await login.record(await self._by_access_token(presented, ensure_usable), presented.device)
            for session in await self._held(presented, login.subject) if presented.by_page else ():
                with suppress(CredentialRefused, SessionNotFound, TransitionRefused):
                    return await login.record(session, presented.device)
            return await login.record(None, presented.device)

        return await self._settle(presented, choose)

    async def refresh(self, presented: Presented, token: str | None) -> Continuation:
        """Exchange the refresh ``token``, or the kept one.

        A used token, which ends its session, does not hide a valid one of the same session.

        Raises:
            CredentialRefused, SessionNotFound: there is no refresh token, none opens a live session, or ``token`` is invalid
                and names another session than the kept one.
            RateLimited: there were too many.
        """
        used: list[tuple[Session, int]] = []

        async def prove(each: str) -> tuple[Session, int]:
            session, rotation = await self._authenticator.by_refresh_token(each)
            with naming(session.session_id):
                if not self._authenticator.exchangeable(session, rotation):
                    used.append((session, rotation))
                    raise CredentialInvalid("the refresh token was already exchanged")
            return session, rotation

        attempts = [partial(prove, each) for each in (token, presented.kept) if each]
        if not attempts:
            raise CredentialMissing("send refresh_token, or the cookie")
        try:
            good = await first_good(itemgetter(0), *attempts)
        except (CredentialRefused, SessionNotFound):
            if not used:
                raise
            good = used[0]
        return await self.keep(presented, await self._exchange(presented, *good))

    async def log_out(self, presented: Presented, token: str | None) -> Receipt | None:
        """End all sessions that are presented, including that of the refresh ``token``. Return the receipt of the last end.

        A failure with one does not keep the next from ending.

        Raises:
            CredentialRefused, SessionNotFound: there is none.
            Overloaded: some sessions are still alive.
        """
        found = await self._look(presented, token)
        receipts, overloaded = [], None
        for session in found.sessions.values():
            try:
                receipts.append(await self._sessions.end(session, "logout", session.subject or "anonymous"))
            except Overloaded as error:
                overloaded = error
        if overloaded is not None:
            raise overloaded
        if not found.sessions:
            raise most_helpful(found.refused)
        return max(filter(None, receipts), default=None)

    async def keep(self, presented: Presented, outcome: Recorded[Session]) -> Continuation:
        """Make the session of ``outcome`` the browser's, and end the browser's others.

        Raises:
            SessionEnded: another call of the browser has since chosen another session, or logged out.
            TokenExpired: another call has since logged in on this session.
        """
        if not presented.by_page:
            return Continuation(outcome, [], [])
        session = outcome.instance
        found = await self._look(presented)
        alive = {session.session_id: session}
        for other in found.sessions.values():
            if other.session_id != session.session_id:
                try:
                    await self._sessions.end(other, "replaced", "server", under=authority_of(session))
                except Overloaded:
                    alive[other.session_id] = other  # Its marker stays, and the next call ends it.
        if (await self._living(session.session_id)).epoch != session.epoch:
            raise TokenExpired("another tab has just logged in: refresh, or ask again")
        note_session(session.session_id)
        markers = presented.markers
        return Continuation(
            outcome,
            mark=[each for each in alive.values() if markers.get(each.session_id) != each.epoch],
            unmark=[each for each in markers if each not in {*alive, *found.others}],
        )

    async def _settle(self, presented: Presented, choose: Callable[[], Awaitable[Recorded[Session]]]) -> Continuation:
        """Keep the session that ``choose`` returns. If another call of the browser has since ended it, choose again."""
        for _ in range(_TRIES - 1):
            outcome = await choose()
            with suppress(SessionEnded, TokenExpired):
                return await self.keep(presented, outcome)
        return await self.keep(presented, await choose())

    async def _resume_or_begin(self, presented: Presented) -> Recorded[Session]:
        if presented.by_page:
            if presented.kept is not None:
                self._admit(presented, "refresh")
                with suppress(CredentialRefused, SessionNotFound):
                    session, rotation = await self._authenticator.by_refresh_token(presented.kept)
                    return await self._exchange(presented, session, rotation)
            now_ms = self._clock.now_ms()
            for session in (await self._look(presented)).logins:
                if now_ms < session.authenticated_at_ms + session.policy.refresh_grace_ms:
                    # To end it would undo the login, and to go on with it would let in whoever planted the kept token.
                    raise TokenExpired("another tab is just logging in: refresh, or ask again")
        self._admit(presented, "create_session")
        with self._limits.anonymous():
            return await self._sessions.begin("anonymous")

    async def _exchange(self, presented: Presented, session: Session, rotation: int) -> Recorded[Session]:
        """Exchange the refresh token of ``session`` and ``rotation``. It counts per account, or among all anonymous sessions.

        A reused token, which ends its session, is not counted. Otherwise a thief could use up the limit, so that the
        owner's exchange, which locks the thief out, would be refused.
        """
        counted = self._authenticator.exchangeable(session, rotation)
        if counted and presented.address is not None:
            self._limits.of_account("refresh", session.subject or session.session_id)
        with self._limits.anonymous() if counted and session.subject is None else nullcontext():
            return await self._sessions.refresh(
                session.session_id,
                session.epoch,
                rotation,
                session.subject or "anonymous",
                under=authority_of(session).rests_on,
                device=None if session.subject is None else presented.device,
            )

    async def _held(self, presented: Presented, subject: str) -> list[Session]:
        """Return the live sessions that a login of ``subject`` may upgrade: the kept token's, then the markers'.

        A token from before a login qualifies too: that login's response may be lost, and its subject authenticates again.
        """
        found = await self._look(presented)
        given = [*found.sessions.values(), *found.others.values()]
        kept = [each for each in given if each.session_id == found.kept and each.subject in {None, subject}]
        return kept + [each for each in given if each.session_id in presented.markers and each.subject == subject]

    async def _look(self, presented: Presented, *tokens: str | None) -> _Found:
        """Collect the live sessions of the access token, the refresh ``tokens``, the kept one and the markers."""
        found = _Found()
        with found.noting():
            session = await self._by_access_token(presented, ensure_alive)
            self._add(found, session, session.epoch)
        for token in (*tokens, presented.kept):
            if token is not None:
                with found.noting():
                    parsed = self._tokens.check_refresh_token(token)
                    found.kept = parsed.session_id if token is presented.kept else None
                    if not self._add(found, await self._living(parsed.session_id), parsed.epoch):
                        raise CredentialInvalid("the refresh token was superseded by a later login")
        for session_id, epoch in presented.markers.items():
            with suppress(SessionEnded, SessionNotFound):
                self._add(found, await self._living(session_id), epoch, may_end=epoch > 0)
        return found

    def _add(self, found: _Found, session: Session, epoch: int, *, may_end: bool = False) -> bool:
        """Add a session that the browser was given at ``epoch``; return whether the call may end it.

        After a login it may not, or an attacker who planted an anonymous session in a browser could log out its user. There
        are two exceptions. The tokens of the login were never used: its response may be lost, and nobody else can end the
        session. Or ``may_end``: the marker is from after an earlier login on the session, and so of the same subject.
        """
        if epoch != session.epoch and not may_end and not self._sessions.is_unused(session):
            found.others[session.session_id] = session
            return False
        found.sessions[session.session_id] = session
        if epoch != session.epoch:
            found.logins.append(session)
        return True

    async def _by_access_token(self, presented: Presented, check: Check) -> Session:
        if not isinstance(presented.access_token, str):
            raise presented.access_token
        return (await self._authenticator.by_access_token(presented.access_token, check)).session

    async def _living(self, session_id: str) -> Session:
        session = await self._sessions.load(session_id)
        ensure_alive(session, self._clock.now_ms())
        return session

    def _admit(self, presented: Presented, kind: LimitedAction) -> None:
        if presented.address is not None:
            self._limits.of_address(kind, presented.address)
