"""From a request's credentials to a session: bearer token, cookie, ticket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from interlock.machine.errors import (
    CredentialInvalid,
    CredentialMissing,
    CredentialRefused,
    InterlockError,
    NotAuthenticated,
    RateLimited,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
)
from interlock.machine.machine import Authority
from interlock.machine.session.machine import SESSION_MACHINE, ensure_authority, ensure_usable
from interlock.machine.session.refresh_tokens import honoured
from interlock.machine.session.session import Session, opens_until_ms, touch_due
from interlock.server.experience.problems import RequestRefused
from interlock.server.guard.origins import Use, parse_origins, why_refused
from interlock.server.guard.tokens import kid_of, subject_of
from interlock.server.services import Services
from interlock.server.telemetry.context import note_session

COOKIE_NAME: Final = "__Host-interlock"
"""RFC 6265bis, 4.1.3.2: a ``__Host-`` cookie is Secure, has Path=/ and no Domain, so no sibling host can plant one."""

T = TypeVar("T")

Check = Callable[[Session, int], None]
"""What a session has to be at a time in ms for a credential of it to count: usable, or, to be ended, only alive."""

_BEARER: Final = b"bearer "
_COOKIE: Final = COOKIE_NAME.encode() + b"="


class Proof(msgspec.Struct, frozen=True):
    """A session somebody has a valid access token for, or a ticket that one bought.

    ``authorised_until_ms``: when the token expires. ``kid``: the key that signed it.
    """

    session: Session
    authorised_until_ms: int
    kid: str


def header(scope: Any, name: bytes) -> str | None:
    """The value of the header ``name`` (lower case) in an ASGI scope, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]  # ASGI header values are bytes
    return None


def bearer(scope: Any) -> str | None:
    """The bearer token of a request (RFC 6750, 2.1), or None when it has no Authorization header.

    Raises:
        CredentialInvalid: the Authorization header is of another scheme.
    """
    for key, value in scope["headers"]:
        if key == b"authorization":
            if value[:7].lower() != _BEARER:
                raise CredentialInvalid("Authorization is not a bearer token")
            return value[7:].strip().decode("latin-1")  # type: ignore[no-any-return]  # ASGI header values are bytes
    return None


def cookie(scope: Any) -> str | None:
    """The refresh token in the request's cookie, or None."""
    return cookie_named(scope, _COOKIE)


def cookie_named(scope: Any, wanted: bytes) -> str | None:
    """The value of the cookie whose name and ``=`` are ``wanted``; None if the request has none, or more than one.

    A browser holds one cookie of a ``__Host-`` name. Where there are two, somebody else has a hand in it, and nobody can tell
    which one is the browser's: to take either could be to take what was planted.
    """
    found: bytes | None = None
    for key, value in scope["headers"]:
        # A browser's HTTP/2 may come in as several Cookie headers.
        if key == b"cookie" and wanted in value:
            for pair in value.split(b";"):
                # Not what strip() takes by itself: a name after any other character is another name, also to the browser.
                stripped = pair.strip(b" \t")
                if stripped.startswith(wanted):
                    if found is not None:
                        return None
                    found = stripped[len(wanted) :]
    return None if found is None else found.decode("latin-1")


def from_browser(scope: Any) -> bool:
    """A browser's page sent this: browsers add these headers to what scripts send, and scripts can't remove them."""
    return any(key in {b"origin", b"sec-fetch-site"} for key, _ in scope["headers"])


def refuse_foreign(use: Use, scope: Any, allowed: tuple[str, ...]) -> None:
    """Refuse what another site's page has made a browser send (ASVS 3.5.1, 3.5.3, 3.5.8, 4.4.2).

    Raises:
        RequestRefused: 403.
    """
    why = why_refused(use, scope["headers"], parse_origins(allowed))
    if why is not None:
        raise RequestRefused(403, why)


async def caller(services: Services, scope: Any) -> Session:
    """The session of a request's bearer token, at the token's epoch; the request counts as activity.

    Raises:
        CredentialRefused, SessionNotFound: nobody can be told from it.
    """
    return (await caller_proof(services, scope)).session


async def caller_proof(services: Services, scope: Any) -> Proof:
    """As :func:`caller`, with what is known of the token.

    Raises:
        CredentialRefused, SessionNotFound: nobody can be told from it.
    """
    proof = await prove_bearer(services, scope)
    await refuse_replaced(services, scope, proof.session)
    return msgspec.structs.replace(proof, session=await _note_activity(services, proof.session))


