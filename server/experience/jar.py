"""One browser has one session: tabs share a cookie jar, and concurrent calls of theirs must leave one session alive.

The cookie holds the refresh token of the jar's session. A second response overwrites it, and the cookie alone does not show
that there was a first. So each session given to a jar also leaves a *session marker*: a cookie of its own name, which
grants no access and shows that this browser had the session. A call continues with one session, and ends the others that it
presents.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.datastructures import Cookie

from interlock.machine.errors import (
    CredentialInvalid,
    CredentialRefused,
    InterlockError,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
    TransitionRefused,
)
from interlock.machine.ledger import Receipt
from interlock.machine.machine import Authority
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session, ensure_alive
from interlock.server.experience.admission import admit, admit_account
from interlock.server.experience.credentials import (
    COOKIE_NAME,
    authenticate_bearer,
    cookie,
    from_browser,
)
from interlock.server.experience.responses import TokenResponse, age_left_s, session_cookie, token_response
from interlock.server.runtime.accounts.logins import Login
from interlock.server.runtime.door import Outcome
from interlock.server.services import Services
from interlock.server.telemetry.context import note_session

_MARKER: Final = re.compile(
    rb"(?:^|;)[ \t]*"
    + COOKIE_NAME.encode()
    + rb"-([0-9a-v]{36})=(0|[1-9][0-9]{0,15})\.([A-Za-z0-9_-]{43})[ \t]*(?=;|$)"
)
_TRIES: Final = 3
"""Each attempt but the last lost its session to a concurrent call of the same browser, of which there are few."""


class Presented(msgspec.Struct):
    """The live sessions of a request's credentials and markers, the markers' epochs, and what was refused.

    ``sessions``: those that the request may end, even if their state forbids their use. ``logins``: those of them with a
    later login whose response may be lost or under way. ``others``: those that an old marker may not end. ``is_unused``:
    see :meth:`interlock.server.runtime.sessions.Sessions.is_unused`.
    """

    is_unused: Callable[[Session], bool]
    sessions: dict[str, Session]
    logins: list[Session]
    others: dict[str, Session]
    markers: dict[str, int]
    refused: list[InterlockError]

    def add(self, session: Session, epoch: int) -> bool:
        """Add a session that the browser was given at ``epoch``; return whether the request may end it.

        After a login it may not, or an attacker who planted an anonymous session in a browser could log out its user. The
        exception is a login whose tokens were never used: its response may be lost, and nobody else can end the session.
        """
        if epoch != session.epoch and not self.is_unused(session):
            self.others[session.session_id] = session
            return False
        self.sessions[session.session_id] = session
        if epoch != session.epoch:
            self.logins.append(session)
        return True


async def presented_sessions(services: Services, scope: Any, *tokens: str | None) -> Presented:
    """Collect the sessions of the bearer token, the body's refresh ``tokens``, the cookie and the session markers."""
    found = Presented(services.sessions.is_unused, {}, [], {}, _markers(services, scope), [])
    with _noted(found):
        session = (await authenticate_bearer(services, scope, ensure_alive)).session
        found.add(session, session.epoch)
    for token in (*tokens, cookie(scope)):
        if token is not None:
            with _noted(found):
                parsed = services.tokens.check_refresh_token(token)
                if not found.add(await _living(services, parsed.session_id), parsed.epoch):
                    raise CredentialInvalid("the refresh token was superseded by a later login")
    for session_id, epoch in found.markers.items():
        with suppress(SessionEnded, SessionNotFound):
            found.add(await _living(services, session_id), epoch)
    return found


async def issue_tokens(
    services: Services, scope: Any, session: Session, receipt: Receipt | None, status: int
) -> Response[TokenResponse]:
    """Respond with ``session``'s tokens. For a browser it becomes the jar's session, and the jar's others end.

    Raises:
        SessionEnded: another call of the browser has since chosen another session, or logged out.
        TokenExpired: another call has since logged in on this session.
    """
    if not from_browser(scope):
        return token_response(services, scope, session, receipt, status)
    found = await presented_sessions(services, scope)
    alive = {session.session_id: session}
    for other in found.sessions.values():
        if other.session_id != session.session_id:
            try:
                await services.sessions.end(
                    other, "replaced", "server", under=Authority(SESSION_MACHINE.kind, session.session_id)
                )
            except Overloaded:
                alive[other.session_id] = other  # Its marker stays, and the next call ends it.
    now = await _living(services, session.session_id)
    if now.epoch != session.epoch:
        raise TokenExpired("another tab has just logged in: refresh, or ask again")
    answer = token_response(services, scope, session, receipt, status)
    answer.cookies += [_marker_cookie(each, "", 0) for each in found.markers if each not in {*alive, *found.others}]
    note_session(session.session_id)
    max_age_s = age_left_s(services, session)
    for each in alive.values():
        if found.markers.get(each.session_id) != each.epoch:
            answer.cookies.append(_marker_cookie(each.session_id, services.tokens.marker(each), max_age_s))
    return answer


