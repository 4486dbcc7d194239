"""Reads the Markdown pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^\1`*$", re.MULTILINE | re.DOTALL)
_CODE_BLOCK = re.compile(r"\{code-block\} *")
_CAPTION = re.compile(r":caption: (.+)\n")
_OPTIONS = re.compile(r"(?::[a-z-]+:[^\n]*\n)*\n?")


class Block(NamedTuple):
    """A fenced block: its language, its caption ('' without one) and its text."""

    language: str
    caption: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page of docs/, in order."""
    found = []
    for fence in _FENCE.finditer((DOCS / page).read_text()):
        language, body, caption = fence["info"].strip(), fence["body"], ""
        if _CODE_BLOCK.match(language):
            language = _CODE_BLOCK.sub("", language)
            options = _OPTIONS.match(body)
            assert options is not None
            captioned = _CAPTION.search(options[0])
            caption, body = captioned[1] if captioned else "", body[options.end() :]
        found.append(Block(language, caption, body))
    return found


def captioned(page: str, caption: str) -> str:
    """Return the text of the one block of ``page`` with ``caption``."""
    [text] = [block.text for block in blocks(page) if block.caption == caption]
    return text
