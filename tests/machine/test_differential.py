"""The compiled table against the library that defines the declaration's meaning: python-statemachine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from statemachine.exceptions import TransitionNotAllowed

from interlock.machine.errors import TransitionRefused
from interlock.machine.table import Table
from interlock.spec.lifecycles import SESSION
from interlock.spec.session import SessionLifecycle

Facts = dict[str, bool]

_STATES: Final = [state.name for state in SESSION.states]
_GUARDS: Final = [guard.name for guard in SESSION.guards]
_CREATION: Final = next(row.event for row in SESSION.transitions if row.source is None)
_EVENTS: Final = [event.name for event in SESSION.events if event.name != _CREATION]


def _fact(name: str) -> Callable[[Facts, None, int], bool]:
    return lambda facts, _data, _now_ms: facts[name]


_COMPILED: Final[Table[Facts, None]] = Table(SESSION, {name: _fact(name) for name in _GUARDS})


class _Model:
    """Holds the state of the library's machine, and answers each guard with the fact of its name."""

    def __init__(self) -> None:
        self.state: str | None = None
        self.facts: Facts = {}


def _answer(name: str) -> Callable[[_Model], bool]:
    return lambda model: model.facts[name]


for _name in _GUARDS:
    setattr(_Model, _name, _answer(_name))


class _Library:
    """python-statemachine as an oracle: where an event leads, or None if it is not allowed."""

    def __init__(self) -> None:
        self.model = _Model()
        self.machine = SessionLifecycle(self.model)

    def step(self, state: str, event: str, facts: Facts) -> str | None:
        if self.machine.is_terminated:
            # The library's engine stops for good in a final state, and would refuse whatever state is set afterwards.
            self.machine = SessionLifecycle(self.model)
        # Setting the model's state rehydrates it; a `start_value` would run the state's entry again.
        self.model.state, self.model.facts = state, facts
        try:
            self.machine.send(event)
        except TransitionNotAllowed:
            # The library raises the same for an unknown event, a wrong state and a failed guard; and the state is
            # unchanged.
            assert self.model.state == state
            return None
        assert self.model.state is not None
        return self.model.state


def _compiled(state: str | None, event: str, facts: Facts) -> str | None:
    try:
        return _COMPILED.step(state, event, facts, None, 0)
    except TransitionRefused:
        return None


def test_table_and_library_agree_on_every_state_event_and_valuation() -> None:
    library, allowed = _Library(), 0
    for values in itertools.product((False, True), repeat=len(_GUARDS)):
        facts = dict(zip(_GUARDS, values, strict=True))
        for state, event in itertools.product(_STATES, [*_EVENTS, "no_such_event"]):
            target = library.step(state, event, facts)
            assert _compiled(state, event, facts) == target, (state, event, facts)
            allowed += target is not None
    assert allowed > len(SESSION.transitions)


def test_table_and_library_agree_on_creation() -> None:
    facts = dict.fromkeys(_GUARDS, True)
    assert SessionLifecycle.creation[0] == _CREATION
    assert _compiled(None, _CREATION, facts) == SessionLifecycle(_Model()).model.state
    for state in _STATES:
        assert _compiled(state, _CREATION, facts) is None
        assert _Library().step(state, _CREATION, facts) is None
    for event in _EVENTS:
        assert _compiled(None, event, facts) is None


@given(st.lists(st.tuples(st.sampled_from(_EVENTS), st.fixed_dictionaries({name: st.booleans() for name in _GUARDS}))))
def test_table_and_library_agree_on_random_lives(steps: list[tuple[str, Facts]]) -> None:
    library, state = _Library(), "created"
    for event, facts in steps:
        target = library.step(state, event, facts)
        assert _compiled(state, event, facts) == target
        state = target or state