async def answer_with(
    services: Services, scope: Any, choose: Callable[[], Awaitable[tuple[Outcome[Session], int]]]
) -> Response[TokenResponse]:
    """Respond with the tokens of the session, and the status, that ``choose`` returns.

    If another call of the browser has since ended that session, ``choose`` runs again.

    Raises:
        SessionEnded, TokenExpired: every attempt failed as in :func:`issue_tokens`.
    """
    for left in reversed(range(_TRIES)):
        outcome, status = await choose()
        try:
            return await issue_tokens(services, scope, outcome.instance, outcome.receipt, status)
        except (SessionEnded, TokenExpired):
            if not left:
                raise
    raise AssertionError  # pragma: no cover  # the last try returns or raises


async def refresh(services: Services, scope: Any, session: Session, rotation: int) -> Outcome[Session]:
    """Exchange the refresh token of ``session`` and ``rotation``. It counts per account, or among all anonymous sessions.

    A reused token, which ends its session, is not counted. Otherwise a thief could use up the limit, so that the owner's
    exchange, which locks the thief out, would be refused.

    Raises:
        CredentialInvalid, SessionEnded: it was exchanged before, or the session has ended.
        RateLimited: there were too many.
    """
    counted = services.authenticator.exchangeable(session, rotation)
    if counted:
        admit_account(services, scope, "refresh", session.subject or session.session_id)
    with services.limits.anonymous() if counted and session.subject is None else nullcontext():
        return await services.sessions.refresh(
            session.session_id, session.epoch, rotation, session.subject or "anonymous"
        )


async def resume(services: Services, scope: Any) -> Outcome[Session] | None:
    """Continue the session of a browser's cookie by exchanging its refresh token. Return None if it opens none.

    Raises:
        TokenExpired: a login was just recorded that the cookie or a session marker predates.
        RateLimited: there were too many.
    """
    if not from_browser(scope):
        return None
    token = cookie(scope)
    if token is not None:
        admit(services, scope, "refresh")
        with suppress(CredentialRefused, SessionNotFound):
            session, rotation = await services.authenticator.by_refresh_token(token)
            return await refresh(services, scope, session, rotation)
    now_ms = services.clock.now_ms()
    for session in (await presented_sessions(services, scope)).logins:
        if now_ms < session.authenticated_at_ms + session.policy.refresh_grace_ms:
            # To end it would undo the login, and to go on with it would let in whoever planted the cookie.
            raise TokenExpired("another tab is just logging in: refresh, or ask again")
    return None


async def log_in(services: Services, scope: Any, login: Login) -> Response[TokenResponse]:
    """Log in the user that ``login`` authenticated, and respond with the tokens.

    Upgrades the session of the bearer token, or of the browser's cookie, or the subject's own that a session marker names;
    otherwise creates one. Neither a stale credential nor another user's login in the browser prevents a login.

    Raises:
        TransitionRefused: the bearer token is of another subject's live session.
    """

    async def upgrade(session: Session | None) -> tuple[Outcome[Session], int]:
        return await login.record(session), 200

    async def choose() -> tuple[Outcome[Session], int]:
        with suppress(CredentialRefused, SessionNotFound):
            return await upgrade((await authenticate_bearer(services, scope)).session)
        for session in await _held(services, scope, login.subject):
            with suppress(CredentialRefused, SessionNotFound, TransitionRefused):
                return await upgrade(session)
        return await upgrade(None)

    return await answer_with(services, scope, choose)


def clearing_cookies(found: Presented) -> list[Cookie]:
    """Return cookies that remove all of Interlock's from a jar, except the device cookie."""
    return [session_cookie("", 0), *[_marker_cookie(each, "", 0) for each in found.markers]]


async def _held(services: Services, scope: Any, subject: str) -> list[Session]:
    """Return the usable sessions of a browser that a login of ``subject`` may upgrade: the cookie's, then the markers'.

    A token from before a login qualifies too: that login's response may be lost, and its subject authenticates again.
    """
    if not from_browser(scope):
        return []
    held = []
    token = cookie(scope)
    if token is not None:
        with suppress(CredentialRefused, SessionNotFound):
            session = await services.authenticator.by_former_refresh_token(token)
            if session.subject in {None, subject}:
                held.append(session)
    found = await presented_sessions(services, scope)
    marked = [*found.sessions.values(), *found.others.values()]
    return held + [session for session in marked if session.session_id in found.markers and session.subject == subject]


@contextmanager
def _noted(found: Presented) -> Iterator[None]:
    try:
        yield
    except (CredentialRefused, SessionNotFound) as refused:
        found.refused.append(refused)


async def _living(services: Services, session_id: str) -> Session:
    session = await services.sessions.load(session_id)
    ensure_alive(session, services.clock.now_ms())
    return session


def _markers(services: Services, scope: Any) -> dict[str, int]:
    """Return the epoch of each session that the request has a valid marker of.

    All markers in the request's head count, because a skipped session would survive a logout. Each costs a read of its
    session, and its holder had to obtain that session first.
    """
    held = b";".join(value for key, value in scope["headers"] if key == b"cookie")
    named = [(match[1].decode(), int(match[2]), match[3].decode()) for match in _MARKER.finditer(held)]
    return {each: epoch for each, epoch, mac in named if services.tokens.check_marker(each, epoch, mac)}


def _marker_cookie(session_id: str, value: str, max_age_s: int) -> Cookie:
    return session_cookie(value, max_age_s, f"{COOKIE_NAME}-{session_id}")
