"""Endpoints of administrators for all accounts."""

from __future__ import annotations

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
    Overloaded,
    TransitionRefused,
)
from interlock.machine.times import rfc3339
from interlock.machine.wire import TransitionView
from interlock.server.experience.calls import (
    After,
    NoFields,
    format_cursor,
    page,
    parse_cursor,
    services_of,
)
from interlock.server.experience.endpoints.administration.calls import (
    ADMIN,
    AfterVersion,
    Limit,
    acting,
    history_page,
    known,
)
from interlock.server.experience.endpoints.administration.responses import (
    AdminAccountView,
    EndedAccountResponse,
    ResetCodeResponse,
    admin_account,
)
from interlock.server.experience.guards import administrator
from interlock.server.experience.headers import RECEIPT_HEADER, receipt_header
from interlock.server.experience.openapi.headers import may_send
from interlock.server.experience.problems import RequestRefused, responses
from interlock.server.experience.responses import EndedResponse, ended_response
from interlock.server.experience.vocabulary import AccountState
from interlock.server.guard.emails import normalise_email
from interlock.server.guard.groups import MAX_LENGTH, PATTERN, named
from interlock.server.runtime.accounts.administration import Cursor, EndedAccount, InstanceFilter
from interlock.server.runtime.door import Recorded
from interlock.server.services import Services


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
    found = await administration.accounts(InstanceFilter(in_state), parse_cursor(after), limit)
    emails = await administration.emails(found)
    filters = dict(request.query_params.items())
    return page(
        "/api/admin/accounts",
        found,
        limit,
        lambda each: admin_account(each, emails.get(each.account_id)),
        lambda last: filters | {"after": format_cursor(Cursor.of(last))},
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
    with known():
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
    """List the account's transitions, oldest first. If more may follow, there is a ``Link: rel="next"`` header."""
    accounts = services_of(request).accounts
    with known():
        await accounts.load(account_id)
    return history_page(f"accounts/{account_id}", await accounts.history(account_id, after_version, limit), limit)


@delete(
    "/accounts/{account_id:str}/sessions",
    status_code=200,
    summary="End all sessions of an account",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, *ADMIN, Overloaded),
    guards=[administrator],
)
async def end_account_sessions(request: Request[Any, Any, Any], account_id: FromPath[str]) -> Response[EndedResponse]:
    """End every session of an account and close their sockets. Its owner may log in again."""
    services = services_of(request)
    with known():
        await services.accounts.load(account_id)
    return ended_response(await services.administration.end_all(account_id, acting(request)))


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
) -> Response[EndedAccountResponse]:
    """Disable an account: end all its sessions, close their sockets, and refuse logins until it is enabled again.

    After the response, no session of the account is alive. The call is idempotent; a repeat ends sessions that are left.
    """
    with known():
        return _ended(await services_of(request).administration.disable(account_id, acting(request)))


@delete(
    "/accounts/{account_id:str}",
    status_code=200,
    summary="Delete an account",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, *ADMIN, Overloaded),
    guards=[administrator],
)
async def delete_account(request: Request[Any, Any, Any], account_id: FromPath[str]) -> Response[EndedAccountResponse]:
    """Delete an account permanently: erase its owner's email address, password and identity, and end all its sessions.

    Its records stay, and name it by its id only. The email address may be registered again, for a new account.
    """
    services = services_of(request)
    with known():
        emails = await services.administration.emails([await services.accounts.load(account_id)])
        ended = await services.administration.delete(account_id, acting(request))
    for email in emails.values():
        services.login_limits.forget(email)
    return _ended(ended)


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
    with known():
        return await _changed(services, await services.administration.enable(account_id, acting(request)))


@post(
    "/accounts/{account_id:str}/reset-code",
    summary="Issue a reset code",
    response_headers=may_send(RECEIPT_HEADER),
    responses=responses(400, 404, 413, 415, *ADMIN, TransitionRefused, Overloaded),
    guards=[administrator],
)
async def issue_reset_code(
    request: Request[Any, Any, Any],
    account_id: FromPath[str],
    data: JSONBody[NoFields | None] = None,  # noqa: ARG001  # declared so that a body with fields is refused
) -> Response[ResetCodeResponse]:
    """Issue a code with which the owner can set another password once, at `POST /api/auth/reset`. Nothing else changes yet.

    The code is shown only in this response. Give it to the owner, after making sure that it is the owner. It replaces an
    earlier one, and a change of the password, a disable or a delete voids it.
    """
    services = services_of(request)
    lifetime_ms = round(services.settings.reset_code_s * 1000)
    with known():
        issued = await services.administration.issue_reset_code(account_id, lifetime_ms, acting(request))
    answer = ResetCodeResponse(issued.code, rfc3339(issued.until_ms), issued.receipt or UNSET)
    return Response(answer, status_code=201, headers=receipt_header(issued.receipt))


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
    with known():
        return await _changed(services, await services.administration.set_groups(account_id, groups, acting(request)))


async def _shown(services: Services, account: Account) -> AdminAccountView:
    emails = await services.administration.emails([account])
    return admin_account(account, emails.get(account.account_id))


async def _changed(services: Services, outcome: Recorded[Account]) -> Response[AdminAccountView]:
    return Response(await _shown(services, outcome.instance), headers=receipt_header(outcome.receipt))


def _ended(done: EndedAccount) -> Response[EndedAccountResponse]:
    account, last = done.account, done.receipt
    answer = EndedAccountResponse(account.account_id, account.state or "", done.sessions, last or UNSET)
    return Response(answer, headers=receipt_header(last))


HANDLERS: Final[list[ControllerRouterHandler]] = [
    list_accounts,
    get_account,
    list_account_transitions,
    end_account_sessions,
    disable_account,
    delete_account,
    enable_account,
    issue_reset_code,
    set_account_groups,
]
