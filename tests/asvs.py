"""OWASP ASVS 5.0 and Interlock's answers: reads the table in asvs.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import msgspec


class Requirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One requirement in this project's words (``asks``), and one of three answers, which asvs.toml defines."""

    level: int
    asks: str
    met: str | None = None
    not_met: str | None = None
    not_applicable: str | None = None

    @property
    def answer(self) -> str:
        """The answer in words."""
        if self.met is not None:
            return self.met
        if self.not_met is not None:
            return f"**Not met**, because {self.not_met[0].lower()}{self.not_met[1:]}"
        return f"*Not applicable*, because {self.not_applicable}"


CHAPTERS: Final = {
    "3": "Web front end",
    "4": "API and WebSocket",
    "6": "Authentication",
    "7": "Session management",
    "8": "Authorisation",
    "9": "Self-contained tokens",
    "10": "OAuth and OpenID Connect",
    "11": "Cryptography",
    "13": "Configuration",
    "14": "Data protection",
    "16": "Logging and errors",
    "2": "Order and transactions",
}
"""Subjects of the standard's chapters, in the order of the table."""

REQUIREMENTS: Final[dict[str, Requirement]] = msgspec.convert(
    tomllib.loads(Path(__file__).with_suffix(".toml").read_text()), dict[str, Requirement]
)
"""By id, in the order of the file."""
