"""The log as a page, newest first: all records, those of one transition, or what administrators did; and the search."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get
from litestar.response import Template
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.errors import AccountError
from interlock.machine.machines import MACHINES
from interlock.server.experience.calls import LAST, services_of
from interlock.server.experience.console.access import ROOT, console_of, looking, see_other
from interlock.server.experience.console.machine import LOG
from interlock.server.experience.console.queries import read_query
from interlock.server.experience.console.shown import LISTS, record_row, shown
from interlock.server.experience.problems import RequestRefused
from interlock.server.experience.vocabulary import Event, InstanceKind, State
from interlock.server.guard.emails import normalise_email
from interlock.server.runtime.console.past import RecordFilter

_PAGE: Final = 50
_FIND: Final = "/console/find"
_EVENTS: Final = tuple(dict.fromkeys(each.name for machine in MACHINES for each in machine.lifecycle.events))
_SESSION: Final = re.compile(r"[0-9a-v]{36}\Z")
_POSITION: Final = re.compile(r"#?([1-9][0-9]{0,15})(\.[0-9a-f]{64})?\Z")
"""A position, or a receipt, which begins with one."""


class LogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters of records. ``source`` without a value matches any; ``at`` shows what was recorded up to a position."""

    kind: InstanceKind | None = None
    event: Event | None = None
    source: State | None = None
    target: State | None = None
    actor: Annotated[str, Meta(max_length=128)] | None = None
    at: Annotated[int, Meta(ge=1, le=LAST)] | None = None


class FindQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is looked for."""

    q: Annotated[str, Meta(max_length=320)] = ""


@get(LOG, guards=[looking], include_in_schema=False)
async def get_log(request: Request[Any, Any, Any]) -> Template:
    """Get a page of the log, newest first."""
    services, query = services_of(request), read_query(request, LogQuery)
    newest = services.tail.newest
    last = newest if query.at is None else min(query.at, newest)
    wanted = RecordFilter(query.kind, query.event, query.source, query.target, query.actor)
    records, onward = await console_of(request).past.latest(wanted, last + 1, _PAGE)
    given = {name: value for name, value in msgspec.structs.asdict(query).items() if value is not None}
    return await shown(
        request,
        "console/log.html",
        "log",
        records=[record_row(each) for each in records],
        query=query,
        given=given,
        kinds=[machine.kind for machine in MACHINES],
        events=_EVENTS,
        newest=newest,
        more=f"{LOG}?{urlencode(given | {'at': onward - 1})}" if onward > 1 else "",
    )


@get(_FIND, guards=[looking], include_in_schema=False)
async def find(request: Request[Any, Any, Any]) -> Response[Any]:
    """Go to the page of an id, an email address, a position or a receipt.

    Raises:
        RequestRefused: nothing is found.
    """
    services, text = services_of(request), read_query(request, FindQuery).q.strip()
    if position := _POSITION.match(text):
        return see_other(ROOT, at=position[1])
    if _SESSION.match(text):
        return see_other(f"{LISTS['session']}/{text}")
    if text.startswith("acc_"):
        return see_other(f"{LISTS['account']}/{text}")
    if text.startswith("exe_"):
        return see_other(f"{LISTS['execution']}/{text}")
    try:
        account = await services.administration.account_of(normalise_email(text))
    except AccountError:
        account = None
    if account is None:
        raise RequestRefused(404, "nothing has this id, email address or position")
    return see_other(f"{LISTS['account']}/{account.account_id}")


HANDLERS: Final[list[ControllerRouterHandler]] = [get_log, find]
QUERIES: Final = {LOG: LogQuery, _FIND: FindQuery}
