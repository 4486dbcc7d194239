"""``GET /api/account``: who the caller is."""

from __future__ import annotations

from interlock.machine.errors import NotAuthenticated
from interlock.server.experience.problem_kinds import KINDS
from tests.support.admin import Admin, admin_token, problem, subject_of
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, logged_in, new_email
from tests.support.server import ServerProcess


@asynchronous
async def test_an_account_is_shown_to_its_owner_with_its_groups(server: ServerProcess) -> None:
    async with Client(server.url) as client:
        email = new_email()
        registered = (await client.register(email.upper())).raise_for_status().json()
        await client.log_in(email)
        shown = (await client.request("GET", "/api/account")).raise_for_status().json()
        assert shown == {**registered, "email": email, "groups": []}
        async with Admin(server.url, admin_token(server.data, "groups")) as admin:
            groups = {"groups": ["staff", "editors"]}
            (await admin.http.put(f"/accounts/{shown['subject']}/groups", json=groups)).raise_for_status()
        assert (await client.request("GET", "/api/account")).json() == {**shown, "groups": ["editors", "staff"]}


@asynchronous
async def test_an_anonymous_session_has_no_account(server: ServerProcess) -> None:
    async with Client(server.url) as client:
        problem(await client.request("GET", "/api/account"), 401, "credential-missing")
        await client.begin()
        refused = problem(await client.request("GET", "/api/account"), 403, "login-required")
        assert refused["recovery"] == KINDS[NotAuthenticated].recovery
        await client.log_in((await logged_in(server.url, client.http)).email)
        shown = (await client.request("GET", "/api/account")).json()
        assert shown["subject"] == await subject_of(client)
