"""The first page: the declared lifecycles with live numbers, and as they were at any position of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import msgspec
from litestar import Request, get
from litestar.response import Stream, Template
from litestar.response.sse import ServerSentEventMessage
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from interlock.machine.errors import CredentialRefused, RoleMissing
from interlock.machine.times import rfc3339
from interlock.server.experience.calls import LAST, services_of
from interlock.server.experience.console.access import ROOT, console_of, held_cookie, looking
from interlock.server.experience.console.queries import read_query
from interlock.server.experience.console.shown import LISTS, MACHINES_SHOWN, record_row, shown
from interlock.server.experience.endpoints.events.stream import Follower, follow
from interlock.server.experience.problems import RequestRefused
from interlock.server.runtime.console.console import Console
from interlock.server.runtime.console.operators import Operator
from interlock.server.runtime.console.past import RecordFilter
from interlock.server.runtime.tail import Tail
from interlock.spec.diagrams import Links, figure
from interlock.spec.transitions import TransitionRow

LOG: Final = "/console/log"

_EVERY_S: Final = 1.0
"""How often a page gets new numbers."""
_FOLLOWERS: Final = 16
_NEWEST: Final = 8


def _links(kind: str, base_path: str) -> Links:
    def transition(row: TransitionRow) -> str:
        query = urlencode({"kind": kind, "event": row.event, "target": row.target, **_source(row)})
        return f"{base_path}{LOG}?{query}"

    return Links(lambda state: f"{base_path}{LISTS[kind]}?{urlencode({'state': state})}", transition)


def _source(row: TransitionRow) -> dict[str, str]:
    return {} if row.source is None else {"source": row.source}


@cache
def _figures(base_path: str) -> dict[str, tuple[str, str]]:
    """Return the description and the figure of each lifecycle, with links below ``base_path``."""
    return {
        kind: (machine.lifecycle.description, figure(machine.lifecycle, _links(kind, base_path)))
        for kind, machine in MACHINES_SHOWN.items()
    }


class MachineQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The position of the log, or the time in ms, that the machine is shown at; neither: live."""

    at: Annotated[int, Meta(ge=0, le=LAST)] | None = None
    at_ms: Annotated[int, Meta(ge=0, le=LAST)] | None = None


class Numbers(msgspec.Struct, frozen=True):
    """The numbers of a page.

    ``states``: instances by kind and state. ``edges``: kind, event, source, target and number of transitions. ``refusals``:
    kind, event, state, guard and number. Live, both count since the start of the server; ``signed`` is the position of the
    newest signed head, and ``verified`` that up to which the digest chain was computed again. Of the past, ``edges`` are of one
    second, and ``counted`` is how far the counts reach.
    """

    position: int
    at_ms: int
    states: dict[str, dict[str, int]]
    edges: list[tuple[Any, ...]]
    refusals: list[tuple[Any, ...]] = []
    signed: int | None = None
    verified: int | None = None
    broken: str | None = None
    ending: Any = None
    counted: int | None = None


@get(ROOT, guards=[looking], include_in_schema=False)
async def get_machine(request: Request[Any, Any, Any]) -> Template:
    """Get the machine: live, or at a position of the log."""
    services, console = services_of(request), console_of(request)
    query, newest = read_query(request, MachineQuery), services.tail.newest
    at = None if query == MachineQuery() else await _position(console, query, newest)
    records, _ = await console.past.latest(RecordFilter(), (newest if at is None else at) + 1, _NEWEST)
    (first,) = await services.tail.after(0, 1)
    return await shown(
        request,
        "console/machine.html",
        "machine",
        figures=_figures(services.settings.base_path),
        numbers=msgspec.json.encode(await _numbers(console, services.tail, at, services.clock.now_ms())).decode(),
        at=at,
        newest=newest,
        first_ms=first.transition.at_ms,
        last_ms=records[0].transition.at_ms if records else first.transition.at_ms,
        now_ms=services.clock.now_ms(),
        records=[record_row(each) for each in records],
        rfc3339=rfc3339,
    )


@get("/console/numbers", guards=[looking], include_in_schema=False)
async def get_numbers(request: Request[Any, Any, Any]) -> Numbers:
    """Get the numbers at a position of the log, or at a time."""
    services, console = services_of(request), console_of(request)
    at = await _position(console, read_query(request, MachineQuery), services.tail.newest)
    return await _numbers(console, services.tail, at, services.clock.now_ms())


@get("/console/live", guards=[looking], include_in_schema=False)
async def follow_numbers(request: Request[Any, Any, Any]) -> Stream:
    """Stream the live numbers, once a second, until the operator's session or right ends (`credential-removed`)."""
    services, console = services_of(request), console_of(request)
    operator: Operator = request.user
    held = held_cookie(request.scope) or ""
    watch = _Watch(console, services.tail, held, operator)
    follower = Follower(operator.actor, watch.still, "console", _FOLLOWERS, watch.read)
    return follow(services, request, follower, None, None)


class _Watch:
    """One open page. Its operator is recognised anew before each reading."""

    def __init__(self, console: Console, tail: Tail, held: str, operator: Operator) -> None:
        self._console = console
        self._tail = tail
        self._held = held
        self._operator = operator
        self._over = False
        self._next_s = 0.0

    @property
    def newest(self) -> int:
        """The position of the newest record."""
        return self._tail.newest

    def still(self) -> bool:
        """Return whether the operator could still look at the last reading."""
        return not self._over

    async def read(self, _position: int) -> tuple[bytes, int]:
        """Return the next reading, at most one each second."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._next_s - loop.time())
        self._next_s = loop.time() + _EVERY_S
        try:
            await self._console.operators.authenticate(self._held)
        except (CredentialRefused, RoleMissing):
            self._over = True
            return b"", 0  # The log has records after 0, so the stream looks at once whether it is over.
        await self._console.chain.advance(self._tail.newest)
        numbers = await _numbers(self._console, self._tail, None, 0)
        data = msgspec.json.encode(numbers)
        return ServerSentEventMessage(data, event="numbers", id=numbers.position).encode(), numbers.position


async def _position(console: Console, query: MachineQuery, newest: int) -> int:
    """Return the position that ``query`` asks for.

    Raises:
        RequestRefused: the log has no such position yet.
    """
    at = newest if query.at is None else query.at
    if query.at_ms is not None:
        at = await console.past.position_at(query.at_ms, newest)
    if at > newest:
        raise RequestRefused(400, "the log has no such position yet")
    return at


async def _numbers(console: Console, tail: Tail, at: int | None, now_ms: int) -> Numbers:
    if at is None:
        flow = console.flow
        edges = [(*edge, count) for edge, count in flow.edges.items()]
        refusals = [(*refused, count) for refused, count in flow.refusals.items()]
        states, signed = _nested(flow.states), console.head.position
        chain = console.chain
        return Numbers(
            tail.newest, now_ms, states, edges, refusals, signed, chain.verified, chain.broken, flow.last_ending
        )
    moment = await console.past.at(at)
    return Numbers(
        at, moment.at_ms, _nested(moment.states), [tuple(each) for each in moment.edges], counted=moment.counted
    )


def _nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {kind: {} for kind in MACHINES_SHOWN}
    for (kind, state), count in counts.items():
        if kind in nested:
            nested[kind][state] = count
    return nested


HANDLERS: Final[list[ControllerRouterHandler]] = [get_machine, get_numbers, follow_numbers]
QUERIES: Final = {ROOT: MachineQuery, "/console/numbers": MachineQuery}
