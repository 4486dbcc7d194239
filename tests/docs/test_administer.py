"""The guide for administrators: its commands, run in order, print what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from interlock.server.settings import Settings
from tests.docs.pages import Block, blocks
from tests.support.client import PASSWORD
from tests.support.log import projection
from tests.support.server import running_server

_PAGE = "how-to/administer.md"
_URL = f"http://127.0.0.1:{Settings().port}"
_DATA = "/var/lib/interlock"
_MARK = "@@ end of block"


def shows(block: Block, printed: str) -> bool:
    """Check that ``printed`` begins as the page shows; … matches anything."""
    pattern = ".*".join(re.escape(part) for part in re.split("…", block.text.strip().replace("\n", "\r\n")))
    return re.match(pattern, printed.strip().replace("\r\n", "\n").replace("\n", "\r\n"), re.DOTALL) is not None


@pytest.mark.asvs("7.4.5")
def test_the_administrators_guide_works(tmp_path: Path) -> None:
    page = blocks(_PAGE)
    commands = [block for block in page if block.language == "shell"]
    shown = {before: after for before, after in pairwise(page) if before.language == "shell" != after.language}
    assert len(commands) >= 12
    assert len(shown) >= 5
    with running_server(tmp_path / "data") as server:
        with httpx.Client(base_url=server.url) as http:
            credentials = {"email": "ada@example.org", "password": PASSWORD}
            http.post("/api/auth/register", json=credentials).raise_for_status()
            http.post("/api/auth/login", json=credentials).raise_for_status()
            others = {"email": "bob@example.org", "password": PASSWORD}
            http.post("/api/auth/register", json=others).raise_for_status()
            for _ in range(3):
                http.post("/api/auth/login", json=others).raise_for_status()
        script = "".join(f"{block.text}\necho; echo '{_MARK}'\n" for block in commands)
        assert _URL in script
        assert _DATA in script
        run = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script.replace(_URL, server.url).replace(_DATA, str(server.data))],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            check=False,
        )
        assert run.returncode == 0, run.stderr + run.stdout
        assert not list((server.data / "keys").glob("*.secret")), "the last command removed it"
        ends = {(session["state"], session["reason"]) for session in projection(server.data).values()}
        assert ends == {("expired", "revoked")}, "those of everybody"
    printed = run.stdout.split(_MARK)[:-1]
    assert len(printed) == len(commands)
    for block, output in zip(commands, printed, strict=True):
        if block in shown:
            assert shows(shown[block], output), f"the page shows:\n{shown[block].text}\nit printed:\n{output}"
    (groups,) = [output for block, output in zip(commands, printed, strict=True) if "--request PUT" in block.text]
    assert json.loads(groups)["groups"] == ["on-call", "staff"]
