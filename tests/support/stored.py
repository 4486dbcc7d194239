"""What is on disk, in three numbers: what a refused request must leave as it was."""

from __future__ import annotations

from pathlib import Path

from interlock.server.surface.sqlite.archive import open_archive


def stored(data: Path) -> tuple[int, int, int]:
    """How many records, accounts and tickets the log in folder ``data`` holds."""
    with open_archive(data) as archive:
        tables = ("transitions", "personal_data", "tickets")
        records, accounts, tickets = (archive._database[name].count for name in tables)
    return records, accounts, tickets
