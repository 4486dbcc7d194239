"""The guide for the console: its settings turn it on, its commands make an operator, and lock one out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import httpx

from tests.docs.guides import follow_guide
from tests.docs.pages import blocks
from tests.support.client import PASSWORD
from tests.support.operators import OWN_PAGE
from tests.support.server import running_server

_PAGE = "how-to/use-the-console.md"


def test_the_guide_to_the_console_works(tmp_path: Path) -> None:
    (settings,) = [tomllib.loads(block.text) for block in blocks(_PAGE) if block.language == "toml"]
    with running_server(tmp_path / "data", **settings) as server, httpx.Client(base_url=server.url) as http:
        credentials = {"email": "ada@example.org", "password": PASSWORD}
        http.post("/api/auth/register", json=credentials).raise_for_status()
        assert http.post("/console/login", data=credentials, headers=OWN_PAGE).status_code == 403
        *_, (groups, said), (_, disabled) = follow_guide(_PAGE, server)
        assert "operators-on-call" in groups
        assert '"groups":["operators-on-call"]' in said
        assert '"state":"disabled"' in disabled
        assert http.post("/console/login", data=credentials, headers=OWN_PAGE).status_code == 403
