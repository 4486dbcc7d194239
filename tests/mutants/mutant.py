"""One mutant: an edit that makes the real code wrong, and the test that must fail."""

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
    """The mutant can't be made, because the code it edits has changed."""


class Mutant(msgspec.Struct, frozen=True):
    """A plausible bug.

    ``breaks``: the name of the property, or the id of the ASVS requirement, that no longer holds. ``caught_by``: the test
    that must fail, ``test_name``, ``test_name[parameter]`` or ``TestClass::test_name``. ``says``: text that its output must
    contain, for a test of many properties.
    """

    bug: str
    breaks: str
    caught_by: str
    edits: tuple[Edit, ...]
    says: str = ""

    @property
    def node(self) -> str:
        """The test's node id for pytest.

        Raises:
            MutantError: no test has this name, or more than one.
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
        MutantError: what an edit names is missing, or not unique.
    """
    for path, text in edited(mutant, tree).items():
        # A new file, never a changed one: it may be a link that other mutants share.
        path.unlink()
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()


def edited(mutant: Mutant, tree: Path) -> dict[Path, str]:
    """Return the changed files below ``tree``, with their new content.

    Raises:
        MutantError: see :func:`apply`.
    """
    try:
        return applied(tree, mutant.edits)
    except EditError as error:
        raise MutantError(f"{mutant.bug} {error}") from error


@functools.cache
def _files_of_tests() -> dict[str, list[str]]:
    """Return the files with a test function, or a class of tests, of each name."""
    found: dict[str, list[str]] = {}
    for file, tree in modules("tests"):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.setdefault(node.name, []).append(file)
    return found
