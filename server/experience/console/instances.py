"""The page of one session, account or execution: its story, as it was after any record, and what an operator may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Annotated, Any, Final, TypeVar

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Template
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.account.account import Account
from interlock.machine.errors import InstanceNotFound
from interlock.machine.execution.execution import Execution
from interlock.machine.ledger import Record
from interlock.machine.session.session import Session
from interlock.machine.story import StoryStep, describe, snapshot, value_text
from interlock.server.experience.calls import LAST, services_of
from interlock.server.experience.console.access import acting, caller_of, console_of, looking, see_other
from interlock.server.experience.console.queries import read_query
from interlock.server.experience.console.shown import LISTS, shown
from interlock.server.experience.console.timeline import timeline
from interlock.server.experience.problems import RequestRefused
from interlock.server.runtime.accounts.administration import Caller, InstanceFilter
from interlock.server.runtime.door import Door

I = TypeVar("I", Session, Account, Execution)  # noqa: E741  # an instance

_RECORDS: Final = 1000
"""Records that a page tells, from the first on. `interlock replay` tells longer stories."""
_BESIDE: Final = 50
"""Sessions or executions of an account that are listed beside it."""
_CLOSED_S: Final = 5.0
"""How long an act waits until the sockets of the session that it ended have closed."""


class InstanceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The position of the log after which the instance is shown; not given: now."""

    at: Annotated[int, Meta(ge=1, le=LAST)] | None = None


class Told(msgspec.Struct, frozen=True):
    """A record of the instance: its story, its data, and its receipt."""

    step: StoryStep
    data: str
    receipt: str


class EndedView(msgspec.Struct, frozen=True):
    """How a session was ended: how long the request took, and how long after the decision its last socket had closed.

    ``closed_ms`` is null if it had no socket, or one does not close.
    """

    position: int | None
    recorded_ms: float
    sockets: int
    closed_ms: int | None


