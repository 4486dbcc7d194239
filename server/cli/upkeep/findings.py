"""What ``interlock doctor`` finds: one thing that is off, why it matters, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

import msgspec

from interlock.machine.errors import InterlockError

Level: TypeAlias = Literal["error", "warning", "ok"]

STATUS: Final[dict[Level, int]] = {"ok": 0, "warning": 1, "error": 2}
"""The exit status of the command whose worst finding is of a level."""


class Finding(msgspec.Struct, frozen=True):
    """One finding. ``error``: the server would not start, or something is broken; ``ok``: nothing is off there."""

    level: Level
    what: str
    why: str = ""
    advice: str = ""


class Findings:
    """Collects what is found, in order."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def ok(self, what: str) -> None:
        """Note that something is as it should be."""
        self.all.append(Finding("ok", what))

    def warning(self, what: str, why: str, advice: str = "") -> None:
        """Note what an operator should look at."""
        self.all.append(Finding("warning", what, why, advice))

    def error(self, what: str, why: str, advice: str = "") -> None:
        """Note what is broken, or keeps the server from starting."""
        self.all.append(Finding("error", what, why, advice))

    @contextmanager
    def errors(self, why: str, advice: str = "") -> Iterator[None]:
        """Note an error that a check raises. Its message says what is wrong, and often what to do."""
        try:
            yield
        except (InterlockError, OSError) as error:
            self.error(str(error), why, advice)
