"""Rows to Promela: the relation that the model in :mod:`spec.model` is built around."""

from __future__ import annotations

from spec.transitions import GuardTerm, Lifecycle, TransitionRow


def promela(lifecycle: Lifecycle) -> str:
    """Give the states and events of ``lifecycle`` as numbers, and its transitions as the macro ``NEXT``.

    ``NEXT(state, event, guard…)``, with the guards in the order in which they are declared, is the target of the first
    declared transition whose guards all hold, or ``STATE_none``. States count from 1, in declared order, and
    ``STATE_none`` is 0: there is no session yet. Events count from 1, too.
    """
    states = [f"#define STATE_{state.name} {number}" for number, state in enumerate(lifecycle.states, 1)]
    events = [f"#define EVENT_{event.name} {number}" for number, event in enumerate(lifecycle.events, 1)]
    parameters = ", ".join(["state", "event", *(guard.name for guard in lifecycle.guards)])
    rows = [f"  {_holds(row)} -> STATE_{row.target} : ( \\" for row in lifecycle.transitions]
    return "\n".join(
        [
            "#define STATE_none 0",
            *states,
            "",
            *events,
            "",
            f"#define NEXT({parameters}) ( \\",
            *rows,
            "  STATE_none " + ")" * (len(rows) + 1),
            "",
        ]
    )


def _holds(row: TransitionRow) -> str:
    asked = [f"(state) == STATE_{row.source or 'none'}", f"(event) == EVENT_{row.event}", *map(_term, row.guards)]
    return f"({' && '.join(asked)})"


def _term(guard: GuardTerm) -> str:
    return f"({guard.name})" if guard.expected else f"!({guard.name})"
