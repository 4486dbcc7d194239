"""One browser has one session. Its tabs share a cookie jar, and what they do at the same time must not leave two alive.

The cookie holds the refresh token of the jar's session. A second answer overwrites it, and nobody can tell from the cookie
alone that there was a first. So each session that a jar is given also leaves a *stub*: a cookie of its own name, which opens
nothing and shows that this browser had the session. Whichever session a call goes on with, the others that it shows end.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.datastructures import Cookie

from machine.errors import (
    CredentialRefused,
    InterlockError,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
    TransitionRefused,
)
from machine.ledger import Receipt
from machine.session import Session
from server.context import note_session
from server.experience.answers import TokenAnswer, age_left_s, session_cookie, token_answer
from server.experience.credentials import (
    COOKIE_NAME,
    cookie,
    from_browser,
    prove_bearer,
    prove_held,
    prove_refresh_token,
)
from server.experience.traffic import admit, admit_account
from server.runtime.sessions import Outcome, ensure_alive
from server.services import Services
from server.surface.log import Along

_STUB: Final = re.compile(
    rb"(?:^|;)[ \t]*"
    + COOKIE_NAME.encode()
    + rb"-([0-9a-v]{36})=(0|[1-9][0-9]{0,15})\.([A-Za-z0-9_-]{43})[ \t]*(?=;|$)"
)
_STUBS: Final = 16
"""So many are looked at: each costs a read of its session."""


class Shown(msgspec.Struct):
    """The living sessions that a request is good for ending, the epochs of its stubs, and what was refused.

    ``others``: living sessions that it has an old stub of, which is good for nothing.
    """

    sessions: dict[str, Session]
    others: dict[str, Session]
    stubs: dict[str, int]
    refused: list[InterlockError]


async def shown(services: Services, scope: Any, *tokens: str | None) -> Shown:
    """What the request shows: by its bearer token, the refresh ``tokens`` of its body, its cookie and its stubs."""
    found = Shown({}, {}, {}, [])
    with _noted(found):
        session = (await prove_bearer(services, scope)).session
        found.sessions[session.session_id] = session
    for token in (*tokens, cookie(scope)):
        if token is not None:
            with _noted(found):
                session, _ = await prove_refresh_token(services, token)
                found.sessions[session.session_id] = session
    found.stubs = _stubs(services, scope)
    for session_id, epoch in found.stubs.items():
        with suppress(SessionEnded, SessionNotFound):
            session = await services.sessions.load(session_id)
            ensure_alive(session, services.clock.now_ms())
            (found.sessions if _may_end(session, epoch) else found.others)[session_id] = session
    return found


async def hand_out(
    services: Services, scope: Any, session: Session, receipt: Receipt | None, status: int
) -> Response[TokenAnswer]:
    """Answer with ``session``'s tokens. To a browser: it is the jar's session from now on, and the jar's others end."""
    answer = token_answer(services, scope, session, receipt, status)
    if not from_browser(scope):
        return answer
    found = await shown(services, scope)
    alive = {session.session_id: session}
    for other in found.sessions.values():
        if other.session_id not in alive:
            try:
                await services.sessions.end(other, "replaced", session.subject or "anonymous")
            except Overloaded:
                alive[other.session_id] = other  # Its stub stays, and the next call ends it.
    answer.cookies += [_stub_cookie(each, "", 0) for each in found.stubs if each not in {*alive, *found.others}]
    note_session(session.session_id)
    max_age_s = age_left_s(services, session)
    for each in alive.values():
        if found.stubs.get(each.session_id) != each.epoch:
            answer.cookies.append(_stub_cookie(each.session_id, services.tokens.stub(each), max_age_s))
    return answer