@get("/console/sessions/{instance_id:str}", guards=[looking], include_in_schema=False)
async def get_session(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Template:
    """Get the page of a session."""
    services = services_of(request)
    session = await _loaded(services.sessions, instance_id)
    runs = []
    if session.subject is not None:
        of_account = await services.executions.page_of_all(InstanceFilter(owner=session.subject), None, _BESIDE)
        runs = [each for each in of_account if each.session_id == instance_id]
    return await _page(request, services.sessions, session, runs=runs)


@get("/console/accounts/{instance_id:str}", guards=[looking], include_in_schema=False)
async def get_account(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Template:
    """Get the page of an account."""
    services = services_of(request)
    account = await _loaded(services.accounts, instance_id)
    emails = await services.administration.emails([account])
    sessions = await services.administration.sessions(InstanceFilter(owner=instance_id), None, _BESIDE)
    return await _page(request, services.accounts, account, email=emails.get(instance_id, ""), sessions=sessions)


@get("/console/executions/{instance_id:str}", guards=[looking], include_in_schema=False)
async def get_execution(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Template:
    """Get the page of an execution. It has no parameters, result or error: those are domain data."""
    executions = services_of(request).executions
    return await _page(request, executions, await _loaded(executions, instance_id))


@post("/console/sessions/{instance_id:str}/end", guards=[acting], status_code=200, include_in_schema=False)
async def end_session(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Response[Any]:
    """End a session and close its sockets. The answer says how long both took."""
    services = services_of(request)
    session = await _loaded(services.sessions, instance_id)
    began_s = perf_counter()
    receipt = await services.administration.end(session, caller_of(request))
    recorded_ms = round((perf_counter() - began_s) * 1000, 2)
    ending = await console_of(request).flow.ending_of(instance_id, _CLOSED_S)
    if "text/html" in request.headers.get("accept", ""):
        return see_other(f"{LISTS['session']}/{instance_id}")
    sockets, closed_ms = (ending.sockets, ending.ms) if ending is not None else (0, None)
    return Response(EndedView(receipt.position if receipt else None, recorded_ms, sockets, closed_ms))


@post("/console/accounts/{instance_id:str}/end-sessions", guards=[acting], status_code=303, include_in_schema=False)
async def end_sessions(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Response[Any]:
    """End all sessions of an account."""
    return await _on_account(request, instance_id, services_of(request).administration.end_all)


@post("/console/accounts/{instance_id:str}/disable", guards=[acting], status_code=303, include_in_schema=False)
async def disable_account(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Response[Any]:
    """Disable an account, and end its sessions."""
    return await _on_account(request, instance_id, services_of(request).administration.disable)


@post("/console/accounts/{instance_id:str}/enable", guards=[acting], status_code=303, include_in_schema=False)
async def enable_account(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Response[Any]:
    """Let the owner of a disabled account log in again."""
    return await _on_account(request, instance_id, services_of(request).administration.enable)


async def _on_account(
    request: Request[Any, Any, Any], account_id: str, act: Callable[[str, Caller], Awaitable[object]]
) -> Response[Any]:
    """Do ``act`` to an account, and show the account's page."""
    await _loaded(services_of(request).accounts, account_id)
    await act(account_id, caller_of(request))
    return see_other(f"{LISTS['account']}/{account_id}")


@post("/console/executions/{instance_id:str}/cancel", guards=[acting], status_code=303, include_in_schema=False)
async def cancel_execution(request: Request[Any, Any, Any], instance_id: FromPath[str]) -> Response[Any]:
    """Cancel an execution."""
    services, caller = services_of(request), caller_of(request)
    await _loaded(services.executions, instance_id)
    async with caller.acting() as under:
        await services.runner.cancel_any(instance_id, under, caller.actor)
    return see_other(f"{LISTS['execution']}/{instance_id}")


async def _loaded(door: Door[I], instance_id: str) -> I:
    try:
        return await door.load(instance_id)
    except InstanceNotFound as missing:
        raise RequestRefused(404, f"no such {missing.kind}") from None


async def _page(request: Request[Any, Any, Any], door: Door[I], instance: I, **more: Any) -> Template:
    """Return the page of ``instance``: as it is, or as it was after the record that the query names."""
    services, at = services_of(request), read_query(request, InstanceQuery).at
    machine, now_ms = door.machine, services.clock.now_ms()
    instance_id: str = getattr(instance, instance.__struct_fields__[0])
    records = await door.history(instance_id, 0, _RECORDS)
    past = [each for each in records if at is None or each.position <= at]
    steps, then = describe(machine, instance_id, past)
    whole = at is None and len(records) < _RECORDS
    then_ms = now_ms if whole else (past[-1].transition.at_ms if past else 0)
    return await shown(
        request,
        "console/instance.html",
        f"{machine.kind}s",
        kind=machine.kind,
        instance=instance,
        instance_id=instance_id,
        at=at,
        told=[_told(step, record) for step, record in zip(steps, past, strict=True)][::-1],
        stands=snapshot(machine, instance if whole else then, then_ms) if past else None,
        picture=timeline(past, more["runs"], then_ms) if past and "runs" in more else None,
        partial=len(records) == _RECORDS,
        final=instance.state in machine.final,
        newest=services.tail.newest,
        lists=LISTS,
        value_text=value_text,
        **{"runs": [], "sessions": [], "email": "", **more},
    )


def _told(step: StoryStep, record: Record) -> Told:
    return Told(step, msgspec.json.encode(record.transition.data).decode(), str(record.receipt))


HANDLERS: Final[list[ControllerRouterHandler]] = [
    get_session,
    get_account,
    get_execution,
    end_session,
    end_sessions,
    disable_account,
    enable_account,
    cancel_execution,
]
QUERIES: Final = {f"{path}/{{instance_id}}": InstanceQuery for path in LISTS.values()}
