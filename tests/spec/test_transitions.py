"""The reader: it returns what the declaration says, and refuses what can't be exported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import new_class
from typing import Any, ClassVar, Protocol, cast

import pytest
from statemachine import Event, State, StateMachine
from statemachine.exceptions import InvalidDefinition

from interlock.spec.export import LIFECYCLES
from interlock.spec.lifecycles import ACCOUNT, EXECUTION, SECRET, SESSION
from interlock.spec.session import SessionGuards, SessionLifecycle
from interlock.spec.transitions import (
    GuardTerm,
    Lifecycle,
    NamedRow,
    StateRow,
    TransitionRow,
    UnsupportedDeclaration,
    read,
)
from tests.support.source import copy_sources


def _asked(event: str, source: str | None, lifecycle: Lifecycle = SESSION) -> list[tuple[str, list[str]]]:
    """Return where ``event`` may lead from ``source``, and under which guards."""
    rows = [row for row in lifecycle.transitions if (row.event, row.source) == (event, source)]
    return [(row.target, [str(guard) for guard in row.guards]) for row in rows]


_LIVING = ["created", "authenticated", "connected"]


def test_four_states_in_the_order_of_a_life() -> None:
    names = [state.name for state in SESSION.states]
    assert sorted([*_LIVING, "expired"], key=names.index) == [*_LIVING, "expired"]
    assert [state.name for state in SESSION.states if state.initial] == ["created"]
    assert [state.name for state in SESSION.states if state.final] == ["expired"]


def test_a_session_begins_once_and_unconditionally() -> None:
    assert _asked("create", None) == [("created", [])]
    assert [row for row in SESSION.transitions if row.source is None] == [TransitionRow("create", None, "created", ())]
    assert not [row for row in SESSION.transitions if row.event == "create" and row.source]


def test_nothing_leaves_expired() -> None:
    assert not [row for row in SESSION.transitions if row.source == "expired"]


def test_only_an_anonymous_session_authenticates() -> None:
    assert _asked("authenticate", "created") == [("authenticated", ["alive"])]
    assert {row.source for row in SESSION.transitions if row.event == "authenticate"} == {"created"}


def test_an_anonymous_session_neither_reauthenticates_nor_connects() -> None:
    assert _asked("reauthenticate", "created") == _asked("connect", "created") == []


@pytest.mark.parametrize("state", ["authenticated", "connected"])
def test_an_authenticated_session_reauthenticates_and_connects(state: str) -> None:
    assert _asked("reauthenticate", state) == [(state, ["alive", "same_subject"])]
    assert _asked("connect", state) == [("connected", ["alive", "below_connection_limit"])]


def test_the_last_connection_to_go_disconnects_the_session() -> None:
    assert _asked("disconnect", "connected") == [
        ("connected", ["known_connection", "not last_connection"]),
        ("authenticated", ["known_connection", "last_connection"]),
    ]
    assert {row.source for row in SESSION.transitions if row.event == "disconnect"} == {"connected"}


@pytest.mark.parametrize("state", _LIVING)
def test_every_live_session_can_be_touched_refreshed_and_ended(state: str) -> None:
    assert _asked("refresh", state) == [(state, ["alive", "rotation_honoured"])]
    assert _asked("touch", state) == [(state, ["alive"])]
    assert _asked("revoke", state) == [("expired", [])]
    assert _asked("expire", state) == [("expired", ["not alive"])]


def test_an_account_is_active_or_disabled_until_it_is_deleted() -> None:
    assert [(state.name, state.initial, state.final) for state in ACCOUNT.states] == [
        ("active", True, False),
        ("disabled", False, False),
        ("deleted", False, True),
    ]
    assert _asked("register", None, ACCOUNT) == [("active", [])]
    assert not [row for row in ACCOUNT.transitions if row.source == "deleted"]


def test_a_password_change_needs_an_active_account_and_the_current_one() -> None:
    for event in ("change_password", "rehash"):
        assert _asked(event, "active", ACCOUNT) == [("active", ["current_password"])]
        assert {row.source for row in ACCOUNT.transitions if row.event == event} == {"active"}


def test_an_administrator_disables_and_enables_accounts_and_sets_groups() -> None:
    assert _asked("disable", "active", ACCOUNT) == [("disabled", [])]
    assert _asked("enable", "disabled", ACCOUNT) == [("active", [])]
    assert _asked("disable", "disabled", ACCOUNT) == _asked("enable", "active", ACCOUNT) == []
    for state in ("active", "disabled"):
        assert _asked("set_groups", state, ACCOUNT) == [(state, [])]
        assert _asked("delete", state, ACCOUNT) == [("deleted", [])]


def test_a_secret_is_added_then_removed_and_nothing_follows() -> None:
    assert [(row.event, row.source, row.target) for row in SECRET.transitions] == [
        ("add", None, "present"),
        ("remove", "present", "removed"),
    ]
    assert [state.name for state in SECRET.states if state.final] == ["removed"]


def test_an_execution_has_one_outcome_and_runs_again_only_if_it_may() -> None:
    assert [(state.name, state.initial, state.final) for state in EXECUTION.states] == [
        ("accepted", True, False),
        ("running", False, False),
        ("succeeded", False, True),
        ("failed", False, True),
        ("cancelled", False, True),
    ]
    assert _asked("start", "accepted", EXECUTION) == [("running", [])]
    assert _asked("interrupt", "running", EXECUTION) == [
        ("accepted", ["owner", "repeatable"]),
        ("failed", ["owner", "not repeatable"]),
    ]
    assert _asked("succeed", "running", EXECUTION) == [("succeeded", ["owner"])]
    assert _asked("fail", "running", EXECUTION) == [("failed", ["owner"])]
    assert _asked("fail", "accepted", EXECUTION) == [("failed", ["owner"])]
    for state in ("accepted", "running"):
        assert _asked("cancel", state, EXECUTION) == [("cancelled", [])]


@pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda lifecycle: lifecycle.name)
def test_every_row_is_unique_and_names_declared_things(lifecycle: Lifecycle) -> None:
    rows = [(row.event, row.source, row.target, row.guards) for row in lifecycle.transitions]
    assert len(set(rows)) == len(rows)
    assert {term.name for row in lifecycle.transitions for term in row.guards} == {g.name for g in lifecycle.guards}
    assert {row.event for row in lifecycle.transitions} == {event.name for event in lifecycle.events}
    assert {row.target for row in lifecycle.transitions} == {state.name for state in lifecycle.states}


def test_the_reader_reads_the_same_twice() -> None:
    assert read(SessionLifecycle, SessionGuards) == SESSION


class _Guards(Protocol):
    def ready(self) -> bool:
        """It is ready."""
        ...


def test_a_small_declaration_is_read_row_by_row() -> None:
    class DoorLifecycle(StateMachine):
        """A door."""

        creation: ClassVar = ("build", "It is built.")
        shut = State("It is shut.", initial=True)
        gone = State("It is gone.", final=True)
        knock = Event(shut.to(shut, internal=True, unless="ready"), name="Somebody knocks.")
        burn = Event(shut.to(gone, cond="ready"), name="It burns.")

    assert read(DoorLifecycle, _Guards) == Lifecycle(
        name="door",
        description="A door.",
        states=(
            StateRow("shut", "It is shut.", initial=True, final=False),
            StateRow("gone", "It is gone.", initial=False, final=True),
        ),
        events=(
            NamedRow("build", "It is built."),
            NamedRow("knock", "Somebody knocks."),
            NamedRow("burn", "It burns."),
        ),
        guards=(NamedRow("ready", "It is ready."),),
        transitions=(
            TransitionRow("build", None, "shut", ()),
            TransitionRow("knock", "shut", "shut", (GuardTerm("ready", expected=False),)),
            TransitionRow("burn", "shut", "gone", (GuardTerm("ready", expected=True),)),
        ),
    )


def _effect(*_args: object) -> None:
    """An action, which no row can carry."""


class _Mixin:
    def after_transition(self) -> None: ...


class _Listener:
    def on_go(self) -> None: ...


def _class(bases: tuple[type, ...], body: dict[str, Any]) -> type[StateMachine]:
    return cast("type[StateMachine]", new_class("ThingLifecycle", bases, exec_body=lambda space: space.update(body)))


def _declare(
    bases: tuple[type, ...] = (),
    *,
    start: dict[str, Any] | None = None,
    go: dict[str, Any] | None = None,
    event: dict[str, Any] | None = None,
    build: Callable[[State, State], dict[str, Any]] = lambda _start, _end: {},
    **attributes: Any,
) -> type[StateMachine]:
    """Return an exportable declaration, except for what the arguments add to a state, a transition, an event, the class."""
    first = State(**{"name": "It begins.", "initial": True, **(start or {})})
    last = State(name="It ends.", final=True)
    body: dict[str, Any] = {
        "__doc__": "A thing.",
        "creation": ("begin", "It begins."),
        "first": first,
        "last": last,
        "go": Event(first.to(last, **{"cond": "ready", **(go or {})}), **{"name": "It goes.", **(event or {})}),
        **build(first, last),
        **attributes,
    }
    return _class((*bases, StateMachine), body)


def test_the_base_of_the_refused_declarations_can_be_exported() -> None:
    assert [row.event for row in read(_declare(), _Guards).transitions] == ["begin", "go"]


def _stay(first: State, _last: State) -> dict[str, Any]:
    return {"stay": Event(first.to(first), name="It stays.")}


def _eventless(first: State, last: State) -> dict[str, Any]:
    first.to(last)
    return {}


def _many_targets(first: State, last: State) -> dict[str, Any]:
    first.transitions.transitions[0]._targets.append(last)
    return {}


def _nested(first: State, last: State) -> dict[str, Any]:
    class room(State.Compound):  # noqa: N801  # a state is named like a state
        inner = State("Inner.", initial=True)

    leave: Any = room.to(last)
    return {"room": room, "enter": Event(first.to(room), name="It enters."), "leave": Event(leave, name="It leaves.")}


def _parallel(first: State, last: State) -> dict[str, Any]:
    class both(State.Parallel):  # noqa: N801  # a state is named like a state
        inner = State("Inner.", initial=True)

    leave: Any = both.to(last)
    return {"both": both, "enter": Event(first.to(both), name="It enters."), "leave": Event(leave, name="It leaves.")}


def _declare_nothing() -> type[StateMachine]:
    return _class((StateMachine,), {"__doc__": "A.", "creation": ("begin", "It begins.")})


@pytest.mark.parametrize(
    ("declaration", "says"),
    [
        (lambda: _declare(go={"validators": _effect}), "validators can't be exported"),
        (lambda: _declare(go={"validators": "ready"}), "validators can't be exported"),
        (lambda: _declare(go={"before": _effect}), "go from first: actions can't be exported"),
        (lambda: _declare(go={"on": _effect}), "go from first: actions can't be exported"),
        (lambda: _declare(go={"after": "ready"}), "go from first: actions can't be exported"),
        (lambda: _declare(start={"enter": _effect}), "first: enter and exit actions can't be exported"),
        (lambda: _declare(start={"exit": _effect}), "first: enter and exit actions can't be exported"),
        (lambda: _declare(start={"invoke": _effect}), "first: invocations can't be exported"),
        (lambda: _declare(on_go=_effect), "ThingLifecycle.on_go: actions"),
        (lambda: _declare(before_transition=_effect), "ThingLifecycle.before_transition: actions"),
        (lambda: _declare(after_go=_effect), "ThingLifecycle.after_go: actions"),
        (lambda: _declare(on_enter_first=_effect), "ThingLifecycle.on_enter_first: actions"),
        (lambda: _declare(on_exit_state=_effect), "ThingLifecycle.on_exit_state: actions"),
        (lambda: _declare(prepare_event=_effect), "ThingLifecycle.prepare_event: actions"),
        (lambda: _declare(on_go=staticmethod(_effect)), "ThingLifecycle.on_go: actions"),
        (lambda: _declare((_Mixin,)), "ThingLifecycle.after_transition: actions"),
        (lambda: _declare(listeners=[_Listener()]), "ThingLifecycle.listeners: actions"),
        (lambda: _declare(go={"cond": "ready and ready"}), "guard 'ready and ready' is not the name"),
        (lambda: _declare(go={"cond": "!ready"}), "guard '!ready' is not the name"),
        (lambda: _declare(go={"cond": lambda: True}), "is not the name of a described guard"),
        (lambda: _declare(go={"cond": "unheard_of"}), "guard 'unheard_of' is not the name"),
        (lambda: _declare(go={"cond": None}), "guards described but never asked: ['ready']"),
        (lambda: _declare(start={"name": "Start"}), "first: needs a one-sentence description"),
        (lambda: _declare(event={"name": None}), "go: needs a one-sentence description"),
        (lambda: _declare(creation=("begin", "")), "begin: needs a one-sentence description"),
        (lambda: _declare(creation=("Begin!", "It begins.")), "'Begin!': names are lower_snake_case"),
        (lambda: _declare(creation=None), "ThingLifecycle: needs creation"),
        (lambda: _declare(__doc__=""), "ThingLifecycle: needs a one-sentence description"),
        (lambda: _declare(build=_nested), "room: nested and parallel states can't be exported"),
        (lambda: _declare(build=_parallel), "both: nested and parallel states can't be exported"),
        (lambda: _declare(build=_stay), "stay from first: a transition that stays is declared internal=True"),
        (lambda: _declare(build=_many_targets), "go from first: exactly one target"),
        (lambda: _declare(build=_eventless), "first: a transition without an event can't be exported"),
        (lambda: _declare(event={"delay": 100}), "go from first: delays can't be exported"),
        (_declare_nothing, "ThingLifecycle: exactly one initial state"),
    ],
)
def test_declarations_that_rows_cannot_express_are_refused(
    declaration: Callable[[], type[StateMachine]], says: str
) -> None:
    with pytest.raises(UnsupportedDeclaration) as caught:
        read(declaration(), _Guards)
    assert says in str(caught.value)


def test_two_initial_states_are_refused_by_the_library() -> None:
    def two(first: State, last: State) -> dict[str, Any]:
        second = State("It begins otherwise.", initial=True)
        return {"second": second, "pass_by": Event(second.to(first) | second.to(last), name="It passes by.")}

    with pytest.raises(InvalidDefinition):
        _declare(build=two)


def test_a_guard_without_a_description_is_refused() -> None:
    class Mute(Protocol):
        def ready(self) -> bool: ...

    with pytest.raises(UnsupportedDeclaration, match=r"^ready: "):
        read(_declare(), Mute)


def test_a_negated_guard_is_written_with_its_negation() -> None:
    assert [str(GuardTerm("alive", expected)) for expected in (True, False)] == ["alive", "not alive"]


@pytest.mark.parametrize(
    ("declaration", "old", "new", "promise"),
    [
        (
            "session.py",
            'created.to(authenticated, cond="alive"),',
            "created.to(authenticated) | expired.to(created),",
            "expired_absorbs",
        ),
        ("account.py", "disabled.to(active),", "disabled.to(active) | deleted.to(active),", "deleted_absorbs"),
    ],
)
def test_a_refused_declaration_names_the_property_it_would_break(
    tmp_path: Path, declaration: str, old: str, new: str, promise: str
) -> None:
    """The final state may be left: nothing can be checked then, but the error names the property."""
    copy_sources(tmp_path)
    path = tmp_path / "spec" / declaration
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    done = subprocess.run(
        [sys.executable, "-m", "interlock.spec.export", "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"UnsupportedDeclaration: spec/{declaration}: " in done.stderr
    assert promise in done.stderr
