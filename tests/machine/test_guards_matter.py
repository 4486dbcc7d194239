"""Each guard, wherever a declaration uses it, is one whose loss breaks a promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
import pytest

from interlock.machine.machine import Machine
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import GUARDS
from interlock.machine.table import Guard, Table
from interlock.spec.transitions import GuardTerm, TransitionRow
from tests.machine.test_exhaustive import test_every_edge_keeps_every_promise
from tests.machine.worlds import WORLDS, walk

_Walk = Callable[[], object]
_WALKS: Final[list[tuple[Machine[Any], Mapping[str, Guard[Any, Any]], _Walk]]] = [
    (SESSION_MACHINE, GUARDS, test_every_edge_keeps_every_promise),
    *((world.machine, world.guards, partial(walk, world)) for world in WORLDS),
]
_OCCURRENCES: Final = [
    (machine, guards, walk_, row, term)
    for machine, guards, walk_ in _WALKS
    for row in machine.lifecycle.transitions
    for term in row.guards
]
# The declarations as they stand imply these: a session in the first row's state holds no connection yet, and of an event's
# rows the first that holds applies.
_IMPLIED: Final = {
    "session: connect from authenticated to connected: below_connection_limit",
    "session: disconnect from connected to authenticated: last_connection",
    "execution: interrupt from running to failed: not repeatable",
}


def _place(machine: Machine[Any], row: TransitionRow, term: GuardTerm) -> str:
    return f"{machine.kind}: {row.event} from {row.source} to {row.target}: {term}"


def _without(machine: Machine[Any], guards: Mapping[str, Guard[Any, Any]], dropped: set[str]) -> Table[Any, Any]:
    """Return the machine's table without the guards at the places ``dropped``."""
    rows = tuple(
        msgspec.structs.replace(
            row, guards=tuple(term for term in row.guards if _place(machine, row, term) not in dropped)
        )
        for row in machine.lifecycle.transitions
    )
    return Table(msgspec.structs.replace(machine.lifecycle, transitions=rows), guards)


_MATTERING: Final = {
    place: (machine, guards, walk_)
    for machine, guards, walk_, row, term in _OCCURRENCES
    if (place := _place(machine, row, term)) not in _IMPLIED
}


@pytest.mark.parametrize("place", _MATTERING)
def test_dropping_any_guard_breaks_a_promise(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    machine, guards, walk_ = _MATTERING[place]
    monkeypatch.setattr(machine, "table", _without(machine, guards, {place}))
    with pytest.raises(AssertionError, match=r"^\w+ is broken\. The \w+ so far, and the step:\n"):
        walk_()


@pytest.mark.parametrize("kind", sorted({place.partition(":")[0] for place in _IMPLIED}))
def test_implied_guards_can_be_dropped_together(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    [(machine, guards, walk_)] = [each for each in _WALKS if each[0].kind == kind]
    monkeypatch.setattr(machine, "table", _without(machine, guards, _IMPLIED))
    walk_()


def test_guards_listed_as_implied_are_declared() -> None:
    assert {_place(machine, row, term) for machine, _, _, row, term in _OCCURRENCES} >= _IMPLIED
