"""What every page of the console shows: the operator, the section, and how records and instances are written."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Request
from litestar.response import Template

from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Record
from interlock.machine.machine import Machine
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.times import rfc3339
from interlock.server.experience.calls import services_of
from interlock.server.experience.pages.documents import page
from interlock.server.runtime.console.operators import Operator

MACHINES_SHOWN: Final[dict[str, Machine[Any]]] = {
    SESSION_MACHINE.kind: SESSION_MACHINE,
    EXECUTION_MACHINE.kind: EXECUTION_MACHINE,
    ACCOUNT_MACHINE.kind: ACCOUNT_MACHINE,
}
"""The lifecycles with pages of their own, in the order of the first page."""

LISTS: Final = {kind: f"/console/{kind}s" for kind in MACHINES_SHOWN}
"""The page of all instances of a kind."""


class RecordRow(msgspec.Struct, frozen=True):
    """A record in a list. ``page`` is that of its instance, empty if its kind has none."""

    position: int
    at: str
    kind: str
    instance_id: str
    page: str
    event: str
    source: str
    target: str
    actor: str
    receipt: str


def record_row(record: Record) -> RecordRow:
    """Return ``record`` for a list."""
    move = record.transition
    return RecordRow(
        record.position,
        rfc3339(move.at_ms),
        move.kind,
        move.instance_id,
        f"{LISTS[move.kind]}/{move.instance_id}" if move.kind in LISTS else "",
        move.event,
        move.source or "",
        move.target,
        move.actor,
        str(record.receipt),
    )


async def shown(request: Request[Any, Any, Any], template: str, section: str, **context: Any) -> Template:
    """Return the page ``template`` of a ``section`` for the operator that asks for it. No cache keeps it."""
    operator: Operator = request.user
    services = services_of(request)
    emails = await services.administration.emails([operator.account])
    answer = page(
        template,
        section=section,
        operator=emails.get(operator.account.account_id, operator.account.account_id),
        may_act=operator.may_act,
        signed_in_until=rfc3339(operator.session.deadline_ms),
        origin=_origin(request),
        **context,
    )
    answer.headers["cache-control"] = "no-store"
    return answer


def _origin(request: Request[Any, Any, Any]) -> str:
    """Return what command lines of this server begin with."""
    return str(request.base_url).rstrip("/")
