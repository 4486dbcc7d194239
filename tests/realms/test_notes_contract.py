"""The example `notes` keeps the contract of its intents against a real server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.contract import IntentContract

pytestmark = pytest.mark.slow


def _database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "notes.db", isolation_level=None)


class TestCreate(IntentContract):
    realms = ("interlock.examples.notes:realm",)
    intent = "notes.create"

    def environment(self, folder: Path) -> Mapping[str, str]:
        return {"NOTES_DATABASE": str(folder / "notes.db")}

    def parameters(self, number: int) -> Mapping[str, Any]:
        return {"text": f"note {number}"}

    def effects(self, folder: Path, number: int) -> int:
        with closing(_database(folder)) as connection:
            rows = connection.execute("SELECT count(*) FROM notes WHERE text = ?", (f"note {number}",))
            return int(rows.fetchone()[0])

    @contextmanager
    def held(self, folder: Path) -> Iterator[None]:
        with closing(_database(folder)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
