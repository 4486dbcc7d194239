"""The published properties name only places that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from spec.properties import PROPERTIES, Property
from tests.machine.promises import PROMISES

_ROOT = Path(__file__).parents[2]


def _named_in(path: Path) -> set[str]:
    """The tests of a file: its test functions, its Test classes, and what it assigns to a Test name (hypothesis)."""
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
def test_every_place_a_property_is_checked_in_exists(promised: Property) -> None:
    assert promised.checked_in
    assert not [place for place in promised.checked_in if _missing(place)]


@pytest.mark.parametrize(
    "place",
    [
        "tests/spec/no_such_file.py::test_it",
        "tests/spec/test_properties.py::test_it",
        "tests/spec/test_properties.py::_named_in",
        "tests/spec/test_properties.py",
    ],
)
def test_a_place_that_does_not_exist_is_noticed(place: str) -> None:
    assert _missing(place)


def test_names_are_unique_and_statements_are_sentences() -> None:
    assert len({promised.name for promised in PROPERTIES}) == len(PROPERTIES)
    assert all(promised.statement.endswith(".") for promised in PROPERTIES)


@pytest.mark.parametrize(
    "place", ["test_exhaustive.py::test_every_edge_keeps_every_promise", "test_session_machine.py::TestSession"]
)
def test_what_the_walks_are_said_to_check_they_check(place: str) -> None:
    assert {p.name for p in PROPERTIES if f"tests/machine/{place}" in p.checked_in} == set(PROMISES)
