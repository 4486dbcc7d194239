"""The lists of the console: sessions, accounts, executions. Each page has an address of its own."""

from __future__ import annotations

from typing import Any, Final, get_args
from urllib.parse import urlencode

import msgspec
from litestar import Request, get
from litestar.response import Template
from litestar.types import ControllerRouterHandler

from interlock.machine.execution.commands import CancelReason, FailureReason, InterruptionReason
from interlock.machine.session.commands import ExpiryReason, RevocationReason
from interlock.machine.times import rfc3339
from interlock.server.experience.calls import format_cursor, parse_cursor, services_of
from interlock.server.experience.console.access import looking
from interlock.server.experience.console.queries import read_query
from interlock.server.experience.console.shown import LISTS, MACHINES_SHOWN, shown
from interlock.server.experience.vocabulary import (
    AccountState,
    EndReason,
    ExecutionReason,
    ExecutionState,
    SessionState,
)
from interlock.server.guard.emails import normalise_email
from interlock.server.runtime.accounts.administration import Cursor, InstanceFilter
from interlock.server.services import Services

_PAGE: Final = 50
_REASONS: Final = {
    "session": (*get_args(ExpiryReason), *get_args(RevocationReason)),
    "execution": (*get_args(FailureReason), *get_args(InterruptionReason), *get_args(CancelReason)),
}


class SessionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters of sessions."""

    state: SessionState | None = None
    reason: EndReason | None = None
    subject: str | None = None
    after: str | None = None


class ExecutionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters of executions."""

    state: ExecutionState | None = None
    reason: ExecutionReason | None = None
    subject: str | None = None
    after: str | None = None


class AccountQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters of accounts."""

    state: AccountState | None = None
    email: str | None = None
    after: str | None = None


class Row(msgspec.Struct, frozen=True):
    """One instance in a list. ``more`` holds the cells that only its kind has."""

    instance_id: str
    state: str
    created: str
    updated: str
    reason: str
    more: tuple[str, ...]


@get(LISTS["session"], guards=[looking], include_in_schema=False)
async def list_sessions(request: Request[Any, Any, Any]) -> Template:
    """Get a page of sessions, newest first."""
    services, query = services_of(request), read_query(request, SessionQuery)
    wanted = InstanceFilter(query.state, query.subject, query.reason)
    found = await services.administration.sessions(wanted, parse_cursor(query.after), _PAGE)
    emails = await _emails(services, [each.subject for each in found])
    rows = [
        _row(each, emails.get(each.subject or "", each.subject or "anonymous"), str(len(each.connections)))
        for each in found
    ]
    return await _listed(request, "session", query, rows, found, ("Owner", "Sockets"))


@get(LISTS["execution"], guards=[looking], include_in_schema=False)
async def list_executions(request: Request[Any, Any, Any]) -> Template:
    """Get a page of executions, newest first."""
    services, query = services_of(request), read_query(request, ExecutionQuery)
    wanted = InstanceFilter(query.state, query.subject, query.reason)
    found = await services.executions.page_of_all(wanted, parse_cursor(query.after), _PAGE)
    rows = [_row(each, each.intent, str(each.attempt)) for each in found]
    return await _listed(request, "execution", query, rows, found, ("Intent", "Attempt"))


@get(LISTS["account"], guards=[looking], include_in_schema=False)
async def list_accounts(request: Request[Any, Any, Any]) -> Template:
    """Get a page of accounts, newest first; with an email address, the one that has it."""
    services, query = services_of(request), read_query(request, AccountQuery)
    if query.email is not None:
        account = await services.administration.account_of(normalise_email(query.email))
        found = [account] if account is not None and query.state in {None, account.state} else []
    else:
        found = await services.administration.accounts(InstanceFilter(query.state), parse_cursor(query.after), _PAGE)
    emails = await services.administration.emails(found)
    rows = [_row(each, emails.get(each.account_id, "none"), ", ".join(each.groups)) for each in found]
    return await _listed(request, "account", query, rows, found, ("Email", "Groups"))


async def _emails(services: Services, subjects: list[str | None]) -> dict[str, str]:
    accounts = [await services.accounts.standing(each) for each in {each for each in subjects if each is not None}]
    return await services.administration.emails(accounts)


def _row(instance: Any, *more: str) -> Row:
    return Row(
        getattr(instance, instance.__struct_fields__[0]),
        instance.state or "",
        rfc3339(instance.created_at_ms),
        rfc3339(instance.updated_at_ms),
        getattr(instance, "reason", None) or "",
        more,
    )


async def _listed(
    request: Request[Any, Any, Any], kind: str, query: Any, rows: list[Row], found: list[Any], columns: tuple[str, str]
) -> Template:
    given = {name: value for name, value in msgspec.structs.asdict(query).items() if value is not None}
    more = ""
    if len(found) == _PAGE:
        more = f"{LISTS[kind]}?{urlencode(given | {'after': format_cursor(Cursor.of(found[-1]))})}"
    return await shown(
        request,
        "console/list.html",
        f"{kind}s",
        kind=kind,
        path=LISTS[kind],
        rows=rows,
        columns=columns,
        query=query,
        given=given,
        states=[state.name for state in MACHINES_SHOWN[kind].lifecycle.states],
        reasons=_REASONS.get(kind, ()),
        more=more,
    )


HANDLERS: Final[list[ControllerRouterHandler]] = [list_sessions, list_executions, list_accounts]
QUERIES: Final = {LISTS["session"]: SessionQuery, LISTS["execution"]: ExecutionQuery, LISTS["account"]: AccountQuery}
