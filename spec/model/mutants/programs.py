"""A seeded bug, and the program that must catch it: the model, with the bug in a declaration or in the model itself."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Final

import msgspec

from interlock.spec.model.checks import CHECKS, Check
from interlock.spec.model.spin import Program, relation
from interlock.spec.promela import promela
from interlock.spec.transitions import Lifecycle, read

_QUIET: Final = {"DECISIONS": 4, "CRASHES": 0, "DROPS": 0}
_DECLARATIONS: Final = Path(__file__).parents[2]


class Mutant(msgspec.Struct, frozen=True):
    """One bug. ``edits`` are (old, new) texts of ``declaration``; if empty, ``MUTANT_<name>`` is a switch of the model.

    ``bounds`` replace those of the check. A story is searched by its shortest way, and smaller bounds make that fast.
    """

    name: str
    bug: str
    check: str
    promise: str
    edits: tuple[tuple[str, str], ...] = ()
    bounds: dict[str, int] = {}
    declaration: str = "session.py"

    def kind(self) -> str:
        """Return where the bug is: ``declaration`` or ``model``."""
        return "declaration" if self.edits else "model"


def program(mutant: Mutant) -> tuple[Check, Program]:
    """Return the check that must catch ``mutant``, and its model with the bug.

    Raises:
        ValueError: the declaration no longer holds the text that the mutant changes.
    """
    check = next(check for check in CHECKS if check.name == mutant.check)
    smaller = {**(_QUIET if check.name in {"lifecycle", "replay"} else {}), **mutant.bounds}
    bounds = tuple(msgspec.structs.replace(b, quick=smaller.get(b.name, b.quick)) for b in check.bounds)
    defines = tuple(msgspec.structs.replace(check, bounds=bounds).defines(deep=False))
    if not mutant.edits:
        return check, Program(check.model, (*defines, f"MUTANT_{mutant.name}"), check.claim)
    lifecycle = mutated(mutant)
    return check, Program(check.model, defines, check.claim, {relation(lifecycle): promela(lifecycle)})


def mutated(mutant: Mutant) -> Lifecycle:
    """Return the declaration with the mutant's edits.

    Raises:
        ValueError: an edit's old text does not occur exactly once.
    """
    source = (_DECLARATIONS / mutant.declaration).read_text(encoding="utf-8")
    for old, new in mutant.edits:
        if source.count(old) != 1:
            raise ValueError(f"mutant {mutant.name}: {old!r} is in {mutant.declaration} {source.count(old)} times")
        source = source.replace(old, new)
    module = types.ModuleType(f"mutant_{mutant.name}")
    exec(compile(source, f"{mutant.name}.py", "exec"), module.__dict__)  # noqa: S102  # our own declaration, one edit apart
    name = mutant.declaration.removesuffix(".py").capitalize()
    return read(getattr(module, f"{name}Lifecycle"), getattr(module, f"{name}Guards"))
