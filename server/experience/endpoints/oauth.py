"""Endpoints for other software that receives users' tokens: introspection (RFC 7662) and revocation (RFC 7009).

The caller authenticates with the secret of a client made by ``interlock clients create`` (ASVS 10.4.10). Errors are problem
details like all others, plus the members ``error`` and ``error_description`` of RFC 6749, 5.2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote_plus

import msgspec
from litestar import Request, Response, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Meta, UnsetType

from interlock.machine.errors import ClientAuthenticationFailed, CredentialRefused, Overloaded, SessionNotFound
from interlock.machine.secret.commands import Add
from interlock.server.experience.calls import read_form, services_of
from interlock.server.experience.credentials import header
from interlock.server.experience.headers import RECEIPT_HEADER
from interlock.server.experience.litestar_internals import set_form
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import (
    MEDIA_TYPE,
    OAuthError,
    Problem,
    RequestRefused,
    logged_problem,
    responses,
)
from interlock.server.experience.responses import EndedResponse, ended_response
from interlock.server.experience.vocabulary import AccountId, RefreshToken, SessionId, SessionState
from interlock.server.guard.tokens import subject_of
from interlock.server.services import Services

_BASIC: Final = "basic "
_SECURITY: Final[list[dict[str, list[str]]]] = [{"client": []}]
_OAUTH_ERRORS: Final[dict[int, OAuthError]] = {
    401: "invalid_client",
    500: "server_error",
    503: "temporarily_unavailable",
}
"""By status; any other is ``invalid_request``. RFC 6749, 4.1.2.1, defines the last two."""


class TokenForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token, and perhaps the client's name and secret (``client_secret_post``). Each field at most once."""

    token: Annotated[RefreshToken, Meta(min_length=1, description="An access token or a refresh token.")]
    token_type_hint: (
        Annotated[str, Meta(description="`access_token` or `refresh_token`; ignored.", examples=["access_token"])]
        | UnsetType
    ) = UNSET
    client_id: (
        Annotated[str, Meta(max_length=64, description="The client's name, if it is not in `Authorization: Basic`.")]
        | UnsetType
    ) = UNSET
    client_secret: (
        Annotated[str, Meta(max_length=512, description="The client's secret, if it is not in `Authorization: Basic`.")]
        | UnsetType
    ) = UNSET


class IntrospectionResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The current state of a token. For an inactive token, only ``active`` is present.

    ``jti`` and ``iat`` are present for access tokens only.
    """

    active: Annotated[bool, Meta(description="The session is alive, and the token is valid.", examples=[True])]
    sub: AccountId | UnsetType = UNSET
    sid: SessionId | UnsetType = UNSET
    session_state: SessionState | UnsetType = UNSET
    token_type: Literal["Bearer", "refresh_token"] | UnsetType = UNSET
    iss: Annotated[str, Meta(examples=["interlock"])] | UnsetType = UNSET
    aud: Annotated[str, Meta(examples=["interlock"])] | UnsetType = UNSET
    exp: Annotated[int, Meta(description="Seconds since the Unix epoch.", examples=[1769160900])] | UnsetType = UNSET
    iat: Annotated[int, Meta(description="Seconds since the Unix epoch.", examples=[1769160600])] | UnsetType = UNSET
    jti: Annotated[str, Meta(examples=["at_b5Rk0fXhWc1m2jv9QZ8yVA_7"])] | UnsetType = UNSET


Form = Annotated[TokenForm, Body(media_type=RequestEncodingType.URL_ENCODED)]


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Convert exceptions to problem details that clients of RFC 6749 understand too."""
    problem, headers = logged_problem(request, error)
    problem = msgspec.structs.replace(
        problem, error=_OAUTH_ERRORS.get(problem.status, "invalid_request"), error_description=problem.detail
    )
    return Response(problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


async def admit_client(request: Request[Any, Any, Any]) -> None:
    """Read the form, and authenticate the client. Its secret's data is then in ``request.state.client``.

    Raises:
        ClientAuthenticationFailed: the caller is not a client.
        RequestRefused: the body is not a form (RFC 6749, 3.2: each field at most once).
    """
    form = await read_form(request)
    set_form(request, form)
    request.state.client = authenticate_client(services_of(request), request.scope, form)


@post(
    "/oauth/introspect",
    status_code=200,
    tags=["standards"],
    summary="Introspect a token",
    responses=responses(400, 413, 415, ClientAuthenticationFailed),
    security=_SECURITY,
    before_request=admit_client,
    exception_handlers={Exception: handle},
)
async def introspect_token(request: Request[Any, Any, Any], data: Form) -> IntrospectionResponse:
    """Token introspection (RFC 7662), for registered clients. Changes nothing, and does not count as activity.

    An access token is active while its session is alive and no later login has superseded it; a refresh token while it
    can be exchanged and has not been exchanged yet.
    """
    services = services_of(request)
    try:
        return await _access_token(services, data.token)
    except (CredentialRefused, SessionNotFound):
        pass
    try:
        return await _refresh_token(services, data.token)
    except (CredentialRefused, SessionNotFound):
        return IntrospectionResponse(active=False)


@post(
    "/oauth/revoke",
    status_code=200,
    tags=["standards"],
    summary="Revoke a token and its session",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 413, 415, ClientAuthenticationFailed, Overloaded),
    security=_SECURITY,
    before_request=admit_client,
    exception_handlers={Exception: handle},
)
async def revoke_token(request: Request[Any, Any, Any], data: Form) -> Response[EndedResponse]:
    """Token revocation (RFC 7009), for registered clients: ends the session of the token, and so all its tokens.

    A single token can't be revoked without its session. An invalid token is answered with 200 too (RFC 7009, 2.2).
    """
    services = services_of(request)
    session = await services.authenticator.by_any_token(data.token)
    receipt = None
    if session is not None:
        client: Add = request.state.client
        async with services.secret_records.acting(client) as under:
            receipt = await services.sessions.end(session, "revoked", client.actor, under=under)
    return ended_response([receipt] if receipt else [])


