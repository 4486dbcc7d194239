"""Reads the credentials of a request: bearer token and cookie. The authenticator verifies them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from interlock.machine.errors import CredentialInvalid, CredentialMissing, CredentialRefused, LoginTooOld, OriginRefused
from interlock.machine.session.session import Session
from interlock.server.guard.origins import Use, parse_origins, why_refused
from interlock.server.runtime.authenticator import Authentication
from interlock.server.services import Services

COOKIE_NAME: Final = "__Host-interlock"
"""RFC 6265bis, 4.1.3.2: a ``__Host-`` cookie is Secure, has Path=/ and no Domain, so no sibling host can plant one."""

DEVICE_COOKIE: Final = "__Host-interlock-device"
"""Shows that this browser has known the account's password, so strangers can't use up its attempts. Grants no access."""

CONSOLE_COOKIE: Final = "__Host-interlock-console"
"""Opens the console for an operator (ADR 74). It is not the cookie of the application's sessions, and opens nothing else."""

_IN_WEB_VIEW: Final = "in_web_view"
"""Key in the ``state`` of a scope: an app's web view sent the request."""

_BEARER: Final = b"bearer "
_COOKIE: Final = COOKIE_NAME.encode() + b"="


def header(scope: Any, name: bytes) -> str | None:
    """Return the value of the header ``name`` (lower case) in an ASGI scope, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]  # ASGI header values are bytes
    return None


def bearer(scope: Any) -> str | None:
    """Return the bearer token of a request (RFC 6750, 2.1), or None without an Authorization header.

    Raises:
        CredentialInvalid: the Authorization header has another scheme.
    """
    for key, value in scope["headers"]:
        if key == b"authorization":
            if value[:7].lower() != _BEARER:
                raise CredentialInvalid("Authorization is not a bearer token")
            return value[7:].strip().decode("latin-1")  # type: ignore[no-any-return]  # ASGI header values are bytes
    return None


def bearer_or_refusal(scope: Any) -> str | CredentialRefused:
    """Return the bearer token of a request, or the reason why it has none."""
    try:
        token = bearer(scope)
    except CredentialInvalid as invalid:
        return invalid
    return CredentialMissing("send Authorization: Bearer <access token>") if token is None else token


def cookie(scope: Any) -> str | None:
    """Return the refresh token in the request's cookie, or None."""
    return cookie_named(scope, _COOKIE)


def cookie_named(scope: Any, wanted: bytes) -> str | None:
    """Return the value of the cookie whose name and ``=`` are ``wanted``; None if there is none, or more than one.

    A browser holds one cookie of a ``__Host-`` name. If there are two, one was planted, and the server can't tell which.
    """
    found: bytes | None = None
    for key, value in scope["headers"]:
        # HTTP/2 lets a browser split its cookies over several Cookie headers.
        if key == b"cookie" and wanted in value:
            for pair in value.split(b";"):
                # Only what RFC 6265 strips: after any other white space it is another cookie name, also to the browser.
                stripped = pair.strip(b" \t")
                if stripped.startswith(wanted):
                    if found is not None:
                        return None
                    found = stripped[len(wanted) :]
    return None if found is None else found.decode("latin-1")


def note_web_view(scope: Any, origins: tuple[str, ...]) -> None:
    """Note that an app's web view, with a page of ``origins``, sent this, and drop its cookies. Call it once, first.

    So a token of its comes in a body or a header, and never also in a cookie.
    """
    if header(scope, b"origin") in origins:
        scope["state"][_IN_WEB_VIEW] = True
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"cookie"]


def from_browser(scope: Any) -> bool:
    """Return whether a page that has cookies sent this: browsers add these headers, and scripts can't remove them."""
    return _IN_WEB_VIEW not in scope["state"] and any(
        key in {b"origin", b"sec-fetch-site"} for key, _ in scope["headers"]
    )


def refuse_foreign(use: Use, scope: Any, allowed: tuple[str, ...]) -> None:
    """Refuse a request that another site's page made a browser send (ASVS 3.5.1, 3.5.3, 3.5.8, 4.4.2).

    Raises:
        OriginRefused: the page is another site's.
    """
    why = why_refused(use, scope["headers"], parse_origins(allowed))
    if why is not None:
        raise OriginRefused(why)


def kept_token(scope: Any) -> str | None:
    """Return the refresh token in the cookie of a browser's page, whose tabs share that session. None for programs."""
    held = cookie(scope)
    return held if held is not None and from_browser(scope) else None


async def caller(services: Services, scope: Any) -> Session:
    """Return the session of a request's bearer token, at the token's epoch. The request counts as activity.

    Raises:
        CredentialRefused, SessionNotFound: the token opens no session.
    """
    return (await authenticate_caller(services, scope)).session


async def authenticate_caller(services: Services, scope: Any) -> Authentication:
    """Authenticate as :func:`caller`, and return what is known of the token too.

    Raises:
        CredentialRefused, SessionNotFound: the token opens no session.
    """
    authenticator = services.authenticator
    found = await authenticate_bearer(services, scope)
    await authenticator.refuse_replaced(found.session, kept_token(scope))
    return msgspec.structs.replace(found, session=await authenticator.note_activity(found.session))


async def authenticate_bearer(services: Services, scope: Any) -> Authentication:
    """Return the live session that a request's bearer token opens.

    Raises:
        CredentialMissing, CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound: it opens none.
    """
    token = bearer_or_refusal(scope)
    if not isinstance(token, str):
        raise token
    return await services.authenticator.by_access_token(token)


def ensure_recent_login(services: Services, session: Session) -> None:
    """Prevent the holder of a stolen credential from ending other sessions than its own, or the account (ASVS 7.5.2).

    Raises:
        LoginTooOld: the last login on ``session`` is too old, or its time is unknown.
    """
    max_age_s = services.settings.recent_login_s
    auth_time_ms = session.auth_time_ms
    if session.subject is None or (
        auth_time_ms is not None and services.clock.now_ms() - auth_time_ms <= max_age_s * 1000
    ):
        return
    raise LoginTooOld(round(max_age_s))
