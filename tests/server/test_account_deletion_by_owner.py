"""``DELETE /api/account``: the owner deletes the account."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.admin import Admin, admin_token, problem, subject_of
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, closed, logged_in
from tests.support.log import verify
from tests.support.server import ServerProcess, running_server

PAGE = {"sec-fetch-site": "same-origin"}


@pytest.mark.checks("deleted_absorbs")
@asynchronous
async def test_an_owner_deletes_the_account_with_all_that_is_theirs(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        subject, other = await subject_of(client), client.sibling()
        (await other.log_in(client.email)).raise_for_status()
        socket = await other.connect()
        await socket.recv()
        answer = await client.request("DELETE", "/api/account")
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["interlock-receipt"]
        assert await closed(socket) == (4403, "session ended: account_deleted")
        for ended in (client, other):
            problem(await ended.request("GET", "/api/account"), 401, "session-ended")
            problem(await ended.refresh(), 401, "session-ended")
        problem(await client.sibling().log_in(client.email), 401, "credential-invalid")
        async with Admin(server.url, admin_token(server.data, "deletion")) as admin:
            shown = await admin.get(f"/accounts/{subject}")
            assert (shown["state"], shown["email"]) == ("deleted", None)
            history = await admin.every(f"/accounts/{subject}/transitions")
            assert [(each["event"], each["actor"]) for each in history][-1] == ("delete", subject)
            assert client.email not in str(history)
        (await client.sibling().register(client.email)).raise_for_status()
    verify(server.data)


@asynchronous
async def test_a_page_that_deletes_the_account_loses_its_cookies(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        await client.request("POST", "/api/auth/logout")
        client.tokens = {}
        body = {"email": client.email, "password": "correct horse battery staple"}
        entered = await client.http.post("/api/auth/login", json=body, headers=PAGE)
        token = entered.json()["access_token"]
        given = {each.partition("=")[0] for each in entered.headers.get_list("set-cookie")}
        jar = "; ".join(each.partition(";")[0] for each in entered.headers.get_list("set-cookie"))
        headers = {**PAGE, "authorization": f"Bearer {token}", "cookie": jar}
        foreign = await client.http.delete("/api/account", headers=headers | {"sec-fetch-site": "cross-site"})
        problem(foreign, 403, "origin-refused")
        answer = await client.http.delete("/api/account", headers=headers)
        assert answer.status_code == 204
        removed = answer.headers.get_list("set-cookie")
        assert {each.partition("=")[0] for each in removed} == given
        assert all("Max-Age=0" in each for each in removed)
        assert answer.headers["clear-site-data"] == '"cache", "storage"'


@pytest.mark.asvs("7.5.2")
@asynchronous
async def test_a_deletion_needs_an_account_and_a_recent_login(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", recent_login_s=0.001) as server:
        async with await logged_in(server.url) as client, Client(server.url) as anonymous:
            problem(await anonymous.request("DELETE", "/api/account"), 401, "credential-missing")
            await anonymous.begin()
            problem(await anonymous.request("DELETE", "/api/account"), 403, "login-required")
            problem(await client.request("DELETE", "/api/account"), 401, "login-too-old")
            assert (await client.request("GET", "/api/account")).json()["email"] == client.email
