"""The published properties name only existing checks, and every check of one is named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from interlock.spec.model.checks import CHECKS
from interlock.spec.model.mutants.seeded import MUTANTS
from interlock.spec.model.spin import MODEL
from interlock.spec.properties import PROPERTIES, Property
from tests.machine.promises import PROMISES
from tests.spec.test_execution_traces import BAD as EXECUTION_BAD
from tests.spec.test_traces import BAD
from tests.support.marks import marked

_ROOT = Path(__file__).parents[2]
_WALKS = {
    "tests/machine/test_exhaustive.py::test_every_edge_keeps_every_promise",
    "tests/machine/test_session_machine.py::TestSession",
}
_TRACE_RULES = "tests/spec/test_traces.py::test_the_checker_names_a_fault_at_the_line_where_it_first_shows"
_EXECUTION_TRACES = "tests/spec/test_execution_traces.py::test_an_executions_fault_is_named_where_it_first_shows"
_NAMES = {promised.name for promised in PROPERTIES}


def _named_in(path: Path) -> set[str]:
    """Return a file's tests: its test functions, its Test classes, and what it assigns to a Test name (hypothesis)."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
    return {name for name in names if re.match(r"test_|Test", name)}


def _missing(place: str) -> bool:
    file, _, name = place.partition("::")
    return not (_ROOT / file).is_file() or name not in _named_in(_ROOT / file)


@pytest.mark.parametrize("promised", PROPERTIES, ids=lambda promised: promised.name)
def test_every_property_is_checked_somewhere_and_every_place_exists(promised: Property) -> None:
    assert promised.checked_in or any(promised.name in check.properties for check in CHECKS)
    assert not [place for place in promised.checked_in if _missing(place)]


def test_a_property_lists_exactly_the_tests_marked_with_it() -> None:
    """A mark without a listing is as wrong as a listing without a mark."""
    published = {
        (promised.name, place)
        for promised in PROPERTIES
        for place in promised.checked_in
        if place not in _WALKS and place not in {_TRACE_RULES, _EXECUTION_TRACES}
    }
    assert set(marked("checks")) == published


@pytest.mark.parametrize("place", sorted(_WALKS))
def test_the_walks_check_their_listed_properties(place: str) -> None:
    assert {p.name for p in PROPERTIES if place in p.checked_in} == set(PROMISES)


def test_the_trace_rules_check_their_listed_properties() -> None:
    for place, promises in (
        (_TRACE_RULES, {promise for _, promise, _, _ in BAD}),
        (_EXECUTION_TRACES, {promise for _, promise, _ in EXECUTION_BAD}),
    ):
        assert {p.name for p in PROPERTIES if place in p.checked_in} == promises - {"format"}


def test_the_model_asserts_its_listed_properties() -> None:
    for check in CHECKS:
        text = "".join(path.read_text() for path in MODEL.glob("*.pml") if path.name not in {"trace.pml", "intent.pml"})
        for name in check.properties:
            assert name in _NAMES
            asserted = f"ltl {name} " if check.claim else f"PROMISE({name}, "
            assert asserted in text or f"promise_fold({name}, " in text, (check.name, name)


def test_each_model_property_has_a_mutant_that_breaks_it() -> None:
    """So that a check that always holds is noticed."""
    assert {(mutant.check, mutant.promise) for mutant in MUTANTS} == {
        (check.name, name) for check in CHECKS for name in check.properties
    }


@pytest.mark.parametrize(
    "place",
    [
        "tests/spec/no_such_file.py::test_it",
        "tests/spec/test_properties.py::test_it",
        "tests/spec/test_properties.py::_named_in",
        "tests/spec/test_properties.py",
    ],
)
def test_a_missing_place_of_a_property_is_noticed(place: str) -> None:
    assert _missing(place)


def test_property_names_are_unique_and_statements_are_sentences() -> None:
    assert len(_NAMES) == len(PROPERTIES) == 40
    assert all(promised.statement.endswith(".") for promised in PROPERTIES)
