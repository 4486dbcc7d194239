"""What endpoints have in common: how they reach the services, and what their OpenAPI says of credentials."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Request

from machine.errors import CredentialInvalid, CredentialMissing, SessionEnded, SessionNotFound, TokenExpired
from server.experience.credentials import check_origin
from server.services import Services

CREDENTIALS: Final = (CredentialMissing, CredentialInvalid, TokenExpired, SessionEnded, SessionNotFound)
"""What any call with a credential may be refused for."""

SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}]


class NoFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object: there is nothing a client may choose about a new session, least of all its id."""


def wired_services(request: Request[Any, Any, Any]) -> Services:
    """The services that :mod:`server.app` wired, for a call that opens nothing to anybody."""
    return request.app.state.services  # type: ignore[no-any-return]  # Litestar's State is untyped


def services_of(request: Request[Any, Any, Any]) -> Services:
    """The services, for a call that checks or makes a credential.

    Raises:
        KeysUnavailable: the key files can't be used now, so nobody's credential can be relied on.
    """
    services = wired_services(request)
    services.tokens.ensure_usable()
    return services


def services_for_page(request: Request[Any, Any, Any]) -> Services:
    """The services, for a call that may use or set the cookie: a page of another origin is refused first (ASVS 3.5.1).

    Raises:
        RequestRefused: the page's origin is not allowed.
        KeysUnavailable: see :func:`services_of`.
    """
    services = services_of(request)
    check_origin(request.scope, services.settings.origins)
    return services
