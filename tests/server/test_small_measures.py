"""Small measures that single requirements of OWASP ASVS ask for, over the real server."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import httpx
import pytest

from interlock.server.guard.keys.keyset import load_keys
from tests.support.asynchronous import asynchronous
from tests.support.canary import Canaries
from tests.support.client import PASSWORD, hello, logged_in, new_email
from tests.support.log import BEGUN, interlock
from tests.support.running import run
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

PATHS = ["/api/session", "/api/sessions", "/health/live", "/health/ready", "/schema/openapi.json", "/nowhere"]


@pytest.mark.asvs("4.1.2")
def test_no_http_request_is_redirected(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, headers={"x-forwarded-proto": "http"}) as http:
        for path in [*PATHS, "/", "/schema", "//evil.example/", "/api/session/", "/API/SESSION"]:
            for method in ("GET", "POST", "DELETE"):
                answer = http.request(method, path)
                assert not answer.is_redirect
                assert "location" not in answer.headers


@pytest.mark.asvs("6.3.2")
def test_a_new_server_has_no_account(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        assert stored(server.data) == (BEGUN, 0, 0)
        for name in ("root", "admin", "sa", "admin@localhost"):
            body = {"email": name, "password": name}
            assert httpx.post(f"{server.url}/api/auth/login", json=body).status_code == 401
        assert not list((server.data / "keys").glob("*.secret")), "nor an administrator, nor other software"


@pytest.mark.asvs("6.4.2", "8.2.3")
def test_an_account_has_an_address_and_a_password_and_no_hint(server: ServerProcess) -> None:
    before = stored(server.data)
    for field in ("hint", "question", "answer", "subject", "account_id", "groups", "disabled_at_ms"):
        body = {"email": new_email(), "password": PASSWORD, field: "x"}
        answer = httpx.post(f"{server.url}/api/auth/register", json=body)
        assert answer.status_code == 400
    assert stored(server.data) == before


@pytest.mark.asvs("6.2.2", "6.2.3", "7.4.3", "7.5.1")
@asynchronous
async def test_a_password_change_needs_the_current_one_and_ends_other_sessions(server: ServerProcess) -> None:
    async with await logged_in(server.url) as here:
        there = here.sibling()
        await there.log_in(here.email)
        new = "another long password"
        wrong = {"current_password": "not the current one", "new_password": new}
        for body in (wrong, {"new_password": new}, {"current_password": PASSWORD}):
            assert (await here.request("POST", "/api/auth/password", json=body)).status_code in {400, 403}
            assert (await there.request("GET", "/api/session")).status_code == 200
        change = {"current_password": PASSWORD, "new_password": new}
        assert (await here.request("POST", "/api/auth/password", json=change)).status_code == 200
        ended = await there.request("GET", "/api/session")
        assert (ended.status_code, ended.json()["reason"]) == (401, "password_changed")
        assert (await there.sibling().log_in(here.email)).status_code == 401
        assert (await there.sibling().log_in(here.email, new)).status_code == 200


@pytest.mark.asvs("13.3.1")
def test_keys_are_only_in_their_folder(tmp_path: Path) -> None:
    """Neither in the database, nor in log, trace or export, in any encoding."""

    async def use(url: str) -> None:
        async with await logged_in(url) as client:
            (await client.refresh()).raise_for_status()
            async with client.connect() as opened:
                await hello(opened)

    with running_server(tmp_path / "data", log_json=True, log_level="debug", access_log=True) as server:
        run(use(server.url))
        said = httpx.get(f"{server.url}/.well-known/jwks.json").content
    keys = load_keys(server.data / "keys")
    private = keys.signing.private.private_numbers().private_value.to_bytes(32, "big")
    canaries = Canaries()
    for name, secret in (("the signing key", private), ("the MAC key", keys.refresh_mac)):
        canaries.add(name, base64.urlsafe_b64encode(secret).rstrip(b"=").decode())
    assert canaries.found_in(server.data / "keys"), "they are found where they are"
    shutil.rmtree(server.data / "keys")
    exported = interlock("export", server.data).stdout.encode()
    assert exported.count(b"\n") == BEGUN + 6
    assert canaries.found("the public keys", said) + canaries.found("the export", exported) == []
    assert canaries.found_in(server.data, server.log_path, server.trace) == []
