from __future__ import annotations

import pytest

from interlock.machine.errors import TransitionRefused
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import _EVOLVE, FINAL_STATES, GUARDS
from interlock.machine.table import Table
from interlock.spec.lifecycles import SESSION
from interlock.spec.transitions import GuardTerm, Lifecycle, NamedRow, StateRow, TransitionRow

Facts = dict[str, bool]

_DOOR = Lifecycle(
    name="door",
    description="A door.",
    states=(
        StateRow("shut", "It is shut.", initial=True, final=False),
        StateRow("open", "It is open.", initial=False, final=False),
    ),
    events=(NamedRow("push", "It is pushed."),),
    guards=(NamedRow("locked", "It is locked."), NamedRow("heavy", "It is heavy.")),
    transitions=(
        TransitionRow(
            "push", "shut", "open", (GuardTerm("locked", expected=False), GuardTerm("heavy", expected=False))
        ),
        TransitionRow("push", "shut", "shut", (GuardTerm("locked", expected=True), GuardTerm("heavy", expected=True))),
    ),
)


def _door() -> Table[Facts, None]:
    return Table(
        _DOOR, {"locked": lambda facts, _data, _now_ms: facts["locked"], "heavy": lambda facts, _, __: facts["heavy"]}
    )


@pytest.mark.parametrize("given", [[], ["locked"], ["locked", "heavy", "red"]])
def test_the_tables_guards_must_match_the_declared_ones(given: list[str]) -> None:
    with pytest.raises(ValueError, match="guards declared"):
        Table(_DOOR, {name: lambda _instance, _data, _now_ms: True for name in given})


@pytest.mark.parametrize(("locked", "heavy", "target"), [(False, False, "open"), (True, True, "shut")])
def test_the_first_row_whose_guards_hold_is_taken(locked: bool, heavy: bool, target: str) -> None:  # noqa: FBT001  # parametrized
    assert _door().step("shut", "push", {"locked": locked, "heavy": heavy}, None, 0) == target


@pytest.mark.parametrize(("locked", "heavy", "guard"), [(True, False, "not locked"), (False, True, "not heavy")])
def test_the_first_failing_guard_of_the_first_row_is_named(locked: bool, heavy: bool, guard: str) -> None:  # noqa: FBT001  # parametrized
    with pytest.raises(TransitionRefused) as caught:
        _door().step("shut", "push", {"locked": locked, "heavy": heavy}, None, 0)
    assert (caught.value.event, caught.value.state, caught.value.guard) == ("push", "shut", guard)
    assert str(caught.value) == f"push refused in state shut: guard {guard} failed"


@pytest.mark.parametrize(("state", "event"), [("open", "push"), ("shut", "pull"), (None, "push"), ("gone", "push")])
def test_an_undeclared_transition_is_refused_without_a_guard(state: str | None, event: str) -> None:
    with pytest.raises(TransitionRefused, match="no such transition is declared") as caught:
        _door().step(state, event, {"locked": False, "heavy": False}, None, 0)
    assert caught.value.guard is None


def test_guards_receive_instance_data_and_time() -> None:
    seen: list[object] = []

    def locked(instance: str, data: str, now_ms: int) -> bool:
        seen.append((instance, data, now_ms))
        return False

    table: Table[str, str] = Table(_DOOR, {"locked": locked, "heavy": lambda *_: False})
    assert table.step("shut", "push", "the door", "a push", 7) == "open"
    assert seen == [("the door", "a push", 7)]


def test_declared_names_and_code_match_exactly() -> None:
    events = {event.name for event in SESSION.events}
    assert set(SESSION_MACHINE.data) == set(_EVOLVE) == events
    assert set(GUARDS) == {guard.name for guard in SESSION.guards}
    assert {"expired"} == FINAL_STATES
