"""The guide for administrators: its commands, run in order, print what the page shows."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.docs.guides import follow_guide
from tests.support.client import PASSWORD
from tests.support.log import projection
from tests.support.server import running_server

_PAGE = "how-to/administer.md"


@pytest.mark.asvs("7.4.5")
def test_the_administrators_guide_works(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        with httpx.Client(base_url=server.url) as http:
            credentials = {"email": "ada@example.org", "password": PASSWORD}
            http.post("/api/auth/register", json=credentials).raise_for_status()
            http.post("/api/auth/login", json=credentials).raise_for_status()
            others = {"email": "bob@example.org", "password": PASSWORD}
            http.post("/api/auth/register", json=others).raise_for_status()
            for _ in range(3):
                http.post("/api/auth/login", json=others).raise_for_status()
        guide = follow_guide(_PAGE, server)
        assert not list((server.data / "keys").glob("*.secret")), "the last command removed it"
        ends = {(session["state"], session["reason"]) for session in projection(server.data).values()}
        assert ends == {("expired", "revoked")}, "those of everybody"
    assert len(guide) >= 12
    (groups,) = [printed for command, printed in guide if "--request PUT" in command]
    assert json.loads(groups)["groups"] == ["on-call", "staff"]
