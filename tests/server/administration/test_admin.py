"""Administrators over a real server: any session, any account, and the records of their calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.admin import Admin, problem, subject_of
from tests.support.client import PASSWORD, Client, closed, hello, logged_in, new_email, rest_of
from tests.support.log import records
from tests.support.running import scenario
from tests.support.server import ServerProcess


@scenario()
async def test_administrators_list_all_sessions_filtered_and_paged(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        subject = await subject_of(client)
        others = []
        for _ in range(4):
            other = client.sibling()
            (await other.log_in(client.email)).raise_for_status()
            others.append(other)
        anonymous = client.sibling()
        await anonymous.begin()
        (await others[0].request("POST", "/api/auth/logout")).raise_for_status()

        own = await admin.pages("/sessions", subject=subject, limit=2)
        assert [len(page) for page in own] == [2, 2, 1]
        listed = [each for page in own for each in page]
        assert [each["session_id"] for each in listed] == [c.session_id for c in [*reversed(others), client]]
        everybody = await admin.every("/sessions", limit=7)
        assert anonymous.session_id in [each["session_id"] for each in everybody]
        assert len({each["session_id"] for each in everybody}) == len(everybody)

        async def ids(**query: Any) -> set[str]:
            return {each["session_id"] for each in await admin.every("/sessions", subject=subject, **query)}

        ended = {others[0].session_id}
        rest = {c.session_id for c in [client, *others]} - ended
        assert await ids(state="expired") == ended
        assert await ids(reason="logout") == ended
        assert await ids(state="authenticated") == rest
        assert await ids(reason="idle") == set()
        middle = listed[2]["created_at"]
        assert await ids(created_from=middle) == {each["session_id"] for each in listed if each["created_at"] >= middle}
        assert await ids(created_to=middle) == {each["session_id"] for each in listed if each["created_at"] < middle}
        moved = max(each["updated_at"] for each in listed)
        assert others[0].session_id in await ids(updated_from=moved)
        newest = (await admin.every("/sessions", updated_from=middle, limit=3))[0]
        assert newest["updated_at"] >= moved


@scenario()
async def test_administrators_see_a_session_and_its_history(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, Client(server.url) as client:
        await client.begin()
        email = new_email()
        await client.register(email)
        (await client.log_in(email)).raise_for_status()
        path = f"/sessions/{client.session_id}"
        shown = await admin.get(path)
        own = await client.session()
        assert {name: shown[name] for name in own} == own
        assert shown["updated_at"] >= shown["created_at"]
        history = await admin.every(f"{path}/transitions", limit=1)
        assert history == (await client.request("GET", "/api/session/transitions")).json()
        assert len(await admin.pages(f"{path}/transitions", limit=1)) == 3


@scenario()
async def test_the_owner_does_not_learn_which_administrator_ended_a_session(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        socket = await client.connect()
        await hello(socket)
        assert (await admin.http.delete(f"/sessions/{client.session_id}")).status_code == 204
        pushed = await rest_of(socket)
        assert [(row["event"], row["actor"]) for row in pushed if row["type"] == "transition"][-1] == (
            "revoke",
            "admin",
        )
        assert "ada" not in str(pushed)


@pytest.mark.asvs("7.4.5")
@scenario()
async def test_administrators_end_any_session_and_are_recorded(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        socket = await client.connect()
        await hello(socket)
        answer = await admin.http.delete(f"/sessions/{client.session_id}")
        assert answer.status_code == 204
        assert await closed(socket) == (4403, "session ended: revoked")
        problem(await client.request("GET", "/api/session"), 401, "session-ended")
        history = await admin.get(f"/sessions/{client.session_id}/transitions")
        end = history[-1]
        assert (end["event"], end["actor"], end["data"]) == ("revoke", "admin:ada", {"reason": "revoked"})
        assert answer.headers["Interlock-Receipt"] == f"{end['position']}.{end['digest']}"
        again = await admin.http.delete(f"/sessions/{client.session_id}")
        assert again.status_code == 204
        assert "Interlock-Receipt" not in again.headers
        assert await admin.get(f"/sessions/{client.session_id}/transitions") == history


@pytest.mark.asvs("7.4.5")
@scenario()
async def test_administrators_end_all_sessions_of_one_account_only(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        other, stranger = client.sibling(), await logged_in(server.url, client.http)
        (await other.log_in(client.email)).raise_for_status()
        subject = await subject_of(client)
        answer = await admin.http.delete(f"/accounts/{subject}/sessions")
        assert answer.json()["ended"] == 2
        assert answer.headers["Interlock-Receipt"].startswith(f"{answer.json()['receipt']['position']}.")
        for ended in (client, other):
            problem(await ended.request("GET", "/api/session"), 401, "session-ended")
        await stranger.session()
        assert {each["reason"] for each in await admin.every("/sessions", subject=subject)} == {"revoked"}
        assert (await admin.http.delete(f"/accounts/{subject}/sessions")).json() == {"ended": 0}
        (await client.sibling().log_in(client.email)).raise_for_status()


@pytest.mark.checks("disabled_never_serves")
@pytest.mark.asvs("7.4.2", "16.2.1")
@scenario()
async def test_a_disabled_account_is_logged_out_and_can_not_log_in(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        other = client.sibling()
        (await other.log_in(client.email)).raise_for_status()
        subject = await subject_of(client)
        ticket = (await client.request("POST", "/api/session/ticket")).json()["ticket"]
        socket = await client.connect()
        await hello(socket)
        before = len(await admin.every("/audit"))

        answer = await admin.http.post(f"/accounts/{subject}/disable")
        assert answer.status_code == 200, answer.text
        assert (answer.json()["subject"], answer.json()["ended"]) == (subject, 2)
        assert await closed(socket) == (4403, "session ended: account_disabled")
        assert not [each for each in await admin.every("/sessions", subject=subject) if each["state"] != "expired"]

        for ended in (client, other):
            for method, path in (("GET", "/api/session"), ("POST", "/api/session/ticket"), ("GET", "/api/sessions")):
                problem(await ended.request(method, path), 401, "session-ended")
            problem(await ended.refresh(), 401, "session-ended")
            change = {"current_password": PASSWORD, "new_password": "another long password"}
            problem(await ended.request("POST", "/api/auth/password", json=change), 401, "session-ended")
        late = await client.connect(additional_headers={}, subprotocols=["interlock.v1", f"ticket.{ticket}"])
        assert (await closed(late))[0] == 4403
        fresh = client.sibling()
        problem(await fresh.log_in(client.email), 403, "account-disabled")
        problem(await fresh.log_in(client.email, "not the right password"), 401, "credential-invalid")
        await fresh.begin()
        problem(await fresh.log_in(client.email), 403, "account-disabled")
        assert (await fresh.session())["state"] == "created"

        shown = await admin.get(f"/accounts/{subject}")
        assert (shown["state"], shown["version"], shown["disabled_at"]) == ("disabled", 2, shown["updated_at"])
        again = (await admin.http.post(f"/accounts/{subject}/disable")).json()
        assert again == {"subject": subject, "state": "disabled", "ended": 0}

        enabled = await admin.http.post(f"/accounts/{subject}/enable")
        assert enabled.json()["disabled_at"] is None
        problem(await client.refresh(), 401, "session-ended")
        (await fresh.log_in(client.email)).raise_for_status()

        acts = (await admin.every("/audit", limit=1))[before:]
        of_account = [act for act in acts if act["kind"] == "account"]
        assert [(act["event"], act["actor"], act["instance_id"], act["data"]) for act in of_account] == [
            ("disable", "admin:ada", subject, {"address": "127.0.0.1"}),
            ("enable", "admin:ada", subject, {"address": "127.0.0.1"}),
        ]
        assert of_account == acts
        ends = [(await admin.get(f"/sessions/{each.session_id}/transitions"))[-1] for each in (client, other)]
        assert [(end["event"], end["actor"], end["data"]) for end in ends] == [
            ("revoke", "server", {"reason": "account_disabled"})
        ] * 2
        assert of_account[0]["at"] == shown["disabled_at"]
        history = await admin.every(f"/accounts/{subject}/transitions", limit=2)
        assert [each["event"] for each in history] == ["register", "disable", "enable"]
        assert history[1:] == of_account


@pytest.mark.checks("disabled_never_serves")
@pytest.mark.asvs("7.4.2")
@scenario()
async def test_a_login_racing_a_disable_leaves_no_live_session(server: ServerProcess, secret: str) -> None:
    """Whichever is first, after both answers no session of the account is alive."""
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        subject = await subject_of(client)
        for _ in range(15):
            clients = [client.sibling() for _ in range(4)]
            disable = admin.http.post(f"/accounts/{subject}/disable")
            answers = await asyncio.gather(*(each.log_in(client.email) for each in clients), disable)
            assert {answer.status_code for answer in answers} <= {200, 403}
            assert answers[-1].status_code == 200
            for each in (client, *clients):
                if each.tokens:
                    problem(await each.request("GET", "/api/session"), 401, "session-ended")
            living = [each for each in await admin.every("/sessions", subject=subject) if not each["reason"]]
            assert living == []
            (await admin.http.post(f"/accounts/{subject}/enable")).raise_for_status()


@scenario()
async def test_a_password_change_racing_a_disable_leaves_no_live_session(server: ServerProcess, secret: str) -> None:
    """The password is the one of the successful answer."""
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        subject, password = await subject_of(client), PASSWORD
        for n in range(8):
            client.tokens = {}
            (await client.log_in(client.email, password)).raise_for_status()
            new = f"another long password {n}"
            change = client.request(
                "POST", "/api/auth/password", json={"current_password": password, "new_password": new}
            )
            answer, disabled = await asyncio.gather(change, admin.http.post(f"/accounts/{subject}/disable"))
            assert disabled.status_code == 200
            living = [each for each in await admin.every("/sessions", subject=subject) if not each["reason"]]
            assert living == []
            if answer.is_success:
                password = new
            (await admin.http.post(f"/accounts/{subject}/enable")).raise_for_status()


@pytest.mark.asvs("8.2.3")
@scenario()
async def test_administrators_see_accounts_without_secrets(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        await logged_in(server.url, client.http)
        subject = await subject_of(client)
        (found,) = await admin.get("/accounts", email=f" {client.email.upper()} ")
        assert found == await admin.get(f"/accounts/{subject}")
        assert set(found) == {
            "subject",
            "state",
            "version",
            "email",
            "created_at",
            "updated_at",
            "groups",
            "disabled_at",
        }
        assert (found["subject"], found["email"], found["groups"]) == (subject, client.email, [])
        assert await admin.get("/accounts", email="nobody@example.org") == []
        problem(await admin.http.get("/accounts", params={"email": "nobody"}), 422, "account-refused")
        pages = await admin.pages("/accounts", limit=1)
        listed = [each for page in pages for each in page]
        assert [each["created_at"] for each in listed] == sorted((e["created_at"] for e in listed), reverse=True)
        assert found in listed
        assert len(pages) == len({each["subject"] for each in listed}) + 1
        assert found in await admin.every("/accounts", state="active")
        assert found not in await admin.every("/accounts", state="disabled")
        assert await admin.get("/accounts", email=client.email, state="deleted") == []
        refused = problem(await admin.http.get("/accounts?state=closed"), 400, "bad-request")
        assert refused["errors"] == [{"field": "state", "message": "Expected one of active, disabled, deleted"}]


@scenario()
async def test_groups_are_replaced_and_invalid_names_refused(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        subject = await subject_of(client)
        path = f"/accounts/{subject}/groups"
        answer = await admin.http.put(path, json={"groups": ["staff", "on call", "staff"]})
        assert answer.json()["groups"] == ["on call", "staff"]
        bad: list[Any] = [
            {"groups": [name]} for name in ("", " a", "a ", "a,b", "a\nb", "\x7f", "\u00e9", "x" * 2049, 1)
        ]
        for body in (*bad, {}, {"groups": "staff"}, {"groups": [], "more": 1}):
            problem(await admin.http.put(path, json=body), 400, "bad-request")
        problem(await admin.http.put(path), 400, "bad-request")
        assert (await admin.get(f"/accounts/{subject}"))["groups"] == ["on call", "staff"]
        act = (await admin.every("/audit"))[-1]
        assert (act["event"], act["instance_id"]) == ("set_groups", subject)
        assert act["data"] == {"groups": ["on call", "staff"], "address": "127.0.0.1"}


@scenario()
async def test_calls_on_missing_instances_get_404_and_leave_no_record(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin:
        acts, newest = await admin.every("/audit"), await admin.every("/transitions", limit=1000)
        for method, path in (
            ("GET", "/sessions/nobody"),
            ("GET", "/sessions/nobody/transitions"),
            ("DELETE", "/sessions/nobody"),
            ("GET", "/accounts/acc_nobody"),
            ("GET", "/accounts/acc_nobody/transitions"),
            ("DELETE", "/accounts/acc_nobody"),
            ("DELETE", "/accounts/acc_nobody/sessions"),
            ("POST", "/accounts/acc_nobody/disable"),
            ("POST", "/accounts/acc_nobody/enable"),
        ):
            problem(await admin.http.request(method, path), 404, "not-found")
        problem(await admin.http.put("/accounts/acc_nobody/groups", json={"groups": []}), 404, "not-found")
        assert await admin.every("/audit") == acts
        assert await admin.every("/transitions", limit=1000) == newest


ENUMS = {
    "state": "created, authenticated, connected, expired",
    "reason": (
        "idle, absolute, logout, revoked, token_reuse, password_changed, account_disabled, account_deleted, replaced"
    ),
}


@pytest.mark.parametrize(
    "query",
    [
        "state=alive",
        "reason=boredom",
        "created_from=yesterday",
        "created_from=2026-01-01T00:00:00",
        "created_from=0.5",
        "limit=0",
        "limit=1001",
        "after=nowhere",
        "after=1.",
        "after=-1.abc",
    ],
)
@scenario()
async def test_invalid_list_parameters_are_refused(server: ServerProcess, secret: str, query: str) -> None:
    async with Admin(server.url, secret) as admin:
        refused = problem(await admin.http.get(f"/sessions?{query}"), 400, "bad-request")
        name = query.partition("=")[0]
        if name in ENUMS:
            assert refused["errors"] == [{"field": name, "message": f"Expected one of {ENUMS[name]}"}]
        both = "created_to=2026-01-01T00:00:00Z&updated_from=2026-01-01T00:00:00Z"
        problem(await admin.http.get(f"/sessions?{both}"), 422, "unprocessable")
        assert await admin.get(f"/sessions?{both}&subject=nobody") == []


@scenario()
async def test_contradicting_filters_find_nothing(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin:
        assert await admin.get("/sessions", state="created", reason="logout") == []
        assert await admin.get("/sessions", created_to="1970-01-01T00:00:00Z") == []


@scenario()
async def test_the_log_is_paged_by_position(server: ServerProcess, secret: str) -> None:
    async with Admin(server.url, secret) as admin, Client(server.url) as client:
        await client.begin()
        pages = await admin.pages("/transitions", limit=7)
        told = [each for page in pages for each in page]
        assert [each["position"] for each in told] == list(range(1, len(told) + 1))
        assert all(len(page) == 7 for page in pages[:-1])
        assert told == records(server.data)[: len(told)]
        assert await admin.get("/transitions", after=2**53) == []