def authenticate_client(services: Services, scope: Any, form: Mapping[str, str]) -> Add:
    """Return the client that sent ``form``, as the log records it. Its secret is in ``Basic`` or in the form, not both.

    Raises:
        ClientAuthenticationFailed: the client or its secret is missing, unknown or wrong.
        RequestRefused: the secret came both ways (RFC 6749, 2.3).
        SettingsError: the clients' secrets can't be read.
    """
    authorization = header(scope, b"authorization")
    name, secret = form.get("client_id", ""), form.get("client_secret", "")
    if authorization is not None:
        if secret:
            raise RequestRefused(400, "send the client's secret in one way only")
        basic_name, secret = _basic(authorization)
        if name not in {"", basic_name}:
            raise RequestRefused(400, "client_id is not the client that Authorization names")
        name = basic_name
    if not name or not secret:
        raise ClientAuthenticationFailed(
            "send the client's name and secret: Authorization: Basic, or client_id and client_secret"
        )
    client = services.clients.check(secret)
    if client is None or client.name != name:
        raise ClientAuthenticationFailed("the client is unknown, or its secret is wrong")
    return client


def _basic(authorization: str) -> tuple[str, str]:
    """Return name and secret in a Basic Authorization header. Both are form-encoded first (RFC 6749, 2.3.1)."""
    if authorization[: len(_BASIC)].lower() != _BASIC:
        raise ClientAuthenticationFailed("Authorization does not use the scheme Basic")
    try:
        pair = base64.b64decode(authorization[len(_BASIC) :].strip(), validate=True).decode()
        name, colon, secret = pair.partition(":")
        name, secret = unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")
    except (binascii.Error, ValueError):
        raise ClientAuthenticationFailed("Authorization is not well formed") from None
    if not colon or not name or not secret:
        raise ClientAuthenticationFailed("Authorization is not well formed")
    return name, secret


async def _access_token(services: Services, token: str) -> IntrospectionResponse:
    claims = services.tokens.check_access_token(token)
    session = (await services.authenticator.by_access_token(token)).session
    return IntrospectionResponse(
        active=True,
        sub=claims.sub,
        sid=claims.sid,
        session_state=session.state or "",
        token_type="Bearer",  # noqa: S106  # RFC 6750's name of the scheme
        iss=claims.iss,
        aud=claims.aud,
        exp=claims.exp,
        iat=claims.iat,
        jti=claims.jti,
    )


async def _refresh_token(services: Services, token: str) -> IntrospectionResponse:
    session, rotation = await services.authenticator.by_refresh_token(token)
    if services.authenticator.exchanged(session, rotation):
        return IntrospectionResponse(active=False)
    return IntrospectionResponse(
        active=True,
        sub=subject_of(session),
        sid=session.session_id,
        session_state=session.state or "",
        token_type="refresh_token",  # noqa: S106  # RFC 7009's name of the kind
        iss=services.settings.issuer,
        aud=services.settings.audience,
        exp=session.absolute_deadline_ms // 1000,
    )


HANDLERS: Final[list[ControllerRouterHandler]] = [introspect_token, revoke_token]
