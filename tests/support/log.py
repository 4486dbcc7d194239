"""The content of the log, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from interlock.machine.ledger import parse
from interlock.machine.machines import MACHINES
from interlock.machine.wire import transition_view
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.engine import open_writer
from interlock.server.surface.sqlite.files import LOG_NAME, open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.forked import Forked, as_it_is

BEGUN = 2
"""How many records a new log begins with: the additions of the server's first two keys."""


def interlock(
    *arguments: object,
    within_s: float = 300,
    environment: Mapping[str, str] = MappingProxyType({}),
    prepare: Callable[[], None] = as_it_is,
) -> subprocess.CompletedProcess[str]:
    """Run ``interlock ARGUMENTS`` to its end, with the variables of ``environment`` besides the tests' own."""
    words = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stderr"
        process = Forked(words, {**os.environ, **environment}, said, prepare)
        limit = threading.Timer(within_s, process.kill)
        limit.start()
        with process.stdout as stdout:
            answer = stdout.read()
        status = process.wait(within_s)
        limit.cancel()
        return subprocess.CompletedProcess(words, status, answer, said.read_text())


def verify(data: Path) -> None:
    """Check the whole log in folder ``data`` with ``interlock verify``."""
    outcome = interlock("verify", data)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def records(data: Path) -> list[dict[str, Any]]:
    """Return every record of the log in folder ``data``, as ``interlock export`` writes it."""
    with open_archive(data) as archive:
        return [json.loads(msgspec.json.encode(transition_view(parse(row, MACHINES)))) for row in archive.rows()]


def histories(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each session, oldest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records(data):
        if record["kind"] == "session":
            found[record["instance_id"]].append(record)
    return dict(found)


def executions(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each execution, oldest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records(data):
        if record["kind"] == "execution":
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
