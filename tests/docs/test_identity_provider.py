"""The guide to identity providers: its configuration, command and table hold with an independent provider."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.docs.pages import DOCS, captioned
from tests.support.admin import admin_token
from tests.support.provider import Provider, running_provider
from tests.support.provider_site import CLIENT_ID
from tests.support.server import ServerProcess, running_server

_PAGE = "how-to/use-an-identity-provider.md"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_provider(tmp_path_factory.mktemp("provider") / "data") as process:
        yield process


@pytest.mark.asvs("7.1.3")
def test_the_configuration_and_the_command_of_the_guide(tmp_path: Path, provider: Provider) -> None:
    config = tmp_path / "interlock.toml"
    text = captioned(_PAGE, "/etc/interlock.toml")
    assert "https://id.example.org/o" in text
    config.write_text(text.replace("https://id.example.org/o", provider.issuer))
    with running_server(tmp_path / "data", config=config) as server:
        command = captioned(_PAGE, "exchange").replace("http://127.0.0.1:8700", server.url)
        id_token = provider.log_in("ada", nonce="n-1")["id_token"]
        environment = {**os.environ, "ID_TOKEN": id_token, "NONCE": "n-1"}
        printed = subprocess.run(
            ["/bin/sh", "-euc", command], env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout
    assert json.loads(printed)["state"] == "authenticated"


class Gate:
    """A server that trusts the provider, and the session of a user who logged in there."""

    def __init__(self, server: ServerProcess, provider: Provider) -> None:
        self.server = server
        self.provider = provider
        self.tokens = self.enter().raise_for_status().json()

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def enter(self, headers: dict[str, str] | None = None) -> httpx.Response:
        body = {"id_token": self.provider.log_in("ada")["id_token"]}
        return httpx.post(f"{self.server.url}/api/auth/exchange", json=body, headers=headers)

    def asked(self, path: str, method: str = "GET") -> httpx.Response:
        return httpx.request(method, self.server.url + path, headers=self.bearer)

    def groups(self) -> str:
        return str(self.asked("/api/forward-auth").raise_for_status().headers["remote-groups"])


def _the_token_expires(_gate: Gate) -> None:
    time.sleep(8.1)  # older than oidc_token_age_s


def _the_provider_is_left(gate: Gate) -> None:
    gate.provider.stop()


def _logs_out(gate: Gate) -> None:
    assert gate.asked("/api/auth/logout", "POST").status_code == 204


def _the_deadline_passes(_gate: Gate) -> None:
    time.sleep(8.1)  # absolute_timeout_s


def _the_login_grows_old(gate: Gate) -> None:
    time.sleep(8.1)  # longer than recent_login_s
    refused = gate.asked("/api/sessions", "DELETE")
    assert refused.status_code == 401
    assert 'error="insufficient_user_authentication", max_age=8' in refused.headers["www-authenticate"]
    again = gate.enter(gate.bearer).raise_for_status().json()
    assert again["session_id"] == gate.tokens["session_id"]
    gate.tokens = again
    assert gate.asked("/api/sessions", "DELETE").status_code == 200


def _groups_change(gate: Gate) -> None:
    assert gate.groups() == "editors,staff"
    gate.provider.stop()
    gate.provider.people["ada"] = ["auditors"]
    gate.provider.start()
    assert gate.groups() == "editors,staff"
    gate.tokens, before = gate.enter().raise_for_status().json(), gate.tokens
    assert gate.groups() == "auditors"
    gate.tokens = before


def _is_disabled(gate: Gate) -> None:
    headers = {"Authorization": f"Bearer {admin_token(gate.server.data)}"}
    subject = gate.asked("/api/session").json()["subject"]
    httpx.post(f"{gate.server.url}/api/admin/accounts/{subject}/disable", headers=headers).raise_for_status()
    assert gate.enter().status_code == 403


ROWS: Final[dict[str, tuple[str, Callable[[Gate], None], dict[str, Any]]]] = {
    "the ID token expires": ("none: ", _the_token_expires, {"oidc_token_age_s": 8}),
    "the user logs out at the provider, or is removed there": ("none at first; ", _the_provider_is_left, {}),
    "the user logs out here": ("it ends; ", _logs_out, {}),
    "an absolute deadline passes": ("it ends; ", _the_deadline_passes, {"absolute_timeout_s": 8}),
    "the login at the provider becomes older than `recent_login_s`, or its token does not say when it was": (
        "none; ",
        _the_login_grows_old,
        {"recent_login_s": 8},
    ),
    "groups or strength change at the provider": ("they take effect at the next exchange", _groups_change, {}),
    "the account is disabled here": ("it ends at once, ", _is_disabled, {}),
}
"""Event → its effect on the session by the guide's table, how to cause it, and settings that hasten it."""


@pytest.mark.asvs("7.1.3", "7.6.1")
def test_the_table_lists_each_events_effect_on_the_session() -> None:
    section = (DOCS / _PAGE).read_text().partition("## How long a session lasts")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    assert [happens for happens, _ in rows] == list(ROWS)
    for happens, becomes in rows:
        assert becomes.startswith(ROWS[happens][0]), happens


@pytest.mark.asvs("7.1.3", "7.6.1")
@pytest.mark.parametrize(("said", "happens", "settings"), ROWS.values(), ids=ROWS)
def test_the_session_changes_as_the_table_says(
    tmp_path: Path, provider: Provider, said: str, happens: Callable[[Gate], None], settings: dict[str, Any]
) -> None:
    trust = {"oidc_issuer": provider.issuer, "oidc_audiences": CLIENT_ID, "oidc_groups_claim": "groups"}
    with running_server(tmp_path / "data", **trust, **settings) as server:
        gate = Gate(server, provider)
        assert gate.asked("/api/session").status_code == 200
        happens(gate)
        assert gate.asked("/api/session").status_code == (401 if said.startswith("it ends") else 200)
        if provider.process is None:
            provider.start()
