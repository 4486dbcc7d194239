"""Read a declaration into plain rows, and refuse everything that a row can't express.

The rows are the neutral form between a declaration and everything derived from it. Some features of python-statemachine have
no place in a row: an action, a validator, a delay, a nested state, a boolean expression as guard. The library would enforce
them, but the compiled table, the SQL and the model would silently lack them. So reading such a declaration fails.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from statemachine import Event, State, StateMachine

if TYPE_CHECKING:
    from statemachine.transition import Transition

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_CALLBACK = re.compile(r"(before|on|after|prepare|validate|invoke)_|on$")


class UnsupportedDeclaration(ValueError):
    """The declaration uses a feature that can't be exported. The message names the place and the feature."""


class StateRow(msgspec.Struct, frozen=True):
    """One declared state."""

    name: str
    description: str
    initial: bool
    final: bool


class NamedRow(msgspec.Struct, frozen=True):
    """One declared event or guard."""

    name: str
    description: str


class GuardTerm(msgspec.Struct, frozen=True):
    """A guard in a transition: the condition ``name`` must be ``expected``."""

    name: str
    expected: bool

    def __str__(self) -> str:
        return self.name if self.expected else f"not {self.name}"


class TransitionRow(msgspec.Struct, frozen=True):
    """One declared transition. ``source`` is None for the creation of an instance."""

    event: str
    source: str | None
    target: str
    guards: tuple[GuardTerm, ...]


class Lifecycle(msgspec.Struct, frozen=True):
    """A declaration as rows, in the order in which it was written.

    Several rows may share (source, event); the first whose guards all hold is taken.
    """

    name: str
    description: str
    states: tuple[StateRow, ...]
    events: tuple[NamedRow, ...]
    guards: tuple[NamedRow, ...]
    transitions: tuple[TransitionRow, ...]


def read(declaration: type[StateMachine], guards: type) -> Lifecycle:
    """Return the rows of ``declaration``. ``guards`` is the Protocol that describes its guards, one method each.

    Raises:
        UnsupportedDeclaration: something declared has no place in a row, or lacks its name or description.
    """
    _refuse_callbacks(declaration)
    guard_rows = tuple(
        NamedRow(name, _sentence(name, method.__doc__))
        for name, method in vars(guards).items()
        if inspect.isfunction(method) and not name.startswith("_")
    )
    states = tuple(declaration.states_map.values())
    for state in states:
        _refuse_structure(state)
    state_rows = tuple(StateRow(s.id, _sentence(s.id, s.name), s.initial, s.final) for s in states)

    creation = getattr(declaration, "creation", None)
    if creation is None:
        raise UnsupportedDeclaration(f"{declaration.__name__}: needs creation = (event, description)")
    creation_event, creation_sentence = creation
    initial = [s.name for s in state_rows if s.initial]
    if len(initial) != 1:
        raise UnsupportedDeclaration(f"{declaration.__name__}: exactly one initial state, not {initial}")
    events = [NamedRow(creation_event, _sentence(creation_event, creation_sentence))]
    declared: Iterable[Event] = declaration.events  # type: ignore[assignment]  # on a class it is the metaclass's property
    events += [NamedRow(event.id, _sentence(event.id, event.name)) for event in declared]
    rows = [TransitionRow(creation_event, None, initial[0], ())]
    known = {g.name for g in guard_rows}
    for event in events[1:]:
        rows += [
            _row(transition, event.name, known)
            for state in states
            for transition in state.transitions
            if event.name in [e.id for e in transition.events]
        ]
    unused = known - {g.name for row in rows for g in row.guards}
    if unused:
        raise UnsupportedDeclaration(f"guards described but never asked: {sorted(unused)}")
    return Lifecycle(
        name=declaration.__name__.removesuffix("Lifecycle").lower(),
        description=_sentence(declaration.__name__, inspect.getdoc(declaration)),
        states=state_rows,
        events=tuple(events),
        guards=guard_rows,
        transitions=tuple(rows),
    )


def _sentence(name: str, text: str | None) -> str:
    """Return ``text`` if it is a sentence. python-statemachine replaces a missing name by a title, which has no full stop."""
    if not _NAME.match(name) and not name.endswith("Lifecycle"):
        raise UnsupportedDeclaration(f"{name!r}: names are lower_snake_case")
    sentence = " ".join((text or "").split())
    if not sentence.endswith("."):
        raise UnsupportedDeclaration(f"{name}: needs a one-sentence description")
    return sentence


def _row(transition: Transition, event: str, known_guards: set[str]) -> TransitionRow:
    where = f"{event} from {transition.source.id}"
    targets = list(transition.targets)
    if len(targets) != 1 or targets[0] is None:
        raise UnsupportedDeclaration(f"{where}: exactly one target")
    if list(transition.validators):
        raise UnsupportedDeclaration(f"{where}: validators can't be exported, use a guard")
    if any(not spec.is_convention for group in (transition.before, transition.on, transition.after) for spec in group):
        raise UnsupportedDeclaration(f"{where}: actions can't be exported")
    if any(declared.delay for declared in transition.events):
        raise UnsupportedDeclaration(f"{where}: delays can't be exported, use a guard over the injected time")
    if targets[0] is transition.source and not transition.internal:
        raise UnsupportedDeclaration(f"{where}: a transition that stays is declared internal=True")
    return TransitionRow(
        event, transition.source.id, targets[0].id, tuple(_guard(s, where, known_guards) for s in transition.cond)
    )


def _guard(spec: Any, where: str, known_guards: set[str]) -> GuardTerm:
    if not isinstance(spec.func, str) or spec.func not in known_guards:
        raise UnsupportedDeclaration(f"{where}: guard {spec.func!r} is not the name of a described guard")
    return GuardTerm(spec.func, bool(spec.expected_value))


def _refuse_structure(state: State) -> None:
    if state.parallel or state.states or state.parent is not None:
        raise UnsupportedDeclaration(f"{state.id}: nested and parallel states can't be exported")
    if any(not spec.is_convention for group in (state.enter, state.exit) for spec in group):
        raise UnsupportedDeclaration(f"{state.id}: enter and exit actions can't be exported")
    if getattr(state, "invoke", None) is not None and any(not s.is_convention for s in state.invoke):
        raise UnsupportedDeclaration(f"{state.id}: invocations can't be exported")
    for transition in state.transitions:
        if transition.is_eventless:
            raise UnsupportedDeclaration(f"{state.id}: a transition without an event can't be exported")


def _refuse_callbacks(declaration: type[StateMachine]) -> None:
    if getattr(declaration, "listeners", None):
        raise UnsupportedDeclaration(f"{declaration.__name__}.listeners: actions can't be exported")
    # The library finds callbacks by name, in every base class.
    inherited = [base for base in declaration.__mro__ if base not in StateMachine.__mro__]
    for name, value in ((name, value) for base in inherited for name, value in vars(base).items()):
        if callable(value) and not isinstance(value, (Event, State)) and _CALLBACK.match(name):
            raise UnsupportedDeclaration(f"{declaration.__name__}.{name}: actions can't be exported")
