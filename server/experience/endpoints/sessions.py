"""Endpoints of sessions: create a session, get it, list and end the account's sessions."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from interlock.machine.errors import (
    LoginTooOld,
    NotAuthenticated,
    Overloaded,
    RateLimited,
    SessionEnded,
    SessionNotFound,
    TokenExpired,
)
from interlock.machine.ledger import Receipt
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session, ensure_alive
from interlock.machine.session.view import SessionView, session_view
from interlock.machine.wire import TransitionView, own_transition_view
from interlock.server.experience import cookies
from interlock.server.experience.admission import admit, admit_account
from interlock.server.experience.calls import (
    CREDENTIALS,
    SECURITY,
    After,
    NoFields,
    format_cursor,
    page,
    parse_cursor,
    services_for_page,
    services_of,
)
from interlock.server.experience.credentials import authenticate_caller, caller, ensure_recent_login
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.responses import (
    EndedResponse,
    ListedSessionView,
    TicketResponse,
    TokenResponse,
    ended_response,
    listed_session,
)
from interlock.server.runtime.accounts.administration import Cursor
from interlock.server.services import Services

_MAX_PAGE: Final = 100
"""Encoding a page blocks the event loop for a few milliseconds."""

Limit = Annotated[int, QueryParameter(ge=1, le=_MAX_PAGE, description="Maximum number of items.")]


@post(
    "/api/session",
    tags=["session"],
    summary="Create an anonymous session",
    response_headers=may_send(RECEIPT_HEADER, "Set-Cookie"),
    responses={
        200: ResponseSpec(TokenResponse, description="The cookie's session, which is kept.", generate_examples=False),
        **responses(400, 403, 413, 415, TokenExpired, RateLimited, Overloaded),
    },
    security=[{}, {"cookie": []}],
)
async def create_session(
    request: Request[Any, Any, Any],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> Response[TokenResponse]:
    """Create an anonymous session and return its tokens. A later login on it keeps the session id.

    A browser with a valid cookie keeps its session instead (200), as after a refresh.
    """
    services = services_for_page(request)
    shown = cookies.presented(services, request.scope)
    continuation = await services.browser_sessions.begin(shown)
    return cookies.token_response(
        services, shown, continuation, status=201 if continuation.outcome.instance.version == 1 else 200
    )


@get("/api/session", tags=["session"], summary="My session", responses=responses(*CREDENTIALS), security=SECURITY)
async def get_session(request: Request[Any, Any, Any]) -> SessionView:
    """Get the current state of the access token's session."""
    return session_view(await caller(services_of(request), request.scope))


@get(
    "/api/session/transitions",
    tags=["session"],
    summary="The recorded history of my session",
    response_headers=may_send("Link"),
    responses=responses(400, *CREDENTIALS),
    security=SECURITY,
)
async def list_session_transitions(
    request: Request[Any, Any, Any],
    after_version: Annotated[
        int, QueryParameter(ge=0, le=2**53, description="Only transitions with a higher version.")
    ] = 0,
    limit: Limit = _MAX_PAGE,
) -> Response[list[TransitionView]]:
    """List the session's transitions, oldest first. If more may follow, there is a ``Link: rel="next"`` header (RFC 8288)."""
    services = services_of(request)
    session = await caller(services, request.scope)
    records = await services.sessions.history(session.session_id, after_version, limit)
    return page(
        "/api/session/transitions",
        records,
        limit,
        own_transition_view,
        lambda last: {"after_version": last.transition.version},
    )


@post(
    "/api/session/ticket",
    tags=["session"],
    summary="A ticket for a WebSocket handshake",
    responses=responses(*CREDENTIALS, NotAuthenticated, 400, 413, 415, RateLimited, Overloaded),
    security=SECURITY,
)
async def create_ticket(
    request: Request[Any, Any, Any],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> Response[TicketResponse]:
    """Create a single-use ticket for clients that can't set WebSocket headers. Send it as a subprotocol, never in a URL."""
    services = services_of(request)
    admit(services, request.scope, "ticket")
    found = await authenticate_caller(services, request.scope)
    if found.session.subject is None:
        raise NotAuthenticated("log in first: an anonymous session never connects")
    admit_account(services, request.scope, "ticket", found.session.subject)
    ticket = await services.tickets.issue(found.session, found.authorised_until_ms, found.kid)
    return Response(TicketResponse(ticket, services.tickets.lifetime_ms // 1000), status_code=201)


@get(
    "/api/sessions",
    tags=["sessions"],
    summary="All my sessions",
    response_headers=may_send("Link"),
    responses=responses(400, *CREDENTIALS),
    security=SECURITY,
)
async def list_sessions(
    request: Request[Any, Any, Any], after: After = None, limit: Limit = _MAX_PAGE
) -> Response[list[ListedSessionView]]:
    """List the live sessions of the caller's account, newest first, with their devices; for an anonymous session, only itself.

    If more may follow, there is a ``Link: rel="next"`` header (RFC 8288).
    """
    services = services_of(request)
    own = await caller(services, request.scope)
    if own.subject is None:
        return Response([listed_session(own, None)])
    found = await services.account_sessions.page(own.subject, parse_cursor(after), limit)
    devices = await services.session_devices.of_sessions([each.session_id for each in found])
    return page(
        "/api/sessions",
        found,
        limit,
        lambda each: listed_session(each, devices.get(each.session_id)),
        lambda last: {"after": format_cursor(Cursor.of(last))},
    )


@delete(
    "/api/sessions/{session_id:str}",
    tags=["sessions"],
    summary="End one of my sessions",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, *CREDENTIALS, 404, LoginTooOld, Overloaded),
    security=SECURITY,
)
async def end_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Response[None]:
    """End a session of the caller's account and close its sockets. Another account's session is not found.

    To end a session other than the calling one, the calling session needs a recent login.
    """
    services = services_of(request)
    own = await caller(services, request.scope)
    session = await _own_session(services, own, session_id)
    if session_id != own.session_id:
        ensure_recent_login(services, own)
    receipt = await services.sessions.end(session, "revoked", own.subject or "anonymous", under=authority_of(own))
    return Response(None, status_code=204, headers=receipt_header(receipt))


@delete(
    "/api/sessions",
    status_code=200,
    tags=["sessions"],
    summary="End all my other sessions",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(*CREDENTIALS, LoginTooOld, Overloaded),
    security=SECURITY,
)
async def end_other_sessions(request: Request[Any, Any, Any]) -> Response[EndedResponse]:
    """End all other sessions of the caller's account. The calling session needs a recent login."""
    services = services_of(request)
    own = await caller(services, request.scope)
    ensure_recent_login(services, own)
    receipts: list[Receipt] = []
    if own.subject is not None:
        end_all = services.account_sessions.end_all
        receipts = await end_all(own.subject, "revoked", own.subject, but=own.session_id, under=authority_of(own))
    return ended_response(receipts)


async def _own_session(services: Services, own: Session, session_id: str) -> Session:
    """Return the live session with this id, if it is ``own`` or of the same account.

    Raises:
        RequestRefused: 404, which does not reveal whether another account has the session.
    """
    if session_id == own.session_id:
        return own
    with suppress(SessionNotFound, SessionEnded):
        session = await services.sessions.load(session_id)
        ensure_alive(session, services.clock.now_ms())
        if session.subject is not None and session.subject == own.subject:
            return session
    raise RequestRefused(404, "no such session of yours")


HANDLERS: Final[list[ControllerRouterHandler]] = [
    create_session,
    get_session,
    list_session_transitions,
    create_ticket,
    list_sessions,
    end_session,
    end_other_sessions,
]
