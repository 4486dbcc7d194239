"""The content of the log, through the command line as an operator reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.engine import open_writer
from interlock.server.surface.sqlite.files import LOG_NAME, open_surface
from interlock.server.system.supervision import Supervisor

BEGUN = 2
"""How many records a new log begins with: the additions of the server's first two keys."""


def interlock(*arguments: object, within_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``interlock ARGUMENTS`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "interlock.server.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def verify(data: Path) -> None:
    """Check the whole log in folder ``data`` with ``interlock verify``."""
    outcome = interlock("verify", data)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def records(data: Path) -> list[dict[str, Any]]:
    """Return every record of the log in folder ``data``, as ``interlock export`` writes it."""
    outcome = interlock("export", data)
    assert outcome.returncode == 0, outcome.stderr
    return [json.loads(line) for line in outcome.stdout.splitlines()]


def histories(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each session, oldest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records(data):
        if record["kind"] == "session":
            found[record["instance_id"]].append(record)
    return dict(found)


def record_count(data: Path) -> int:
    """Return the number of records in the log."""
    with open_archive(data) as archive:
        return archive.record_count()


def projection(data: Path) -> dict[str, dict[str, Any]]:
    """Return the stored current state of every session, by id."""
    with open_archive(data) as archive:
        rows = archive._database.query("SELECT instance_id, fold FROM instances WHERE kind = 'session'")
        folds = {row["instance_id"]: json.loads(row["fold"]) for row in rows}
        return {
            session_id: {"connections": [], "subject": None, "reason": None, **fold}
            for session_id, fold in folds.items()
        }


@contextmanager
def write_lock(data: Path) -> Iterator[None]:
    """Hold the file's write lock like another program, so that the server's commits wait."""
    database = open_writer(data / LOG_NAME)
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.conn.close()


async def open_and_close(folder: Path) -> None:
    """Open the log in ``folder`` as a start does, and close it."""
    async with open_surface(folder, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()):
        pass
