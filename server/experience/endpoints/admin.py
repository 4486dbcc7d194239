"""Endpoints of administrators: all sessions and accounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Meta

from interlock.machine.account.account import Account
from interlock.machine.errors import (
    AccountError,
    GroupsRefused,
    InstanceNotFound,
    Overloaded,
    SessionNotFound,
    TransitionRefused,
)
from interlock.machine.ledger import Receipt, Record
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
    EndedAccountAnswer,
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
from interlock.server.experience.vocabulary import AccountState, EndReason, SessionState
from interlock.server.guard.emails import normalise_email
from interlock.server.guard.groups import MAX_LENGTH, PATTERN, named
from interlock.server.runtime.accounts.administration import Place, Wanted
from interlock.server.runtime.door import Outcome
from interlock.server.services import Services

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

AfterVersion = Annotated[int, QueryParameter(ge=0, le=LAST, description="Only transitions with a higher version.")]
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
    request: Request[Any, Any, Any], session_id: FromPath[str], after_version: AfterVersion = 0, limit: Limit = 100
) -> Response[list[TransitionView]]:
    """List the session's transitions, oldest first. If more may follow, there is a ``Link: rel="next"`` header."""
    services = services_of(request)
    await _session(services, session_id)
    records = await services.sessions.history(session_id, after_version, limit)
    return _history(f"sessions/{session_id}", records, limit)


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
    in_state: Annotated[
        AccountState | None, QueryParameter(name="state", description="Only accounts in this state.")
    ] = None,
    after: After = None,
    limit: Limit = 100,
) -> Response[list[AdminAccountView]]:
    """List all accounts, newest first, deleted ones too; with `email`, only the one with that address.

    A ``Link: rel="next"`` header (RFC 8288) is present while more may follow.
    """
    administration = services_of(request).administration
    if email is not None:
        account = await administration.account_of(normalised := normalise_email(email))
        wanted = account is not None and in_state in {None, account.state}
        return Response([admin_account(account, normalised)] if account is not None and wanted else [])
    found = await administration.accounts(Wanted(in_state), parse_cursor(after), limit)
    emails = await administration.emails(found)
    filters = dict(request.query_params.items())
    return page(
        "/api/admin/accounts",
        found,
        limit,
        lambda each: admin_account(each, emails.get(each.account_id)),
        lambda last: filters | {"after": format_cursor(Place.of(last))},
    )


@get(
    "/accounts/{account_id:str}",
    summary="An account",
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def get_account(request: Request[Any, Any, Any], account_id: FromPath[str]) -> AdminAccountView:
    """Get the current state of any account, without its password hash."""
    services = services_of(request)
    with _known():
        return await _shown(services, await services.accounts.load(account_id))


@get(
    "/accounts/{account_id:str}/transitions",
    summary="The recorded history of an account",
    response_headers=may_send("Link"),
    responses=responses(400, 404, *ADMIN),
    guards=[administrator],
)
async def list_account_transitions(
    request: Request[Any, Any, Any], account_id: FromPath[str], after_version: AfterVersion = 0, limit: Limit = 100
) -> Response[list[TransitionView]]:
    """The account's transitions, oldest first. A ``Link: rel="next"`` header is there while more may follow."""
    accounts = services_of(request).accounts
    with _known():
        await accounts.load(account_id)
    return _history(f"accounts/{account_id}", await accounts.history(account_id, after_version, limit), limit)


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
    with _known():
        await services.accounts.load(account_id)
    receipts = await services.administration.end_all(account_id, acting(request))
    last = max(receipts, default=None)
    return Response(EndedAnswer(len(receipts), last or UNSET), headers=receipt_header(last))


@post(
    "/accounts/{account_id:str}/disable",
    status_code=200,
    summary="Disable an account",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, 413, 415, *ADMIN, TransitionRefused, Overloaded),
    guards=[administrator],
)
async def disable_account(
    request: Request[Any, Any, Any],
    account_id: FromPath[str],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> Response[EndedAccountAnswer]:
    """Disable an account: end all its sessions, close their sockets, and refuse logins until it is enabled again.

    After the response, no session of the account is alive. The call is idempotent; a repeat ends sessions that are left.
    """
    with _known():
        return _ended(*await services_of(request).administration.disable(account_id, acting(request)))


@delete(
    "/accounts/{account_id:str}",
    status_code=200,
    summary="Delete an account",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, *ADMIN, Overloaded),
    guards=[administrator],
)
async def delete_account(request: Request[Any, Any, Any], account_id: FromPath[str]) -> Response[EndedAccountAnswer]:
    """Delete an account for ever: its owner's email address, password and identity are erased, and all its sessions end.

    Its records stay, and name it by its id alone. The email address may be registered again, for a new account.
    """
    with _known():
        return _ended(*await services_of(request).administration.delete(account_id, acting(request)))


@post(
    "/accounts/{account_id:str}/enable",
    status_code=200,
    summary="Enable an account again",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, 413, 415, *ADMIN, TransitionRefused, Overloaded),
    guards=[administrator],
)
async def enable_account(
    request: Request[Any, Any, Any],
    account_id: FromPath[str],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> Response[AdminAccountView]:
    """Let the owner of a disabled account log in again. Ended sessions stay ended."""
    services = services_of(request)
    with _known():
        return await _changed(services, await services.administration.enable(account_id, acting(request)))


@put(
    "/accounts/{account_id:str}/groups",
    summary="Set an account's groups",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, 413, 415, *ADMIN, TransitionRefused, Overloaded),
    guards=[administrator],
)
async def set_account_groups(
    request: Request[Any, Any, Any],
    account_id: FromPath[str],
    data: JSONBody[AccountGroups],
) -> Response[AdminAccountView]:
    """Replace the account's groups. Interlock gives them no meaning; it passes them on to other software."""
    services = services_of(request)
    try:
        groups = named(data.groups)
    except GroupsRefused as refused:
        raise RequestRefused(400, str(refused)) from None
    with _known():
        return await _changed(services, await services.administration.set_groups(account_id, groups, acting(request)))


async def _session(services: Services, session_id: str) -> Session:
    try:
        return await services.sessions.load(session_id)
    except SessionNotFound:
        raise RequestRefused(404, "no such session") from None


@contextmanager
def _known() -> Iterator[None]:
    try:
        yield
    except InstanceNotFound:
        raise RequestRefused(404, "no such account") from None


async def _shown(services: Services, account: Account) -> AdminAccountView:
    emails = await services.administration.emails([account])
    return admin_account(account, emails.get(account.account_id))


async def _changed(services: Services, outcome: Outcome[Account]) -> Response[AdminAccountView]:
    return Response(await _shown(services, outcome.instance), headers=receipt_header(outcome.receipt))


def _ended(account: Account, receipts: Sequence[Receipt], sessions: int) -> Response[EndedAccountAnswer]:
    last = max(receipts, default=None)
    answer = EndedAccountAnswer(account.account_id, account.state or "", sessions, last or UNSET)
    return Response(answer, headers=receipt_header(last))


def _history(of: str, records: Sequence[Record], limit: int) -> Response[list[TransitionView]]:
    return page(
        f"/api/admin/{of}/transitions",
        records,
        limit,
        transition_view,
        lambda last: {"after_version": last.transition.version},
    )


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
    list_account_transitions,
    end_account_sessions,
    delete_account,
    disable_account,
    enable_account,
    set_account_groups,
]
