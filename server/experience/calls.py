"""Shared parts of the endpoints: access to the services, and OpenAPI declarations of credentials."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.params import QueryParameter

from interlock.machine.errors import (
    CredentialInvalid,
    CredentialMissing,
    Overloaded,
    SessionEnded,
    SessionNotFound,
    SessionUnusable,
    TokenExpired,
)
from interlock.server.experience.credentials import refuse_foreign
from interlock.server.experience.problems import RequestRefused
from interlock.server.guard.origins import Use
from interlock.server.runtime.accounts.administration import Cursor
from interlock.server.services import Services

T = TypeVar("T")
V = TypeVar("V")

CREDENTIALS: Final = (
    CredentialMissing,
    CredentialInvalid,
    TokenExpired,
    SessionEnded,
    SessionNotFound,
    SessionUnusable,
    Overloaded,
)
"""Errors of any call with a credential."""

SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}]

LAST: Final = 2**53
"""JSON numbers above this are not exact everywhere."""

_FIELDS: Final = 16
_FORM: Final = "application/x-www-form-urlencoded"
_CURSOR: Final = r"^(0|[1-9][0-9]{0,15})\.([0-9a-zA-Z_-]{1,64})$"

After = Annotated[
    str | None,
    QueryParameter(max_length=128, pattern=_CURSOR, description="Cursor of the previous page, from its Link header."),
]
"""The cursor of a list of sessions or accounts."""


class NoFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object: a client can choose nothing, least of all the id of a new session."""


def wired_services(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """Return the services wired by :mod:`interlock.server.wiring`, for endpoints that need no credential."""
    return connection.app.state.services  # type: ignore[no-any-return]  # Litestar's State is untyped


def services_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """Return the services, for a call that checks or issues a credential.

    Raises:
        KeysUnavailable: the key files are unusable, so no credential can be verified.
    """
    services = wired_services(connection)
    services.tokens.ensure_usable()
    return services


def services_for_page(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """Return the services, for a call that may use or set the cookie. Pages of other origins are refused (ASVS 3.5.1).

    Raises:
        OriginRefused: the page's origin is not allowed.
        KeysUnavailable: see :func:`services_of`.
    """
    services = services_of(connection)
    refuse_foreign(Use.CALL, connection.scope, services.settings.page_origins)
    return services


def page(
    path: str, found: Sequence[T], limit: int, view: Callable[[T], V], after: Callable[[T], Mapping[str, Any]]
) -> Response[list[V]]:
    """Return ``found``, at most ``limit`` entries of the list at ``path``, each converted by ``view``.

    While more may follow, a ``Link`` header points to the next page (RFC 8288). ``after`` returns the query parameters of
    the page after an entry.
    """
    headers = {}
    if len(found) == limit:
        headers["link"] = f'<{path}?{urlencode({**after(found[-1]), "limit": limit})}>; rel="next"'
    return Response([view(each) for each in found], headers=headers)


def parse_cursor(cursor: str | None) -> Cursor | None:
    """Parse ``cursor``, an :data:`After`."""
    match = re.match(_CURSOR, cursor or "")
    return Cursor(int(match[1]), match[2]) if match else None


def format_cursor(cursor: Cursor) -> str:
    """Return the text that :func:`parse_cursor` reads."""
    return f"{cursor.at_ms}.{cursor.instance_id}"


async def read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the fields of a form in the body; none without a body.

    Litestar's own form parser ignores the Content-Type, repairs invalid UTF-8, turns a repeated field into a list, and
    caches the last thousand bodies with the secrets in them.

    Raises:
        RequestRefused: the body is not a form (RFC 6749, 3.2: each field at most once).
    """
    body = await request.body()
    if body and request.content_type[0] != _FORM:
        raise RequestRefused(415, f"send Content-Type: {_FORM}")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_FIELDS,
        )
    except ValueError:
        raise RequestRefused(400, "the body is not a form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise RequestRefused(400, "duplicate form field")
    return form
