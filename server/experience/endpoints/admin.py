"""Endpoints of administrators: all sessions and accounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Meta

from interlock.machine.errors import AccountError, GroupsRefused, Overloaded, SessionNotFound
from interlock.machine.session.session import Session
from interlock.machine.wire import TransitionView, transition_view
from interlock.server.experience.answers import EndedAnswer
from interlock.server.experience.calls import (
    After,
    NoFields,
    format_cursor,
    page,
    parse_cursor,
    services_of,
)
from interlock.server.experience.endpoints.admin_answers import (
    AdminAccountView,
    AdminSessionView,
    DisabledAnswer,
    admin_account,
    admin_session,
)
from interlock.server.experience.endpoints.admin_calls import (
    ADMIN,
    LAST,
    MAX_PAGE,
    acting,
)
from interlock.server.experience.guards import administrator
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.vocabulary import EndReason, SessionState
from interlock.server.guard.accounts import normalise_email
from interlock.server.guard.groups import MAX_LENGTH, PATTERN, named
from interlock.server.runtime.administration import Account, Wanted
from interlock.server.services import Services

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Maximum number of items.")]


class AccountGroups(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new groups of an account."""

    groups: Annotated[
        list[Annotated[str, Meta(pattern=PATTERN)]],
        Meta(
            description=(
                "Names of printable ASCII characters, without commas, quotation marks, and blanks at the ends; together, with a"
                f" comma between any two, of at most {MAX_LENGTH} characters."
            ),
            examples=[["staff", "on-call"]],
        ),
    ]


@get(
    "/sessions",
    summary="All sessions",
    response_headers=may_send("Link"),
    responses=responses(400, 422, *ADMIN),
    guards=[administrator],
)
async def list_all_sessions(  # noqa: PLR0913, PLR0917  # each is a filter, which Litestar gives by name
    request: Request[Any, Any, Any],
    in_state: Annotated[
        SessionState | None, QueryParameter(name="state", description="Only sessions in this state.")
    ] = None,
    subject: Annotated[str | None, QueryParameter(max_length=64, description="Only this account's sessions.")] = None,
    reason: Annotated[EndReason | None, QueryParameter(description="Only sessions that ended for this reason.")] = None,
    created_from: Annotated[
        str | None, QueryParameter(format="date-time", description="Created at or after this time.")
    ] = None,
    created_to: Annotated[
        str | None, QueryParameter(format="date-time", description="Created before this time.")
    ] = None,
    updated_from: Annotated[
        str | None, QueryParameter(format="date-time", description="Last changed at or after this time.")
    ] = None,
    updated_to: Annotated[
        str | None, QueryParameter(format="date-time", description="Last changed before this time.")
    ] = None,
    after: After = None,
    limit: Limit = 100,
) -> Response[list[AdminSessionView]]:
    """List the sessions of all accounts and all anonymous sessions, live and ended, newest first. All filters must match.

    With a range of `updated` and no `subject`, the list is in the order of the last transition, otherwise of the
    creation. Both ranges together need a `subject`. If more may follow, the response has a ``Link: rel="next"`` header
    (RFC 8288).
    """
    services = services_of(request)
    wanted = Wanted(
        in_state,
        subject,
        reason,
        _ms("created_from", created_from),
        _ms("created_to", created_to),
        _ms("updated_from", updated_from),
        _ms("updated_to", updated_to),
    )
    if wanted.of_creation and wanted.by_update:
        raise RequestRefused(422, "ranges of created and of updated go together only with a subject")
    found = await services.administration.sessions(wanted, parse_cursor(after), limit)
    filters = dict(request.query_params.items())
    return page(
        "/api/admin/sessions",
        found,
        limit,
        admin_session,
        lambda last: filters | {"after": format_cursor(wanted.place_of(last))},
    )


