"""Reset codes: an administrator issues one, and its holder sets another password, once and for a short time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.server.guard.passwords.reset_codes import new_code, normalise_code
from tests.support.admin import Admin, admin_token, problem, subject_of
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, closed, logged_in, new_email
from tests.support.log import verify
from tests.support.server import ServerProcess, running_server

NEW = "another long password of hers"


def administrator(server: ServerProcess) -> Admin:
    """Return an administrator with a secret of a new name."""
    return Admin(server.url, admin_token(server.data, new_email().partition("@")[0]))


async def issue(admin: Admin, subject: str) -> dict[str, Any]:
    answer = await admin.http.post(f"/accounts/{subject}/reset-code")
    assert answer.status_code == 201, answer.text
    issued: dict[str, Any] = answer.json()
    return issued


async def reset(client: Client, code: str, password: str = NEW, email: str = "") -> httpx.Response:
    body = {"email": email or client.email, "code": code, "new_password": password}
    return await client.http.post("/api/auth/reset", json=body)


@pytest.mark.checks("code_opens_once")
@pytest.mark.asvs("6.4.6")
@asynchronous
async def test_a_code_sets_another_password_once_and_ends_all_sessions(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, administrator(server) as admin:
        subject = await subject_of(client)
        socket = await client.connect()
        await socket.recv()
        issued = await issue(admin, subject)
        assert (await client.request("GET", "/api/account")).is_success, "nothing has changed yet"
        read_aloud = issued["code"].replace("-", " ").lower()
        done = await reset(client, read_aloud)
        assert (done.status_code, done.content) == (204, b"")
        assert done.headers["interlock-receipt"]
        assert await closed(socket) == (4403, "session ended: password_changed")
        problem(await client.request("GET", "/api/account"), 401, "session-ended")
        problem(await client.sibling().log_in(client.email), 401, "credential-invalid")
        assert (await client.sibling().log_in(client.email, NEW)).is_success
        problem(await reset(client, issued["code"], f"{NEW}, again"), 401, "credential-invalid")
        assert (await client.sibling().log_in(client.email, NEW)).is_success
        history = await admin.every(f"/accounts/{subject}/transitions")
        assert [(each["event"], each["actor"].partition(":")[0]) for each in history] == [
            ("register", "anonymous"),
            ("issue_reset_code", "admin"),
            ("reset_password", subject),
        ]
        assert issued["code"] not in str(history)
        audit = await admin.every("/audit")
        assert [each["event"] for each in audit if each["instance_id"] == subject] == ["issue_reset_code"]
    verify(server.data)


@pytest.mark.checks("code_opens_once")
@pytest.mark.parametrize("after", ["a change", "a disable", "another code"])
@asynchronous
async def test_a_code_is_void_after_a_change_of_password_or_a_disable(server: ServerProcess, after: str) -> None:
    async with await logged_in(server.url) as client, administrator(server) as admin:
        subject = await subject_of(client)
        issued = await issue(admin, subject)
        if after == "a change":
            body = {"current_password": PASSWORD, "new_password": f"{NEW}, by herself"}
            (await client.request("POST", "/api/auth/password", json=body)).raise_for_status()
        elif after == "a disable":
            (await admin.http.post(f"/accounts/{subject}/disable")).raise_for_status()
            problem(await reset(client, issued["code"]), 401, "credential-invalid")
            (await admin.http.post(f"/accounts/{subject}/enable")).raise_for_status()
        else:
            await issue(admin, subject)
        problem(await reset(client, issued["code"]), 401, "credential-invalid")


@pytest.mark.checks("code_opens_once")
@asynchronous
async def test_one_of_several_resets_at_once_wins(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, administrator(server) as admin:
        code = (await issue(admin, await subject_of(client)))["code"]
        passwords = [f"{NEW}, number {number}" for number in range(5)]
        done = await asyncio.gather(*(reset(client, code, each) for each in passwords))
        assert sorted(each.status_code for each in done) == [204, 401, 401, 401, 401]
        (won,) = (password for password, each in zip(passwords, done, strict=True) if each.status_code == 204)
        assert (await client.sibling().log_in(client.email, won)).is_success


@asynchronous
async def test_a_code_is_refused_when_its_time_is_over(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", reset_code_s=0.001) as server:
        async with await logged_in(server.url) as client, administrator(server) as admin:
            code = (await issue(admin, await subject_of(client)))["code"]
            problem(await reset(client, code), 401, "credential-invalid")


@asynchronous
async def test_a_wrong_code_and_an_unknown_address_get_the_same_answer(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, administrator(server) as admin:
        code = (await issue(admin, await subject_of(client)))["code"]
        answers = [
            await reset(client, new_code()),
            await reset(client, new_code(), email=new_email()),
            await reset(client, code, email=new_email()),
        ]
        assert {(each.status_code, each.text) for each in answers} == {(401, answers[0].text)}
        weak = [await reset(client, each, "short") for each in (code, new_code())]
        assert {(each.status_code, each.json()["type"]) for each in weak} == {
            (422, "urn:interlock:problem:password-refused")
        }
        assert (await reset(client, code)).status_code == 204, "a refused password does not use up the code"


@pytest.mark.asvs("6.3.1")
@asynchronous
async def test_wrong_codes_are_limited_like_wrong_passwords(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", limit_login_client="3/15m", refusal_delay_s=0) as server:
        async with await logged_in(server.url) as client, administrator(server) as admin:
            code = (await issue(admin, await subject_of(client)))["code"]
            statuses = [(await reset(client, new_code())).status_code for _ in range(4)]
            assert statuses == [401, 401, 401, 429]
            assert (await reset(client, code)).status_code == 429


@asynchronous
async def test_codes_are_issued_to_active_accounts_with_a_password(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, administrator(server) as admin:
        subject = await subject_of(client)
        problem(await admin.http.post("/accounts/nobody/reset-code"), 404, "not-found")
        problem(
            await client.request("POST", f"/api/admin/accounts/{subject}/reset-code"), 401, "admin-credential-invalid"
        )
        for end in ("disable", ""):
            method = "POST" if end else "DELETE"
            (await admin.http.request(method, f"/accounts/{subject}/{end}".rstrip("/"))).raise_for_status()
            problem(await admin.http.post(f"/accounts/{subject}/reset-code"), 409, "transition-refused")


@pytest.mark.asvs("6.4.6")
def test_a_code_is_long_and_easy_to_read() -> None:
    codes = [new_code() for _ in range(100)]
    assert len({*codes}) == 100
    assert all(len(normalise_code(code)) == 24 for code in codes)
    assert normalise_code(" o1i-lab \t") == "011" + "1AB"
