"""The reference of the specification: properties, checks, bounds and seeded bugs."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pieces import code, table

from interlock.spec.model.bounds import GROUPS
from interlock.spec.model.checks import CHECKS
from interlock.spec.model.mutants.seeded import MUTANTS
from interlock.spec.properties import PROPERTIES

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.mutants.catalogue import MUTANTS as CODE_MUTANTS  # the tests are no installed package


def properties() -> str:
    """Return the table of properties and of everything that checks them."""
    return table(
        ("property", "statement", "checked by", "tests", "seeded bugs in the model", "in the code"),
        [
            (
                code(each.name),
                f"*Some time:* {each.statement}" if each.liveness else each.statement,
                _several(check.name for check in CHECKS if each.name in check.properties),
                _several(place.rpartition("/")[2] for place in each.checked_in),
                _several(mutant.name for mutant in MUTANTS if mutant.promise == each.name),
                str(sum(mutant.breaks == each.name for mutant in CODE_MUTANTS)),
            )
            for each in PROPERTIES
        ],
    )


def checks() -> str:
    """Return the table of the model checker's runs."""
    return table(
        ("check", "model", "properties", "assumptions"),
        [(code(each.name), code(each.model), _several(each.properties), each.assumption) for each in CHECKS],
    )


def bounds() -> str:
    """Return the table of bounds, each with its reason."""
    return table(
        ("checks", "bound", "`make spec`", "`make spec-deep`", "reason"),
        [
            (code(group), code(bound.name), str(bound.quick), str(bound.deep), bound.reason)
            for group, its in GROUPS.items()
            for bound in its
        ],
    )


def model_mutants() -> str:
    """Return the table of seeded bugs in the declarations and the model."""
    return table(
        ("mutant", "place", "bug", "caught by"),
        [(code(each.name), each.kind(), each.bug, f"{code(each.promise)} in {code(each.check)}") for each in MUTANTS],
    )


def code_mutants() -> str:
    """Return the table of seeded bugs in the code."""
    return table(
        ("bug", "place", "property", "caught by"),
        [
            (
                each.bug,
                _several(edit.place for edit in each.edits),
                code(each.breaks),
                code(each.node.rpartition("/")[2]),
            )
            for each in CODE_MUTANTS
        ],
    )


def _several(names: Iterable[str]) -> str:
    return "<br>".join(map(code, names))
