"""Endpoints of accounts and tokens: register, log in, refresh, log out, change or reset the password."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.errors import (
    AccountDisabled,
    AccountError,
    AccountExists,
    CredentialInvalid,
    CredentialMissing,
    CredentialRefused,
    NotAuthenticated,
    Overloaded,
    PasswordRefused,
    PasswordWrong,
    RateLimited,
    SessionNotFound,
    TransitionRefused,
)
from interlock.machine.session.session import Session
from interlock.machine.times import rfc3339
from interlock.server.experience import cookies
from interlock.server.experience.admission import (
    address_of,
    admit,
    admit_account,
    counted_attempt,
    limit_key_of,
    verify_login,
)
from interlock.server.experience.calls import CREDENTIALS, SECURITY, services_for_page, services_of
from interlock.server.experience.guards import admitted, each_of, own_page, session_holder, with_body
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import handle, responses
from interlock.server.experience.responses import AccountResponse, TokenResponse
from interlock.server.experience.vocabulary import RefreshToken

_log = structlog.get_logger("interlock.security")

Email = Annotated[str, Meta(max_length=320, description="Email address.", examples=["ada@example.org"])]
Password = Annotated[
    str,
    Meta(max_length=4096, description="Password, at least 15 characters.", examples=["correct horse battery staple"]),
]


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An email address and a password."""

    email: Email
    password: Password


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The current password and the new one."""

    current_password: Password
    new_password: Password


class PasswordReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account's email address, the code that an administrator has issued for it, and the new password."""

    email: Email
    code: Annotated[
        str,
        Meta(
            max_length=64,
            description="The code, with or without its dashes, in capitals or not.",
            examples=["7K2M-Q9XF-4RTB-0WZD-H6JV-3NPC"],
        ),
    ]
    new_password: Password


class RefreshBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The refresh token, if it is not in the cookie."""

    refresh_token: (
        Annotated[RefreshToken, Meta(max_length=512, description="The last refresh token received.")] | None
    ) = None


@post(
    "/api/auth/register",
    tags=["auth"],
    summary="Create an account",
    responses=responses(
        400, 403, 413, 415, CredentialMissing, AccountExists, PasswordRefused, AccountError, RateLimited, Overloaded
    ),
    guards=[each_of(own_page, admitted("register"), with_body("email and password"))],
)
async def register(request: Request[Any, Any, Any], data: JSONBody[Credentials]) -> AccountResponse:
    """Create an account. This does not log in; call login next."""
    services = services_of(request)
    with services.limits.anonymous():
        key = limit_key_of(request.scope)
        owner = await services.logins.register(data.email, data.password, key)
    return AccountResponse(owner.account_id, owner.data.email or "", rfc3339(owner.account.created_at_ms))


@post(
    "/api/auth/login",
    status_code=200,
    tags=["auth"],
    summary="Log in",
    response_headers=may_send(RECEIPT_HEADER, "Set-Cookie"),
    responses=responses(400, 403, 413, 415, *CREDENTIALS, AccountDisabled, TransitionRefused, RateLimited, Overloaded),
    security=[{}, {"bearer": []}],
    guards=[each_of(own_page, with_body("email and password"))],
)
async def login(request: Request[Any, Any, Any], data: JSONBody[Credentials]) -> Response[TokenResponse]:
    """Log in.

    With the access token (or cookie) of an anonymous session, that session becomes the account's and keeps its id;
    without, a session is created. The session in the response is already on disk, so a WebSocket can be opened at once.
    """
    services = services_of(request)
    owner = await verify_login(services, request.scope, data.email, data.password)
    shown = cookies.presented(services, request.scope)
    continuation = await services.browser_sessions.log_in(shown, services.logins.login(owner))
    answer = cookies.token_response(services, shown, continuation)
    if shown.by_page:
        answer.cookies.append(cookies.device_cookie(services.devices.issue(owner)))
    return answer


@post(
    "/api/auth/refresh",
    status_code=200,
    tags=["auth"],
    summary="Exchange the refresh token",
    response_headers=may_send(RECEIPT_HEADER, "Set-Cookie"),
    responses=responses(400, 403, 413, 415, *CREDENTIALS, RateLimited, Overloaded),
    security=[{}, {"cookie": []}],
)
async def refresh(
    request: Request[Any, Any, Any], data: JSONBody[RefreshBody | None] = None
) -> Response[TokenResponse]:
    """Exchange the refresh token (body or cookie) for a new one and an access token. Each response has a different token.

    An exchanged token is accepted again for a few seconds (tabs that refresh at once), and until a response to it has been
    used (a lost response). Reuse of any other token revokes the session, because the token was copied.
    """
    services = services_for_page(request)
    admit(services, request.scope, "refresh")
    shown = cookies.presented(services, request.scope)
    continuation = await services.browser_sessions.refresh(shown, data.refresh_token if data else None)
    return cookies.token_response(services, shown, continuation)


@post(
    "/api/auth/logout",
    status_code=204,
    tags=["auth"],
    summary="Log out",
    response_headers=may_send(RECEIPT_HEADER, "Set-Cookie"),
    responses=responses(400, 403, 413, 415, *CREDENTIALS, Overloaded),
    security=[{"bearer": []}, {"cookie": []}],
)
async def logout(request: Request[Any, Any, Any], data: JSONBody[RefreshBody | None] = None) -> Response[None]:
    """End the sessions of the access token and of the refresh token (body or cookie), and close their sockets.

    For a browser, this ends every session that it was given, and clears its cookie and up to 12 markers. After a 503,
    some sessions may be alive; the cookies are kept, so that a retry ends the rest.
    """
    services = services_for_page(request)
    shown = cookies.presented(services, request.scope)
    answer: Response[Any] = Response(None, status_code=204)
    try:
        receipt = await services.browser_sessions.log_out(shown, data.refresh_token if data else None)
        answer.headers.update(receipt_header(receipt))
    except (CredentialRefused, SessionNotFound) as refused:
        answer = handle(request, refused)
    if shown.by_page:
        answer.headers.update(cookies.clearing_stored(services))
    if shown.by_page or shown.kept is not None:
        answer.cookies += cookies.clearing_cookies(shown)
    return answer


@post(
    "/api/auth/password",
    status_code=200,
    tags=["auth"],
    summary="Change the password",
    response_headers=may_send(RECEIPT_HEADER, "Set-Cookie"),
    responses=responses(
        400, 403, 413, 415, *CREDENTIALS, NotAuthenticated, PasswordWrong, PasswordRefused, RateLimited, Overloaded
    ),
    security=SECURITY,
    guards=[each_of(own_page, admitted("password"), session_holder)],
)
async def change_password(request: Request[Any, Any, Any], data: JSONBody[PasswordChange]) -> Response[TokenResponse]:
    """Change the password. Ends every other session of the account; this session's older tokens are refused.

    After the response, no other session serves, and their sockets are closed. While the storage is overloaded, their ends
    may be recorded a little later.
    """
    services = services_of(request)
    session: Session = request.user
    if session.subject is None:
        raise NotAuthenticated("an anonymous session has no password")
    admit_account(services, request.scope, "password", session.subject)
    shown = cookies.presented(services, request.scope)
    try:
        count = services.limits.wrong_passwords(session.session_id)
        outcome, owner = await services.logins.change_password(
            session,
            data.current_password,
            data.new_password,
            limit_key_of(request.scope),
            count,
            device=shown.device,
        )
    except PasswordWrong:
        _log.warning("password.wrong", subject=session.subject)
        raise
    services.login_limits.remember(owner, address_of(request.scope))
    receipt = max(filter(None, [outcome.receipt, *await services.logins.end_others(owner)]))
    answer = cookies.token_response(services, shown, await services.browser_sessions.keep(shown, outcome), receipt)
    if shown.by_page:
        # The browser's current one belongs to the old password, and is invalid now.
        answer.cookies.append(cookies.device_cookie(services.devices.issue(owner)))
    return answer


@post(
    "/api/auth/reset",
    status_code=204,
    tags=["auth"],
    summary="Set another password with a code",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(
        400, 403, 413, 415, CredentialMissing, CredentialInvalid, PasswordRefused, RateLimited, Overloaded
    ),
    guards=[each_of(own_page, with_body("email, code and new_password"))],
)
async def reset_password(request: Request[Any, Any, Any], data: JSONBody[PasswordReset]) -> Response[None]:
    """Set another password with a code that an administrator has issued. Ends every session of the account.

    This does not log in; call login next. Wrong codes are limited like wrong passwords, and an unknown address gets the same
    response.
    """
    services = services_of(request)
    async with counted_attempt(services, request.scope, data.email, "reset_code") as (requester, count):
        reset = await services.logins.reset_password(requester, data.code, data.new_password, count)
    services.login_limits.remember(reset.owner, address_of(request.scope))
    return Response(None, status_code=204, headers=receipt_header(reset.receipt))


HANDLERS: Final[list[ControllerRouterHandler]] = [
    register,
    login,
    refresh,
    logout,
    change_password,
    reset_password,
]
