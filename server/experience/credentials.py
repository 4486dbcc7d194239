"""What a request carries to be known by: bearer token and cookie. What it is worth, the authenticator says."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from interlock.machine.errors import CredentialInvalid, CredentialMissing, OriginRefused
from interlock.machine.session.machine import ensure_usable
from interlock.machine.session.session import Session
from interlock.server.guard.origins import Use, parse_origins, why_refused
from interlock.server.runtime.authenticator import Authentication, Check
from interlock.server.services import Services

COOKIE_NAME: Final = "__Host-interlock"
"""RFC 6265bis, 4.1.3.2: a ``__Host-`` cookie is Secure, has Path=/ and no Domain, so no sibling host can plant one."""

_BEARER: Final = b"bearer "
_COOKIE: Final = COOKIE_NAME.encode() + b"="


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
        OriginRefused: the page is another site's.
    """
    why = why_refused(use, scope["headers"], parse_origins(allowed))
    if why is not None:
        raise OriginRefused(why)


def kept_token(scope: Any) -> str | None:
    """The refresh token in the cookie of a browser's page: that of the session that its tabs share. None from a program."""
    held = cookie(scope)
    return held if held is not None and from_browser(scope) else None


async def caller(services: Services, scope: Any) -> Session:
    """The session of a request's bearer token, at the token's epoch; the request counts as activity.

    Raises:
        CredentialRefused, SessionNotFound: nobody can be told from it.
    """
    return (await authenticate_caller(services, scope)).session


async def authenticate_caller(services: Services, scope: Any) -> Authentication:
    """As :func:`caller`, with what is known of the token.

    Raises:
        CredentialRefused, SessionNotFound: nobody can be told from it.
    """
    authenticator = services.authenticator
    found = await authenticate_bearer(services, scope)
    await authenticator.refuse_replaced(found.session, kept_token(scope))
    return msgspec.structs.replace(found, session=await authenticator.note_activity(found.session))


async def authenticate_bearer(services: Services, scope: Any, check: Check = ensure_usable) -> Authentication:
    """The living session that a request's bearer token opens.

    Raises:
        CredentialMissing, CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound: it opens none.
    """
    token = bearer(scope)
    if token is None:
        raise CredentialMissing("send Authorization: Bearer <access token>")
    return await services.authenticator.by_access_token(token, check)
