"""One mutant: an edit of the real code that is a bug, and who must notice."""

from __future__ import annotations

from pathlib import Path

import msgspec


class MutantError(Exception):
    """The mutant can't be made: the code it edits has changed."""


class Mutant(msgspec.Struct, frozen=True):
    """A bug that somebody might write.

    ``breaks``: the name of the property, or the id of the ASVS requirement, that no longer holds. ``edits``: pairs of an old
    text, which occurs exactly once in ``file``, and the new one. ``caught_by``: the pytest node that must fail. ``says``: what
    must stand in its output: the property's name where a checker names it, otherwise the words of the assertion that notices.
    """

    name: str
    file: str
    bug: str
    breaks: str
    caught_by: str
    says: str
    edits: tuple[tuple[str, str], ...]


def apply(mutant: Mutant, tree: Path) -> None:
    """Write the bug into the copy of the sources at ``tree``.

    Raises:
        MutantError: an old text is not there exactly once, or Python has become something else.
    """
    path = tree / mutant.file
    text = edited(mutant, path.read_text(encoding="utf-8"))
    # A new file, never a changed one: it may be a link to the one that other mutants start from.
    path.unlink()
    path.write_text(text, encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def edited(mutant: Mutant, text: str) -> str:
    """``text`` with the bug in it.

    Raises:
        MutantError: see :func:`apply`.
    """
    for old, new in mutant.edits:
        count = text.count(old)
        if count != 1:
            raise MutantError(f"{mutant.name}: {mutant.file} holds this {count} times, not once:\n{old}")
        text = text.replace(old, new)
    if not mutant.file.endswith(".py"):
        return text
    try:
        compile(text, mutant.file, "exec")
    except SyntaxError as error:
        raise MutantError(f"{mutant.name}: with its edits {mutant.file} is no Python: {error}") from error
    return text
