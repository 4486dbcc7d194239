"""One mutant: an edit of the real code that is a bug, and who must notice."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import msgspec

from tests.mutants.edit import Edit, applied
from tests.mutants.pattern import EditError
from tests.support.source import modules


class MutantError(Exception):
    """The mutant can't be made: the code it edits has changed."""


class Mutant(msgspec.Struct, frozen=True):
    """A bug that somebody might write.

    ``breaks``: the name of the property, or the id of the ASVS requirement, that no longer holds. ``caught_by``: the test
    that must fail, ``test_name``, ``test_name[parameter]`` or ``TestClass::test_name``. ``says``: what must stand in its
    output, where one test holds many properties against the code.
    """

    bug: str
    breaks: str
    caught_by: str
    edits: tuple[Edit, ...]
    says: str = ""

    @property
    def node(self) -> str:
        """The test as pytest calls it.

        Raises:
            MutantError: there is none of this name, or more than one.
        """
        files = _files_of_tests().get(re.split(r"::|\[", self.caught_by)[0], [])
        if len(files) != 1:
            raise MutantError(f"{self.bug} {self.caught_by} is in {len(files)} files: {', '.join(files)}")
        return f"{files[0]}::{self.caught_by}"

    @property
    def name(self) -> str:
        """The bug as the name of a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.bug.lower()).strip("-")[:80]


def apply(mutant: Mutant, tree: Path) -> None:
    """Write the bug into the copy of the sources at ``tree``.

    Raises:
        MutantError: what an edit names is not there, or not once.
    """
    for path, text in edited(mutant, tree).items():
        # A new file, never a changed one: it may be a link to the one that other mutants start from.
        path.unlink()
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()


def edited(mutant: Mutant, tree: Path) -> dict[Path, str]:
    """The files below ``tree`` in which the bug is, with what they then hold.

    Raises:
        MutantError: see :func:`apply`.
    """
    try:
        return applied(tree, mutant.edits)
    except EditError as error:
        raise MutantError(f"{mutant.bug} {error}") from error


@functools.cache
def _files_of_tests() -> dict[str, list[str]]:
    """The files with a test function, or a class of tests, of each name."""
    found: dict[str, list[str]] = {}
    for file, tree in modules("tests"):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.setdefault(node.name, []).append(file)
    return found
