"""Each guard, wherever the declaration uses it, is one whose loss breaks a promise."""

from __future__ import annotations

import msgspec
import pytest

from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import GUARDS
from interlock.machine.table import Table
from interlock.spec.lifecycles import SESSION
from interlock.spec.transitions import TransitionRow
from tests.machine.test_exhaustive import test_every_edge_keeps_every_promise as walk

_OCCURRENCES = [(row, term) for row in SESSION.transitions for term in row.guards]
# The declaration as it stands implies these: a session in the first row's state holds no connection yet, and of an event's
# rows the first that holds applies.
_IMPLIED = {
    "connect from authenticated: below_connection_limit",
    "disconnect from connected: last_connection",
}


def _place(row: TransitionRow, term: object) -> str:
    return f"{row.event} from {row.source}: {term}"


@pytest.mark.parametrize(("row", "term"), _OCCURRENCES, ids=[_place(row, term) for row, term in _OCCURRENCES])
def test_dropping_any_guard_breaks_a_promise(monkeypatch: pytest.MonkeyPatch, row: TransitionRow, term: object) -> None:
    without = msgspec.structs.replace(row, guards=tuple(guard for guard in row.guards if guard is not term))
    changed = msgspec.structs.replace(
        SESSION, transitions=tuple(without if each is row else each for each in SESSION.transitions)
    )
    monkeypatch.setattr(SESSION_MACHINE, "table", Table(changed, GUARDS))
    if _place(row, term) in _IMPLIED:
        walk()
        return
    with pytest.raises(AssertionError, match=r"^\w+ is broken\. The session so far, and the step:\n"):
        walk()


def test_guards_listed_as_implied_are_declared() -> None:
    assert {_place(row, term) for row, term in _OCCURRENCES} >= _IMPLIED
