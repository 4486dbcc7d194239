"""Small pieces of Markdown."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; ``|`` inside a cell is escaped."""
    lines = [tuple(head), ("---",) * len(head), *(tuple(_cell(text) for text in row) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def fenced(language: str, text: str) -> str:
    """A code block."""
    return f"```{language}\n{text.strip()}\n```\n"


def as_json(value: Any) -> str:
    """A code block that shows ``value`` as JSON."""
    return fenced("json", json.dumps(value, indent=2, ensure_ascii=False))


def code(text: str) -> str:
    """``text`` as code; the empty string stays empty."""
    return f"`{text}`" if text else ""


def prose(docstring: str | None) -> str:
    """A docstring as one run of text. Roles such as ``:class:`x.Y``` become plain code."""
    text = " ".join((docstring or "").split())
    for role in (":class:", ":meth:", ":mod:", ":func:"):
        text = text.replace(role, "")
    return text


def first_paragraph(docstring: str | None) -> str:
    """The first paragraph of a docstring."""
    return prose((docstring or "").strip().partition("\n\n")[0])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
