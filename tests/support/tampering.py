"""Editing a log like somebody with a shell and time: without triggers, and with recomputed digests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pysqlite3

from interlock.machine.ledger import GENESIS, StoredRow, row_digest
from interlock.server.surface.sqlite.rows import TRANSITION_COLUMNS


@contextmanager
def shell(folder: Path) -> Iterator[Any]:
    """Open the database in ``folder`` without its guards."""
    with closing(pysqlite3.connect(str(folder / "interlock.db"), isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute("DROP TRIGGER " + name)
        yield connection


def rechain(connection: Any) -> None:
    """Recompute every digest, like somebody who knows the format."""
    digest = GENESIS
    rows = connection.execute(f"SELECT {TRANSITION_COLUMNS} FROM transitions ORDER BY position").fetchall()  # noqa: S608  # column names of ours
    for row in rows:
        digest = row_digest(digest, StoredRow(*row))
        connection.execute("UPDATE transitions SET digest = ? WHERE position = ?", (digest, row[0]))


def cut(folder: Path, last: int) -> None:
    """Remove every record after ``last`` and correct the projection, so that the shorter log is valid.

    Sessions that began after ``last`` are removed; the caller chooses ``last`` so that no other one has later records.
    """
    with shell(folder) as connection:
        connection.execute("DELETE FROM transitions WHERE position > ?", (last,))
        connection.execute("DELETE FROM instances WHERE instance_id NOT IN (SELECT instance_id FROM transitions)")
