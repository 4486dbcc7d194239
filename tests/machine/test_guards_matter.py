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
    "session: connect from authenticated: below_connection_limit",
    "session: disconnect from connected: last_connection",
    "execution: interrupt from running: not repeatable",
}


def _place(machine: Machine[Any], row: TransitionRow, term: GuardTerm) -> str:
    return f"{machine.kind}: {row.event} from {row.source}: {term}"


_PLACES: Final = [_place(machine, row, term) for machine, _, _, row, term in _OCCURRENCES]


@pytest.mark.parametrize(("machine", "guards", "walk_", "row", "term"), _OCCURRENCES, ids=_PLACES)
def test_dropping_any_guard_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine[Any],
    guards: Mapping[str, Guard[Any, Any]],
    walk_: _Walk,
    row: TransitionRow,
    term: GuardTerm,
) -> None:
    lifecycle = machine.lifecycle
    without = msgspec.structs.replace(row, guards=tuple(guard for guard in row.guards if guard is not term))
    changed = msgspec.structs.replace(
        lifecycle, transitions=tuple(without if each is row else each for each in lifecycle.transitions)
    )
    monkeypatch.setattr(machine, "table", Table(changed, guards))
    if _place(machine, row, term) in _IMPLIED:
        walk_()
        return
    with pytest.raises(AssertionError, match=r"^\w+ is broken\. The \w+ so far, and the step:\n"):
        walk_()


def test_guards_listed_as_implied_are_declared() -> None:
    assert set(_PLACES) >= _IMPLIED
