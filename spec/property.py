"""A promised property, and the tests that several of them name."""

from __future__ import annotations

from typing import Final

import msgspec


class Property(msgspec.Struct, frozen=True):
    """One promise. ``checked_in`` lists pytest nodes, ``file::test`` or ``file::Class``, relative to the repository.

    ``liveness``: the promise is that something eventually happens, so it holds only if no task is starved.
    """

    name: str
    statement: str
    checked_in: tuple[str, ...] = ()
    liveness: bool = False


EXECUTION_TRACES: Final = "tests/spec/test_execution_traces.py::test_an_executions_fault_is_named_where_it_first_shows"
RUNS: Final = "tests/executions/"