async def _note_activity(services: Services, session: Session) -> Session:
    """Note activity in ``session``, unless it is anonymous and too much is written for those who have not logged in.

    Then it goes on, and ends when it would have without this activity.
    """
    if session.subject is not None or not touch_due(session, services.clock.now_ms()):
        return await services.sessions.touch(session)
    try:
        with services.limits.anonymous():
            return await services.sessions.touch(session)
    except RateLimited:
        return session


async def refuse_replaced(services: Services, scope: Any, session: Session) -> None:
    """End ``session`` if the cookie of the browser that calls on it could be exchanged, and is of another session.

    Two tabs that began a session each share one cookie: the later answer's. The other session is nobody's then.

    Raises:
        SessionEnded: it was.
    """
    held = cookie(scope)
    if held is None or held.startswith(f"{session.session_id}.") or not from_browser(scope):
        return
    try:
        kept, rotation = await prove_refresh_token(services, held)
        if not exchangeable(services, kept, rotation):
            return
        await services.sessions.end(
            session, "replaced", "server", under=Authority(SESSION_MACHINE.kind, kept.session_id)
        )
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
        except (CredentialRefused, SessionNotFound, NotAuthenticated, RequestRefused) as refused:
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
        case RequestRefused():
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


async def prove_bearer(services: Services, scope: Any, check: Check = ensure_usable) -> Proof:
    """The living session that a request's bearer token opens.

    Raises:
        CredentialMissing, CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound: it opens none.
    """
    token = bearer(scope)
    if token is None:
        raise CredentialMissing("send Authorization: Bearer <access token>")
    return await prove_access_token(services, token, check)


async def prove_access_token(services: Services, token: str, check: Check = ensure_usable) -> Proof:
    """The living session that ``token`` opens.

    Raises:
        CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound: it opens none.
        SessionUnusable: ``check`` asks for more than a living session.
    """
    claims = services.tokens.check_access_token(token)
    note_session(claims.sid)
    session = services.sessions.cached(claims.sid) or await services.sessions.load(claims.sid)
    with naming(claims.sid):
        ensure_authority(session, claims.epoch, services.clock.now_ms(), check=check)
        if claims.sub != subject_of(session):
            raise CredentialInvalid("the access token is of another subject than its session")
    return Proof(session, claims.exp * 1000, kid_of(token))


async def prove_refresh_token(services: Services, token: str, check: Check = ensure_usable) -> tuple[Session, int]:
    """The living session and the rotation of ``token``, whose MAC holds; what the rotation means, the runtime judges.

    Raises:
        CredentialInvalid, SessionEnded, SessionNotFound: it is no refresh token of a living session's epoch.
        SessionUnusable: ``check`` asks for more than a living session.
    """
    parsed = services.tokens.check_refresh_token(token)
    session = await services.sessions.load(parsed.session_id)
    with naming(session.session_id):
        note_session(session.session_id)
        now_ms = services.clock.now_ms()
        # Nothing renews a refresh token that a later login has superseded.
        ensure_authority(session, parsed.epoch, now_ms, superseded=CredentialInvalid, check=check)
    return session, parsed.rotation


def exchangeable(services: Services, session: Session, rotation: int) -> bool:
    """Whether the refresh token of ``rotation`` would be exchanged."""
    return honoured(session.refresh_tokens, rotation, services.clock.now_ms()) is not None


async def prove_held(services: Services, token: str) -> Session:
    """The living session that ``token`` is or was a refresh token of, also before a login. By itself it opens nothing.

    Raises:
        CredentialInvalid, SessionEnded, SessionNotFound: there is none.
    """
    session = await services.sessions.load(services.tokens.check_refresh_token(token).session_id)
    note_session(session.session_id)
    ensure_usable(session, services.clock.now_ms())
    return session


def ensure_opens(session: Session, rotation: int, now_ms: int) -> None:
    """Check that the refresh token of ``rotation``, whose MAC holds, opens something without being exchanged.

    To show an old one is no attempt to exchange it, so no sign of theft.

    Raises:
        TokenExpired: it was exchanged longer than a grace ago, or is in a second hand.
    """
    if now_ms >= opens_until_ms(session, rotation, now_ms):
        raise TokenExpired("the refresh token was already exchanged")


async def prove_ticket(services: Services, ticket: str) -> Proof:
    """The living session that a single-use ticket opens; the ticket is used up by this.

    Raises:
        CredentialInvalid, SessionEnded, SessionNotFound, TokenExpired: it opens none.
    """
    taken = await services.tickets.redeem(ticket)
    services.tokens.ensure_verifies(taken.kid)
    session = await services.sessions.load(taken.session_id)
    note_session(session.session_id)
    with naming(session.session_id):
        ensure_authority(session, taken.epoch, services.clock.now_ms())
    return Proof(session, taken.authorised_until_ms, taken.kid)
