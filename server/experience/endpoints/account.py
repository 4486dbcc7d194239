"""Endpoints of the caller's own account: get it, delete it."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, delete, get
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import LoginTooOld, NotAuthenticated, Overloaded, SessionEnded
from interlock.machine.session.session import Session
from interlock.machine.times import rfc3339
from interlock.server.experience import cookies
from interlock.server.experience.calls import CREDENTIALS, SECURITY, services_for_page, services_of
from interlock.server.experience.credentials import caller, ensure_recent_login
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import responses
from interlock.server.experience.responses import AccountView
from interlock.server.runtime.accounts.accounts import Owner
from interlock.server.services import Services


@get(
    "/api/account",
    tags=["auth"],
    summary="My account",
    responses=responses(*CREDENTIALS, NotAuthenticated),
    security=SECURITY,
)
async def get_own_account(request: Request[Any, Any, Any]) -> AccountView:
    """Get the account of the access token's session."""
    services = services_of(request)
    owner = await _owner(services, await caller(services, request.scope))
    account = owner.account
    return AccountView(account.account_id, owner.data.email, list(account.groups), rfc3339(account.created_at_ms))


@delete(
    "/api/account",
    status_code=204,
    tags=["auth"],
    summary="Delete my account",
    response_headers=may_send(RECEIPT_HEADER, "Set-Cookie"),
    responses=responses(400, 403, *CREDENTIALS, NotAuthenticated, LoginTooOld, Overloaded),
    security=SECURITY,
)
async def delete_own_account(request: Request[Any, Any, Any]) -> Response[None]:
    """Delete the account of the access token's session permanently. The session needs a recent login.

    Erases the owner's email address, password, identity and devices, ends all sessions of the account and closes their sockets.
    Its records stay, and name it by its id only. The email address may be registered again, for a new account.
    """
    services = services_for_page(request)
    session = await caller(services, request.scope)
    owner = await _owner(services, session)
    ensure_recent_login(services, session)
    shown = cookies.presented(services, request.scope)
    receipt = await services.logins.delete_account(session)
    services.login_limits.forget(owner.data.email or "")
    answer: Response[None] = Response(None, status_code=204, headers=receipt_header(receipt))
    if shown.by_page:
        answer.headers.update(cookies.clearing_stored(services))
        answer.cookies += [*cookies.clearing_cookies(shown), cookies.device_cookie(None)]
    return answer


async def _owner(services: Services, session: Session) -> Owner:
    """Return the owner of ``session``.

    Raises:
        NotAuthenticated: the session is anonymous.
        SessionEnded: the account was just deleted.
    """
    if session.subject is None:
        raise NotAuthenticated("log in first: an anonymous session has no account")
    owner = await services.accounts.by_id(session.subject)
    if owner is None:
        raise SessionEnded("account_deleted")
    return owner


HANDLERS: Final[list[ControllerRouterHandler]] = [get_own_account, delete_own_account]
