"""``interlock doctor``: each thing that is off has a finding, and the exit status says how bad the worst is."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from interlock.server.cli.main import main
from interlock.server.guard.keys.keyset import key_files
from interlock.server.guard.secrets import Secrets
from interlock.server.guard.webhook_files import WebhookFiles
from tests.support.server import running_server
from tests.support.stopped import stopped_server, tamper

ENOUGH = ("--tcp-total", str(max(resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000, 1) // 2))
"""So that this machine's limit of open files is no finding."""


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data folder of a server that has stopped, with an administrator's secret."""
    return stopped_server(tmp_path_factory.mktemp("healthy") / "data")


@pytest.fixture
def data(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "data"))


def examine(data: Path, *options: object, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status, and all findings that are not ``ok``."""
    words = ["doctor", "--json", "--data", str(data), *ENOUGH, *map(str, options)]
    outcome = CliRunner().invoke(main, words, env={"INTERLOCK_DATA": None, **environment})
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    found = [json.loads(line) for line in outcome.stdout.splitlines()]
    return outcome.exit_code, [each for each in found if each["level"] != "ok"]


def test_a_healthy_installation_has_no_finding(data: Path) -> None:
    before = {each: each.read_bytes() for each in data.rglob("*") if each.is_file()}
    assert examine(data, "--verify") == (0, [])
    shown = CliRunner().invoke(main, ["doctor", "--data", str(data), *ENOUGH]).stdout
    assert "signed up to record" in shown
    assert {each: each.read_bytes() for each in before} == before


def _open_keys(data: Path) -> None:
    key_files(data / "keys")[0].chmod(0o644)


def _disabled_webhook(data: Path) -> None:
    from interlock.server.surface.sqlite.engine import open_writer

    WebhookFiles(data / "keys").create("crm", "https://crm.example.org/", ("session-ends",), 1)
    database = open_writer(data / "interlock.db")
    database.execute("INSERT INTO webhooks VALUES ('crm', 1, 1, 5, 'gone', 1, 1)")
    database.execute("INSERT INTO webhook_messages VALUES ('crm', 3, 'x', 9, 1, 1, 1, 'status 500', 1)")
    database.conn.close()


SPOILED: dict[str, tuple[Callable[[Path], object], int, list[str]]] = {
    "a key that others may read": (_open_keys, 2, ["may be read by others"]),
    "a folder that others may write to": (lambda data: data.chmod(0o777), 2, ["may be written by others"]),
    "no head": (lambda data: (data / "interlock.head").unlink(), 2, ["there is none, and the log holds"]),
    "no keys": (lambda data: shutil.rmtree(data / "keys"), 2, ["there are no keys", "unknown key"]),
    "no log": (lambda data: (data / "interlock.db").unlink(), 1, ["there is no log"]),
    "no folder": (shutil.rmtree, 1, ["there is no folder"]),
    "an interrupted restore": (lambda data: (data / ".restoring").mkdir(), 2, [".restoring is left"]),
    "a disabled webhook": (_disabled_webhook, 1, ["webhook crm is disabled: gone", "webhook crm has 1 dead letters"]),
}


@pytest.mark.parametrize(("spoil", "status", "said"), SPOILED.values(), ids=SPOILED)
def test_what_is_off_in_a_folder_is_said(
    data: Path, spoil: Callable[[Path], object], status: int, said: list[str]
) -> None:
    spoil(data)
    found_status, found = examine(data)
    assert found_status == status, found
    for words in said:
        assert any(words in finding["what"] and finding["why"] for finding in found), found


_EVERYWHERE = "0.0.0.0"  # noqa: S104  # nothing listens there

OFF: dict[str, tuple[tuple[str, ...], dict[str, str], int, str]] = {
    "a misspelt variable": ((), {"INTERLOCK_PROT": "1"}, 2, "did you mean INTERLOCK_PORT?"),
    "a value out of range": (("--port", "70000"), {}, 2, "--port: expected a whole number"),
    "a public host": (("--host", _EVERYWHERE), {}, 1, "trusted_proxies is empty"),
    "a page without TLS": (("--origins", "http://app.example.org"), {}, 1, "origins has http://app.example.org"),
    "a demo": (("--demo",), {}, 1, "demo is on"),
    "a lasting new head": (("--new-head",), {}, 1, "new_head is on"),
    "a disk that is too small": (("--disk-reserve-mib", str(2**39)), {}, 1, "less than disk_reserve_mib"),
    "a cut-off log": (("--at-least", "1000000"), {}, 2, "1000000"),
    "a realm that is not there": (("--realm", "no_such_module:realm"), {}, 2, "no_such_module"),
    "a list that is not there": (("--password-blocklist", "/nowhere/list"), {}, 2, "/nowhere/list can't be read"),
    "public metrics": (("--metrics-host", _EVERYWHERE, "--metrics-port", "0"), {}, 1, "metrics_host is 0.0.0.0"),
    "a long grace": (("--refresh-grace-s", "200"), {}, 1, "refresh_grace_s (200)"),
}


@pytest.mark.parametrize(("options", "environment", "status", "said"), OFF.values(), ids=OFF)
def test_what_is_off_in_settings_is_said(
    healthy: Path, options: tuple[str, ...], environment: dict[str, str], status: int, said: str
) -> None:
    found_status, found = examine(healthy, *options, **environment)
    assert found_status == status, found
    assert any(said in finding["what"] for finding in found), found


def test_webhooks_and_their_dead_letters_are_listed_as_json(data: Path) -> None:
    _disabled_webhook(data)

    def listed(*words: str) -> dict[str, Any]:
        (line,) = CliRunner().invoke(main, ["webhooks", *words, "--json", "--data", str(data)]).stdout.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    webhook, letter = listed("list"), listed("dead-letters", "crm")
    assert (webhook["state"], webhook["dead_letters"]) == ("disabled: gone", 1)
    assert (letter["position"], letter["because"]) == (3, "status 500")


def test_a_faulty_log_is_found_if_it_is_read(data: Path) -> None:
    tamper(data)
    assert examine(data)[0] == 0
    status, found = examine(data, "--verify")
    assert (status, [each["what"] for each in found]) == (2, ["the log is not as the server wrote it"])


def test_a_remote_realm_without_a_secret_is_found(data: Path) -> None:
    realm = data.parent / "realm.toml"
    realm.write_text(
        'name = "notes"\nurl = "https://notes.example.org/"\n\n'
        '[intents."notes.create"]\neffects = "once"\ntimeout_s = 5\non_session_end = "cancel"\n'
        'parameters = { type = "object", additionalProperties = false }\n'
    )
    status, found = examine(data, "--realm", realm)
    assert (status, [each["what"] for each in found]) == (2, ["the remote realm notes has no secret"]), found


def test_a_running_server_is_named_and_its_log_is_no_finding(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        Secrets(server.data / "keys", "admin").create("ada", 1)
        words = ["doctor", "--data", str(server.data), *ENOUGH]
        outcome = CliRunner().invoke(main, words, env={"INTERLOCK_DATA": None})
    assert outcome.exit_code == 0, outcome.output
    assert "a server runs on it: process " in outcome.stdout
