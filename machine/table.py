"""The transition table: the declaration's rows, compiled for lookup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from interlock.machine.errors import TransitionRefused
from interlock.spec.transitions import Lifecycle

InstanceT = TypeVar("InstanceT")
DataT = TypeVar("DataT")

Guard = Callable[[InstanceT, DataT, int], bool]


class Table(Generic[InstanceT, DataT]):
    """All declared transitions of one lifecycle, indexed by (state, event).

    ``guards`` maps each declared guard to a pure function of the instance, the command's data and the time in milliseconds.

    Raises:
        ValueError: ``guards`` are not exactly the declared guards.
    """

    __slots__ = ("_candidates",)

    def __init__(self, lifecycle: Lifecycle, guards: Mapping[str, Guard[InstanceT, DataT]]) -> None:
        declared = {guard.name for guard in lifecycle.guards}
        if declared != set(guards):
            raise ValueError(f"guards declared {sorted(declared)}, given {sorted(guards)}")
        candidates: dict[
            tuple[str | None, str], list[tuple[str, tuple[tuple[Guard[InstanceT, DataT], bool, str], ...]]]
        ] = {}
        for row in lifecycle.transitions:
            terms = tuple((guards[term.name], term.expected, str(term)) for term in row.guards)
            candidates.setdefault((row.source, row.event), []).append((row.target, terms))
        self._candidates = {key: tuple(rows) for key, rows in candidates.items()}

    def declares(self, state: str | None, event: str) -> bool:
        """Return whether ``event`` is declared from ``state``, under any guards."""
        return (state, event) in self._candidates

    def step(self, state: str | None, event: str, instance: InstanceT, data: DataT, now_ms: int) -> str:
        """Return the state to which ``event`` leads from ``state``: that of the first row whose guards all hold.

        Raises:
            TransitionRefused: there is no such row, or each row has a failing guard. The error names the first failing guard
                of the first row.
        """
        rows = self._candidates.get((state, event))
        if rows is None:
            raise TransitionRefused(event, state)
        failed: str | None = None
        for target, terms in rows:
            for guard, expected, name in terms:
                if guard(instance, data, now_ms) is not expected:
                    failed = failed or name
                    break
            else:
                return target
        raise TransitionRefused(event, state, failed)