@get(
    "/sessions/{session_id:str}",
    summary="A session",
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def get_any_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> AdminSessionView:
    """Get the current state of any session."""
    services = services_of(request)
    return admin_session(await _session(services, session_id))


@get(
    "/sessions/{session_id:str}/transitions",
    summary="The recorded history of a session",
    response_headers=may_send("Link"),
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def list_any_session_transitions(
    request: Request[Any, Any, Any],
    session_id: FromPath[str],
    after_version: Annotated[
        int, QueryParameter(ge=0, le=LAST, description="Only transitions with a higher version.")
    ] = 0,
    limit: Limit = 100,
) -> Response[list[TransitionView]]:
    """List the session's transitions, oldest first. If more may follow, there is a ``Link: rel="next"`` header."""
    services = services_of(request)
    await _session(services, session_id)
    records = await services.sessions.history(session_id, after_version, limit)
    return page(
        f"/api/admin/sessions/{session_id}/transitions",
        records,
        limit,
        transition_view,
        lambda last: {"after_version": last.transition.version},
    )


@delete(
    "/sessions/{session_id:str}",
    summary="End a session",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, *ADMIN, Overloaded),
    guards=[administrator],
)
async def end_any_session(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Response[None]:
    """End any session and close its sockets. A session that has already ended is not changed."""
    services = services_of(request)
    receipt = await services.administration.end(await _session(services, session_id), acting(request))
    return Response(None, status_code=204, headers=receipt_header(receipt))


@get(
    "/accounts",
    summary="All accounts",
    response_headers=may_send("Link"),
    responses=responses(400, AccountError, *ADMIN),
    guards=[administrator],
)
async def list_accounts(
    request: Request[Any, Any, Any],
    email: Annotated[
        str | None, QueryParameter(max_length=320, description="Only the account with this address.")
    ] = None,
    after: Annotated[
        str, QueryParameter(max_length=64, description="Only accounts whose id comes after this one.")
    ] = "",
    limit: Limit = 100,
) -> Response[list[AdminAccountView]]:
    """List all accounts by id, in pages with a ``Link: rel="next"`` header; with `email`, only the one with that address."""
    services = services_of(request)
    if email is not None:
        account = await services.administration.account_of(normalise_email(email))
        return Response([] if account is None else [admin_account(account)])
    found = await services.administration.accounts(after, limit)
    return page("/api/admin/accounts", found, limit, admin_account, lambda last: {"after": last.account_id})


@get(
    "/accounts/{account_id:str}",
    summary="An account",
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def get_account(request: Request[Any, Any, Any], account_id: FromPath[str]) -> AdminAccountView:
    """Get the current state of any account, without its password hash."""
    services = services_of(request)
    return admin_account(_known(await services.administration.account(account_id)))


@delete(
    "/accounts/{account_id:str}/sessions",
    status_code=200,
    summary="End all sessions of an account",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, *ADMIN, Overloaded),
    guards=[administrator],
)
async def end_account_sessions(request: Request[Any, Any, Any], account_id: FromPath[str]) -> Response[EndedAnswer]:
    """End every session of an account and close their sockets. Its owner may log in again."""
    services = services_of(request)
    _known(await services.administration.account(account_id))
    receipts = await services.administration.end_all(account_id, acting(request))
    last = max(receipts, default=None)
    return Response(EndedAnswer(len(receipts), last or UNSET), headers=receipt_header(last))


@post(
    "/accounts/{account_id:str}/disable",
    status_code=200,
    summary="Disable an account",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, 413, 415, *ADMIN, Overloaded),
    guards=[administrator],
)
async def disable_account(
    request: Request[Any, Any, Any],
    account_id: FromPath[str],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> Response[DisabledAnswer]:
    """Disable an account: end all its sessions, close their sockets, and refuse logins until it is enabled again.

    After the response, no session of the account is alive. The call is idempotent; a repeat ends sessions that are left.
    """
    services = services_of(request)
    done = await services.administration.disable(account_id, acting(request))
    if done is None:
        raise _no_account()
    account, receipts = done
    last = max(receipts, default=None)
    answer = DisabledAnswer(account.account_id, admin_account(account).disabled_at or "", len(receipts), last or UNSET)
    return Response(answer, headers=receipt_header(last))


@post(
    "/accounts/{account_id:str}/enable",
    status_code=200,
    summary="Enable an account again",
    responses=responses(400, 404, 413, 415, *ADMIN, Overloaded),
    guards=[administrator],
)
async def enable_account(
    request: Request[Any, Any, Any],
    account_id: FromPath[str],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> AdminAccountView:
    """Let the owner of a disabled account log in again. Ended sessions stay ended."""
    services = services_of(request)
    return admin_account(_known(await services.administration.enable(account_id, acting(request))))


@put(
    "/accounts/{account_id:str}/groups",
    summary="Set an account's groups",
    responses=responses(400, 404, 413, 415, *ADMIN, Overloaded),
    guards=[administrator],
)
async def set_account_groups(
    request: Request[Any, Any, Any],
    account_id: FromPath[str],
    data: JSONBody[AccountGroups],
) -> AdminAccountView:
    """Replace the account's groups. Interlock gives them no meaning; it passes them on to other software."""
    services = services_of(request)
    try:
        groups = named(data.groups)
    except GroupsRefused as refused:
        raise RequestRefused(400, str(refused)) from None
    return admin_account(_known(await services.administration.set_groups(account_id, groups, acting(request))))


async def _session(services: Services, session_id: str) -> Session:
    try:
        return await services.sessions.load(session_id)
    except SessionNotFound:
        raise RequestRefused(404, "no such session") from None


def _known(account: Account | None) -> Account:
    if account is None:
        raise _no_account()
    return account


def _no_account() -> RequestRefused:
    return RequestRefused(404, "no such account")


def _ms(name: str, text: str | None) -> int | None:
    """The RFC 3339 time ``text``, which the parameter ``name`` gives, in ms.

    Raises:
        RequestRefused: it is none.
    """
    if text is None:
        return None
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError):  # a TypeError when it has no time zone
        raise RequestRefused(400, f"{name} is a time with its time zone, such as 2026-01-23T09:30:00Z") from None


HANDLERS: Final[list[ControllerRouterHandler]] = [
    list_all_sessions,
    get_any_session,
    list_any_session_transitions,
    end_any_session,
    list_accounts,
    get_account,
    end_account_sessions,
    disable_account,
    enable_account,
    set_account_groups,
]
