"""A log that a newer version has changed: an older server refuses it, says what to do, and leaves it as it is."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pysqlite3

from tests.support.client import logged_in
from tests.support.running import run
from tests.support.server import running_server


async def _use(url: str) -> None:
    async with await logged_in(url):
        pass


def test_an_older_server_refuses_a_newer_log_and_changes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data) as server:
        run(_use(server.url))
        server.stop()
        with closing(pysqlite3.connect(data / "interlock.db")) as log:
            log.execute(
                "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
                " SELECT migration_set, 'm999_later', applied_at FROM _sqlite_migrations LIMIT 1"
            )
            log.commit()
            log.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = (data / "interlock.db").read_bytes(), (data / "interlock.head").read_bytes()
        command = [sys.executable, "-m", "interlock.server.cli", "serve", "--port", "0", "--data", str(data)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert refused.returncode != 0
        said = " ".join(refused.stderr.split())
        assert "this log was written by a newer Interlock (it has m999_later)" in said
        assert "start that version again, or restore a backup made before the upgrade" in said
        assert (data / "interlock.db").read_bytes() == before[0]
        assert (data / "interlock.head").read_bytes() == before[1]
        with closing(pysqlite3.connect(data / "interlock.db")) as log:
            log.execute("DELETE FROM _sqlite_migrations WHERE name = 'm999_later'")
            log.commit()
        server.start()
