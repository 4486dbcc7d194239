"""Generate Promela from rows: the transition relation of the model in :mod:`interlock.spec.model`."""

from __future__ import annotations

from interlock.spec.transitions import GuardTerm, Lifecycle, TransitionRow


def promela(lifecycle: Lifecycle) -> str:
    """Return the states and events of ``lifecycle`` as numbers, and its transitions as macros over them.

    States, events and transitions count from 1, in declared order. ``STATE_none`` is 0: there is no instance yet.

    ``ROW(state, event, guard…)``, with the guards in declared order, is the number of the first declared transition whose
    guards all hold, or 0. ``NEXT`` is its target, or ``STATE_none``. ``ASK(relation, fold, event, …)`` evaluates either of
    them in the model, which supplies a macro for each guard, such as ``GUARD_alive(fold, …)``. ``EVENTS(each)`` is
    ``each(name)`` for every event.
    """
    guards = [guard.name for guard in lifecycle.guards]
    parameters = ", ".join(["state", "event", *guards])
    asked = ", ".join(["fold.state", "event", *(f"GUARD_{name}(fold, __VA_ARGS__)" for name in guards)])
    rows = lifecycle.transitions
    return "\n".join(
        [
            "#define STATE_none 0",
            *[f"#define STATE_{state.name} {number}" for number, state in enumerate(lifecycle.states, 1)],
            "",
            *[f"#define EVENT_{event.name} {number}" for number, event in enumerate(lifecycle.events, 1)],
            f"#define EVENTS(each) {' '.join(f'each({event.name})' for event in lifecycle.events)}",
            "",
            *_first_that_holds(f"NEXT({parameters})", "STATE_none", {row: f"STATE_{row.target}" for row in rows}),
            "",
            *_first_that_holds(f"ROW({parameters})", "0", {row: str(number) for number, row in enumerate(rows, 1)}),
            f"#define ROWS {len(rows)}",
            "",
            f"#define ASK(relation, fold, event, ...) relation({asked})",
            "",
        ]
    )


def _first_that_holds(macro: str, otherwise: str, values: dict[TransitionRow, str]) -> list[str]:
    rows = [f"  {_holds(row)} -> {value} : ( \\" for row, value in values.items()]
    return [f"#define {macro} ( \\", *rows, f"  {otherwise} " + ")" * (len(rows) + 1)]


def _holds(row: TransitionRow) -> str:
    asked = [f"(state) == STATE_{row.source or 'none'}", f"(event) == EVENT_{row.event}", *map(_term, row.guards)]
    return f"({' && '.join(asked)})"


def _term(guard: GuardTerm) -> str:
    return f"({guard.name})" if guard.expected else f"!({guard.name})"
