"""What must not be written does not type-check; and what a program does not use, it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
from interlock import Client
from interlock.client import AnonymousSession, LoggedInSession


async def program(client: Client) -> None:
    anonymous = await client.begin()
    anonymous.connect()
    (await anonymous.login("ada@example.org", "…")).connect()
    resumed = await client.resume("…")
    resumed.connect()
    if isinstance(resumed, LoggedInSession):
        resumed.connect()
"""


def test_only_a_logged_in_session_has_connect(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "program.py"]
    said = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False).stdout.splitlines()
    assert [(line.split(":")[1], line.rpartition("[")[2]) for line in said if "error:" in line] == [
        ("8", "attr-defined]"),
        ("11", "union-attr]"),
    ], said


def test_a_realm_does_not_import_what_speaks_http() -> None:
    program = "import sys, interlock; from interlock import Realm; print({'httpx', 'websockets', 'litestar'} & {*sys.modules})"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_a_client_does_not_import_the_server() -> None:
    program = "import sys; from interlock import Client; print({'interlock.server', 'litestar'} & {*sys.modules})"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
