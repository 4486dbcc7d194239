"""Three counts of what is stored, which a refused request must not change."""

from __future__ import annotations

from pathlib import Path

from interlock.server.surface.sqlite.archive import open_archive


def stored(data: Path) -> tuple[int, int, int]:
    """Count the records, accounts and tickets in the log in folder ``data``."""
    with open_archive(data) as archive:
        tables = ("transitions", "personal_data", "tickets")
        records, accounts, tickets = (archive._database[name].count for name in tables)
    return records, accounts, tickets
