"""The application in this process, where a test can cause what no client can."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest

from interlock.machine.session.commands import Authenticate, Connect
from interlock.machine.session.session import Session
from interlock.server.app import app_over
from interlock.server.runtime.door import Recorded
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.accounts import registered
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD
from tests.support.inside import client_of
from tests.support.wire import services_in

ADA = {"email": "ada@example.org", "password": PASSWORD}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Services, httpx.AsyncClient]]:
    settings = Settings(data=str(folder), cheap_passwords_for_tests=True)
    async with open_services(settings) as services, client_of(app_over(services)) as http:
        yield services, http


@pytest.mark.asvs("13.4.2", "16.5.1", "16.5.4")
@asynchronous
async def test_an_internal_error_is_a_problem_without_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as (services, http):

        async def broken(_actor: str) -> None:
            raise ZeroDivisionError("a secret")

        monkeypatch.setattr(services.sessions, "begin", broken)
        answer = await http.post("/api/session")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:interlock:problem:internal-error"


@pytest.mark.asvs("13.4.2")
@pytest.mark.filterwarnings("ignore:Python Debugger on exception")
@asynchronous
async def test_no_environment_variable_starts_a_debugger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Litestar's would stop the whole server at the first refusal, until somebody types something."""
    stopped: list[str] = []
    monkeypatch.setenv("LITESTAR_DEBUG", "1")
    monkeypatch.setenv("LITESTAR_PDB", "1")
    monkeypatch.setattr("pdb.post_mortem", lambda: stopped.append("in the debugger"))
    async with served(tmp_path) as (_, http):
        assert (await http.get("/api/session")).status_code == 401
    assert stopped == []


@pytest.mark.checks("old_password_never_admits", "authority_at_append")
@asynchronous
async def test_a_login_overtaken_by_a_password_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login was authenticated before the change and reaches the log after it: no session is recorded."""
    async with served(tmp_path) as (services, http):
        subject = (await http.post("/api/auth/register", json=ADA)).raise_for_status().json()["subject"]
        authenticate = services.sessions.authenticate

        async def late(*arguments: Any, **named: Any) -> Recorded[Session]:
            owner = await services.accounts.by_id(subject)
            assert owner is not None
            change = services.accounts.password_change(owner, "another hash")
            await services.accounts.submit(subject, *change.asked, along=change.along)
            return await authenticate(*arguments, **named)

        monkeypatch.setattr(services.sessions, "authenticate", late)
        answer = await http.post("/api/auth/login", json=ADA)
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:interlock:problem:credential-invalid")
        assert await services.account_sessions.page(subject, None, 10) == [], "there never was a session"


@pytest.mark.checks("authority_at_append")
@asynchronous
async def test_a_session_revoked_meanwhile_does_not_change_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash takes a while; a session revoked meanwhile neither changes the password nor ends other sessions."""
    async with served(tmp_path) as (services, http):
        (await http.post("/api/auth/register", json=ADA)).raise_for_status()
        thief, owner = [(await http.post("/api/auth/login", json=ADA)).raise_for_status().json() for _ in range(2)]
        hashing = services.logins._passwords.hash

        async def slow(*arguments: Any) -> str:
            hashed = await hashing(*arguments)
            await services.sessions.end(await services.sessions.load(thief["session_id"]), "revoked", "owner")
            return hashed

        monkeypatch.setattr(services.logins._passwords, "hash", slow)
        answer = await http.post(
            "/api/auth/password",
            json={"current_password": PASSWORD, "new_password": "another long password"},
            headers={"Authorization": f"Bearer {thief['access_token']}"},
        )
        assert (answer.status_code, answer.json()["reason"]) == (401, "revoked")
        assert (await http.post("/api/auth/login", json=ADA)).status_code == 200
        bearer = {"Authorization": f"Bearer {owner['access_token']}"}
        assert (await http.get("/api/session", headers=bearer)).status_code == 200


@asynchronous
async def test_a_slow_hash_does_not_show_behind_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise an attacker who fills the hash queue could tell by the time who has logged in at a shared address."""
    gate = threading.Event()
    limits = {"limit_login_account": "2/1h", "refusal_delay_s": 0.4, "trusted_proxies": ("127.0.0.1",)}
    async with services_in(tmp_path, **limits) as services, client_of(app_over(services)) as http:

        async def log_in(address: str, password: str = PASSWORD) -> httpx.Response:
            body = {**ADA, "password": password}
            return await http.post("/api/auth/login", json=body, headers={"X-Forwarded-For": address})

        (await http.post("/api/auth/register", json=ADA)).raise_for_status()
        (await log_in("192.0.2.1")).raise_for_status()
        for number in (1, 2):
            assert (await log_in(f"198.51.100.{number}", "wrong")).status_code == 401
        verify = services.logins._passwords._verify

        def slow(*arguments: Any) -> bool:
            assert gate.wait(60)
            return verify(*arguments)

        monkeypatch.setattr(services.logins._passwords, "_verify", slow)
        try:
            unseen, looked_at = [await log_in(each, "wrong") for each in ("198.51.100.3", "192.0.2.1")]
        finally:
            gate.set()
        assert (looked_at.status_code, looked_at.json()["type"]) == (429, unseen.json()["type"])
        monkeypatch.undo()


@asynchronous
async def test_two_password_changes_in_one_millisecond_keep_their_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session that changed them, and one that logs in afterwards, survive the next start."""
    now_ns = time.time_ns()
    monkeypatch.setattr(
        "interlock.server.clock.time", SimpleNamespace(time_ns=lambda: now_ns, monotonic_ns=lambda: now_ns)
    )
    passwords = [PASSWORD, "the first new password", "the second new password"]
    async with served(tmp_path) as (_, http):
        (await http.post("/api/auth/register", json=ADA)).raise_for_status()
        own = (await http.post("/api/auth/login", json=ADA)).raise_for_status().json()
        for current, new in pairwise(passwords):
            headers = {"Authorization": f"Bearer {own['access_token']}"}
            body = {"current_password": current, "new_password": new}
            own = (await http.post("/api/auth/password", json=body, headers=headers)).raise_for_status().json()
        later = (await http.post("/api/auth/login", json={**ADA, "password": passwords[-1]})).raise_for_status().json()
    async with served(tmp_path) as (services, _):
        for each in (own, later):
            assert not (await services.sessions.load(each["session_id"])).ended


@asynchronous
async def test_a_start_disconnects_only_its_own_nodes_orphans(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), cheap_passwords_for_tests=True, node="alpha")
    async with open_services(settings) as services:
        connects = Connect("con_1", "alpha"), Connect("con_2", "beta")
        await registered(services, "ada")
        outcome = await services.sessions.begin("ada", Authenticate("ada", "password"), *connects)
        assert outcome.instance.state == "connected"
    async with open_services(msgspec.structs.replace(settings, node="beta")) as services:
        session = await services.sessions.load(outcome.instance.session_id)
        assert [connection.node for connection in session.connections] == ["alpha"]


@asynchronous
async def test_a_draining_server_says_it_is_not_ready(tmp_path: Path) -> None:
    async with served(tmp_path) as (services, http):
        services.draining = True
        ready = await http.get("/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await http.get("/health/live")).status_code == 200
