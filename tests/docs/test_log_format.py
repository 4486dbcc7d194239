"""The pages on the log, run on a log: the plain-Python check of the chain, and the backup."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import blocks, captioned
from tests.support.log import BEGUN
from tests.support.server import ServerProcess, running_server

_GUIDE = "how-to/look-after-the-log.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("log") / "data") as process:
        for _ in range(3):
            httpx.post(f"{process.url}/api/session").raise_for_status()
        yield process


def _check(folder: Path, log: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "verify_chain.py"
    script.write_text(captioned("reference/log-format.md", "verify_chain.py"))
    return subprocess.run([sys.executable, str(script), str(log)], capture_output=True, text=True, check=False)


def _backup(server: ServerProcess, folder: Path) -> Path:
    """Follow the guide's section on backups, beside the running server."""
    shell = next(block for block in blocks(_GUIDE) if block.language == "shell")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "data").symlink_to(server.data)
    done = subprocess.run(
        ["/bin/bash", "-eu", "-c", shell.text], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search("^ok: [0-9]+ records", done.stdout)
    return folder / "backup"


def test_the_chain_is_verified_by_plain_python(server: ServerProcess, tmp_path: Path) -> None:
    outcome = _check(tmp_path, server.database)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith(f"{BEGUN + 3} records, head ")


def test_plain_python_finds_a_changed_record(server: ServerProcess, tmp_path: Path) -> None:
    log = _backup(server, tmp_path) / "interlock.db"
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("DROP TRIGGER transitions_no_update")
        connection.execute("UPDATE transitions SET actor = 'somebody' WHERE position = 2")
    outcome = _check(tmp_path, log)
    assert outcome.returncode == 1
    assert "record 2 " in outcome.stderr


def test_a_backup_can_be_served(tmp_path: Path) -> None:
    with running_server(tmp_path / "original") as server:
        _serve_a_backup(server, tmp_path)


def _serve_a_backup(server: ServerProcess, tmp_path: Path) -> None:
    token = httpx.post(f"{server.url}/api/session").raise_for_status().json()["access_token"]
    with running_server(_backup(server, tmp_path)) as restored:
        answer = httpx.get(f"{restored.url}/api/session", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == httpx.codes.OK
