"""``interlock replay``: the history of a session in words, from a log that a server wrote."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock.server.cli.main import main
from tests.support.client import hello, logged_in
from tests.support.log import records
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a data folder, and its session that connected, refreshed, and logged out with its socket open."""

    async def live(server: ServerProcess) -> str:
        async with await logged_in(server.url) as client, client.connect() as socket:
            await hello(socket)
            await client.refresh()
            await client.request("POST", "/api/auth/logout")
            return client.session_id

    data = tmp_path_factory.mktemp("replay") / "data"
    with running_server(data) as server:
        return data, asyncio.run(live(server))


def replay(written: tuple[Path, str], *arguments: object) -> Result:
    data, session_id = written
    return CliRunner().invoke(main, ["replay", session_id, "--data", str(data), *map(str, arguments)])


def told(written: tuple[Path, str], *arguments: object) -> dict[str, Any]:
    outcome = replay(written, *arguments, "--json")
    assert outcome.exit_code == 0, outcome.output
    story: dict[str, Any] = json.loads(outcome.stdout)
    return story


def test_replay_tells_a_whole_session(written: tuple[Path, str]) -> None:
    outcome = replay(written)
    assert outcome.exit_code == 0, outcome.output
    lines = outcome.stdout.splitlines()
    assert lines[0] == f"session {written[1]}"
    steps = [line for line in lines if re.match(r"\d\. record \d+, 20\S+Z, by ", line)]
    assert [re.findall(r": (\w+) \(([^)]*)\)\. ", step)[0] for step in steps] == [
        ("create", "· → created"),
        ("authenticate", "created → authenticated"),
        ("connect", "authenticated → connected"),
        ("refresh", "connected"),
        ("revoke", "connected → expired"),
    ]
    assert re.search(r"\(con_\S+ on node-1: 1 connection open\)$", steps[2])
    assert re.search(r"\(logout, with 1 connection open\)$", steps[4])
    rest = outcome.stdout.partition("after version 5")[2]
    for name, value in (("state", "expired"), ("reason", "logout"), ("alive", "no"), ("connections", "none")):
        assert f"  {name:<16} {value}\n" in rest
    assert "\npossible then\n\n  nothing: expired is final\n\nrefused then\n" in rest
    assert "  connect from expired" in rest


def test_replay_stops_at_a_version(written: tuple[Path, str]) -> None:
    story = told(written, "--at", 3)
    assert [step["event"] for step in story["steps"]] == ["create", "authenticate", "connect"]
    stands = story["snapshot"]
    assert (stands["state"], stands["final"], stands["version"]) == ("connected", False, 3)
    assert (stands["stands"]["alive"], stands["stands"]["reason"]) == (True, None)
    assert [connection["node"] for connection in stands["stands"]["connections"]] == ["node-1"]
    possible = {each["event"]: each["target"] for each in stands["events"] if each["target"]}
    assert possible == {
        "reauthenticate": "connected",
        "connect": "connected",
        "disconnect": "authenticated",
        "refresh": "connected",
        "touch": "connected",
        "revoke": "expired",
    }
    refused = {each["event"]: each["refused"] for each in stands["events"] if each["refused"]}
    assert set(refused) == {"create", "authenticate", "expire"}
    assert "`not alive`" in refused["expire"]
    shown = replay(written, "--at", 3).stdout
    assert "  disconnect (→ authenticated)\n" in shown
    assert "  touch (stays)\n" in shown
    assert re.search(r"connections      connection_id con_\S+, node node-1\n", shown)


def test_replay_stops_at_a_time(written: tuple[Path, str]) -> None:
    rows = [row for row in records(written[0]) if row["instance_id"] == written[1]]
    story = told(written, "--at", rows[1]["at"])
    assert story["steps"][-1]["at"] <= rows[1]["at"]
    assert story["snapshot"]["at"] == rows[1]["at"]
    offset = rows[-1]["at"].replace("Z", "+00:00")
    ended = told(written, "--at", offset)["snapshot"]
    assert (ended["state"], ended["final"]) == ("expired", True)
    later = told(written, "--at", "2999-01-01T00:00:00Z")["snapshot"]
    assert (later["at"], later["version"]) == ("2999-01-01T00:00:00.000Z", 5)


def test_replay_defaults_to_now(written: tuple[Path, str]) -> None:
    story = told(written)
    assert story["instance_id"] == written[1]
    assert len(story["steps"]) == 5
    assert story["snapshot"]["at"] >= story["steps"][-1]["at"]


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("0", "the versions are 1 to 5"),
        ("6", "the versions are 1 to 5"),
        ("2001-01-01T00:00:00Z", "its first record is at 20"),
        ("yesterday", "is neither an RFC 3339 time nor a version"),
        ("-1", "is neither an RFC 3339 time nor a version"),
        ("9" * 5000, "is neither an RFC 3339 time nor a version"),
        ("2026-01-01T00:00:00", "has no time zone"),
    ],
)
def test_replay_of_an_invalid_moment_is_an_error(written: tuple[Path, str], at: str, says: str) -> None:
    outcome = replay(written, "--at", at)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert says in re.sub(r"[\s│]+", " ", outcome.stderr)


def test_replay_of_an_unknown_session_is_an_error(written: tuple[Path, str]) -> None:
    outcome = replay((written[0], "nobody"))
    said = f"interlock: Instance not found in {written[0] / 'interlock.db'}\n"
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (1, "", said)
    account = next(row["instance_id"] for row in records(written[0]) if row["kind"] == "account")
    outcome = replay((written[0], "\udcff"))
    assert (outcome.exit_code, outcome.stderr) == (1, said), "it is not UTF-8"
    outcome = replay((written[0], account), "--kind", "session")
    assert (outcome.exit_code, outcome.stderr) == (1, said.replace("Instance", "Session"))


def test_an_id_names_its_kind(written: tuple[Path, str]) -> None:
    account = next(row["instance_id"] for row in records(written[0]) if row["kind"] == "account")
    outcome = replay((written[0], account))
    assert (outcome.exit_code, outcome.stdout.splitlines()[0]) == (0, f"account {account}")
    shown = CliRunner().invoke(main, ["transitions", account, "--data", str(written[0]), "--json"])
    assert {json.loads(line)["kind"] for line in shown.stdout.splitlines()} == {"account"}
