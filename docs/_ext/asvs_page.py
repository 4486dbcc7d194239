"""The page that goes down OWASP ASVS 5.0: the table, and the tests that say they show it."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from pieces import code, table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.asvs import CHAPTERS, REQUIREMENTS  # the tests are no installed package
from tests.mutants.catalogue import MEASURES
from tests.support.marks import marked

_STANDING = {"met": "met", "not_met": "not met", "not_applicable": "not applicable"}


def summary() -> str:
    """How many of each level are met."""
    counts = Counter(
        (each.level, name) for each in REQUIREMENTS.values() for name in _STANDING if getattr(each, name) is not None
    )
    return table(
        ("level", *_STANDING.values()),
        [(str(level), *(str(counts[level, name]) for name in _STANDING)) for level in (1, 2, 3)],
    )


def requirements() -> str:
    """Every requirement, in order, by chapter."""
    shown: dict[str, list[str]] = {}
    for requirement, place in marked("asvs"):
        shown.setdefault(requirement, []).append(code(place.rpartition("/")[2]))
    parts = []
    for chapter, about in CHAPTERS.items():
        rows = [
            (name, str(each.level), each.asks, each.answer, "<br>".join(shown.get(name, [])))
            for name, each in REQUIREMENTS.items()
            if name.partition(".")[0] == chapter
        ]
        parts.append(f"## {about}\n\n{table(('id', 'level', 'asks', 'Interlock', 'shown by'), rows)}")
    return "\n".join(parts)


def measures() -> str:
    """What each requirement that is met rests on, taken away, and the test that notices."""
    return table(
        ("id", "taken away", "noticed by"),
        [
            (each.breaks, each.bug, code(each.node.rpartition("/")[2]))
            for name in REQUIREMENTS
            for each in MEASURES
            if each.breaks == name
        ],
    )
