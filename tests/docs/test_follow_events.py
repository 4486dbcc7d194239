"""The guide for back ends that follow events: its commands, run in order, print what the page shows."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from interlock.machine.events.scopes import checked_scopes
from tests.docs.guides import follow_guide
from tests.docs.pages import DOCS, blocks
from tests.support.client import PASSWORD
from tests.support.server import running_server

_PAGE = "how-to/follow-events.md"


def test_the_guide_to_following_events_works(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        with httpx.Client(base_url=server.url) as http:
            credentials = {"email": "ada@example.org", "password": PASSWORD}
            http.post("/api/auth/register", json=credentials).raise_for_status()
            token = http.post("/api/auth/login", json=credentials).raise_for_status().json()["access_token"]
            http.post("/api/auth/logout", headers={"Authorization": f"Bearer {token}"}).raise_for_status()
        guide = follow_guide(_PAGE, server)
        assert not list((server.data / "keys").glob("*.secret")), "the last command removed it"
    (page,) = [json.loads(printed) for command, printed in guide if command.endswith('"$API?after=0"\n')]
    (event,) = page["events"]
    (example,) = [json.loads(block.text) for block in blocks(_PAGE) if block.language == "json"]
    assert {key: type(value) for key, value in event["data"].items()} == {
        key: type(value) for key, value in example["data"].items()
    }
    assert event.keys() == example.keys()
    assert (event["type"], event["data"]["reason"]) == (example["type"], example["data"]["reason"])


def test_the_page_lists_every_scope() -> None:
    rows = [line.split("|")[1].strip() for line in (DOCS / _PAGE).read_text().splitlines() if line.startswith("| `")]
    scopes = [row.strip("`").replace("REALM", "notes") for row in rows]
    assert checked_scopes(scopes) == ("all", "executions:notes", "session-ends")
