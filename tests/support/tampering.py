"""Editing a log as somebody with time and a shell: the triggers are taken away first, digests can be computed anew."""

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
    """The database in ``folder`` with nothing left that guards it."""
    with closing(pysqlite3.connect(str(folder / "interlock.db"), isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute("DROP TRIGGER " + name)
        yield connection


def rechain(connection: Any) -> None:
    """Compute every digest anew, as somebody would who knows the format."""
    digest = GENESIS
    rows = connection.execute(f"SELECT {TRANSITION_COLUMNS} FROM transitions ORDER BY position").fetchall()  # noqa: S608  # column names of ours
    for row in rows:
        digest = row_digest(digest, StoredRow(*row))
        connection.execute("UPDATE transitions SET digest = ? WHERE position = ?", (digest, row[0]))


def cut(folder: Path, last: int) -> None:
    """Remove every record after ``last`` and put the projection right, so that the shorter log is a valid one.

    The sessions that began after ``last`` go; the caller chooses ``last`` so that no other one has records after it.
    """
    with shell(folder) as connection:
        connection.execute("DELETE FROM transitions WHERE position > ?", (last,))
        connection.execute("DELETE FROM instances WHERE instance_id NOT IN (SELECT instance_id FROM transitions)")
