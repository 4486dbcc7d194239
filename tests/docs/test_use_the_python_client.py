"""The programs of the page about the Python client print what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import captioned
from tests.support.client import PASSWORD
from tests.support.server import ServerProcess, running_server

_PAGE = "how-to/use-the-python-client.md"
_INTERLOCK = "http://127.0.0.1:8700"


def ran(folder: Path, caption: str, server: ServerProcess, **environment: str) -> str:
    """Run one of the page's programs in ``folder``, and return what it prints."""
    text = captioned(_PAGE, caption)
    assert _INTERLOCK in text
    (folder / caption).write_text(text.replace(_INTERLOCK, server.url))
    run = subprocess.run(
        [sys.executable, caption],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_example_makes_a_note_and_asks_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.db"))
    realms = "interlock.examples.notes:realm,interlock.examples.agent:realm"
    with running_server(tmp_path / "data", realm=realms) as server:
        assert ran(tmp_path, "example.py", server) == captioned(_PAGE, "Output")


def test_the_program_that_keeps_its_token_goes_on_with_its_session(tmp_path: Path) -> None:
    login = {"EMAIL": "ada@example.org", "PASSWORD": PASSWORD}
    with running_server(tmp_path / "data") as server:
        body = {"email": login["EMAIL"], "password": PASSWORD}
        httpx.post(f"{server.url}/api/auth/register", json=body).raise_for_status()
        first = ran(tmp_path, "resume.py", server, **login)
        assert ran(tmp_path, "resume.py", server) == first
        assert ran(tmp_path, "resume.py", server) == first
        token = tmp_path / "session.token"
        assert token.stat().st_mode & 0o777 == 0o600
        httpx.post(f"{server.url}/api/auth/logout", json={"refresh_token": token.read_text()}).raise_for_status()
        again = ran(tmp_path, "resume.py", server, **login)
        assert again.startswith("session-ended\n")
        assert again.splitlines()[1] != first.strip()