async def resume(services: Services, scope: Any) -> Outcome | None:
    """Go on with the session of a browser's cookie, whose refresh token is exchanged by that. None if it opens none.

    Raises:
        TokenExpired: a login was recorded just now, whose answer the cookie is older than.
        RateLimited: there were too many.
    """
    token = cookie(scope)
    if token is None or not from_browser(scope):
        return None
    admit(services, scope, "refresh")
    with suppress(CredentialRefused, SessionNotFound):
        session, rotation = await prove_refresh_token(services, token)
        subject = session.subject or "anonymous"
        admit_account(services, scope, "refresh", session.subject or session.session_id)
        return await services.sessions.refresh(session.session_id, session.epoch, rotation, subject)
    held = None
    with suppress(CredentialRefused, SessionNotFound):
        held = await prove_held(services, token)
    if held is None:
        return None
    if services.clock.now_ms() < held.authenticated_at_ms + held.policy.refresh_grace_ms:
        # To end it would undo the login, and to go on with it would let in whoever planted the cookie.
        raise TokenExpired("another tab is just logging in: refresh, or ask again")
    await _end_lost(services, held)
    return None


async def log_in(
    services: Services,
    scope: Any,
    subject: str,
    method: str,
    *,
    proof_age_ms: int | None = 0,
    along: Along | None = None,
) -> Outcome:
    """``subject`` has proved who they are: upgrade the session of the bearer token, or of the browser's cookie, or begin one.

    ``proof_age_ms``, ``along``: see :meth:`server.runtime.sessions.Sessions.authenticate`. A stale credential is no
    reason to refuse a login, nor is a browser in which somebody else was logged in.

    Raises:
        TransitionRefused: the bearer token is of another subject's living session.
    """
    authenticate = services.sessions.authenticate
    with suppress(CredentialRefused, SessionNotFound):
        session = (await prove_bearer(services, scope)).session
        return await authenticate(session, subject, method, proof_age_ms=proof_age_ms, along=along)
    token = cookie(scope)
    if token is not None and from_browser(scope):
        with suppress(CredentialRefused, SessionNotFound, TransitionRefused):
            # Also by a token of before a login, whose answer may have been lost: here its subject proves who they are again.
            session = await prove_held(services, token)
            if session.subject in {None, subject}:
                return await authenticate(session, subject, method, proof_age_ms=proof_age_ms, along=along)
            await _end_lost(services, session)
    return await authenticate(None, subject, method, proof_age_ms=proof_age_ms, along=along)


def cleared(found: Shown) -> list[Cookie]:
    """What removes everything of Interlock's from a jar but the device's cookie."""
    return [session_cookie("", 0), *[_stub_cookie(each, "", 0) for each in found.stubs]]


@contextmanager
def _noted(found: Shown) -> Iterator[None]:
    try:
        yield
    except (CredentialRefused, SessionNotFound) as refused:
        found.refused.append(refused)


def _may_end(session: Session, epoch: int) -> bool:
    """Whether what a browser was given at ``epoch`` is good for ending ``session``.

    After a login it is not: whoever has planted an anonymous session in a browser could throw out who logs in there. Unless
    nothing has been done with the login's tokens: then its answer may have been lost, and nobody else can end the session.
    """
    return epoch == session.epoch or session.unused


async def _end_lost(services: Services, session: Session) -> None:
    """End a session whose cookie is of before its login, if the answer to the login may have been lost."""
    if session.unused:
        await services.sessions.end(session, "replaced", session.subject or "anonymous")


def _stubs(services: Services, scope: Any) -> dict[str, int]:
    """Of each session that the request has a stub of, the epoch at which it was given."""
    held = b";".join(value for key, value in scope["headers"] if key == b"cookie")
    pairs = itertools.islice(_STUB.finditer(held), _STUBS)
    named = [(match[1].decode(), int(match[2]), match[3].decode()) for match in pairs]
    return {each: epoch for each, epoch, mac in named if services.tokens.check_stub(each, epoch, mac)}


def _stub_cookie(session_id: str, value: str, max_age_s: int) -> Cookie:
    return session_cookie(value, max_age_s, f"{COOKIE_NAME}-{session_id}")
