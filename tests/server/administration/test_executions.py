"""Administrators list and cancel the executions of all accounts, and never see the realm's data."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.admin import Admin, admin_token, problem, subject_of
from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.errands import REALM
from tests.support.intents import accepted, execution_of, outcome, state_of
from tests.support.log import verify
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def errands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("executions") / "data", realm=REALM) as process:
        yield process
        verify(process.data)


@pytest.fixture(scope="module")
def secret(errands: ServerProcess) -> str:
    return admin_token(errands.data)


@asynchronous
async def test_executions_are_filtered_and_paged(errands: ServerProcess, secret: str) -> None:
    async with Admin(errands.url, secret) as admin, await logged_in(errands.url) as client:
        subject = await subject_of(client)
        said = [await outcome(client, (await accepted(client, "say", text="x"))["execution_id"]) for _ in range(3)]
        failed = await outcome(client, (await accepted(client, "fail"))["execution_id"])
        other = await logged_in(errands.url, client.http)
        waiting = await accepted(other, "wait")
        await state_of(other, waiting["execution_id"], "running")

        def ids(*executions: dict[str, object]) -> list[object]:
            return [each["execution_id"] for each in executions]

        assert ids(*await admin.every("/executions", subject=subject, limit=2)) == ids(failed, *reversed(said))
        assert ids(*await admin.get("/executions", subject=subject, reason="error")) == ids(failed)
        assert ids(waiting) == ids(*await admin.get("/executions", state="running"))
        assert await admin.get("/executions", subject=subject, state="running") == []
        every = await admin.every("/executions", limit=2)
        assert {*ids(failed, *said, waiting)} <= {*ids(*every)}
        assert await admin.get("/executions", created_to="2026-01-01T00:00:00Z") == []
        await other.request("DELETE", f"/api/executions/{waiting['execution_id']}")


@pytest.mark.asvs("8.2.3")
@asynchronous
async def test_an_execution_is_shown_without_its_data(errands: ServerProcess, secret: str) -> None:
    async with Admin(errands.url, secret) as admin, await logged_in(errands.url) as client:
        begun = await accepted(client, "say", "shown", text="canary")
        await outcome(client, begun["execution_id"])
        shown = await admin.get(f"/executions/{begun['execution_id']}")
        assert (shown["subject"], shown["session_id"]) == (await subject_of(client), client.session_id)
        assert (shown["realm"], shown["name"], shown["intent_id"]) == ("errands", "errands.say", "shown")
        assert (shown["state"], shown["effects"], shown["on_session_end"]) == ("succeeded", "idempotent", "cancel")
        assert (shown["attempt"], shown["version"], shown["node"], shown["parent"]) == (1, 3, None, None)
        history = await admin.get(f"/executions/{begun['execution_id']}/transitions")
        assert [step["event"] for step in history] == ["accept", "start", "succeed"]
        assert await admin.get(f"/executions/{begun['execution_id']}/transitions", after_version=2) == history[2:]
        listed = await admin.get("/executions", subject=shown["subject"])
        assert listed == [shown]
        assert "canary" not in json.dumps([shown, history, listed])


@asynchronous
async def test_an_administrator_cancels_an_execution(errands: ServerProcess, secret: str) -> None:
    async with Admin(errands.url, secret) as admin, await logged_in(errands.url) as client:
        begun = await accepted(client, "wait")
        path = f"/executions/{begun['execution_id']}"
        await state_of(client, begun["execution_id"], "running")
        answers = [await admin.http.delete(path) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json() == await admin.get(path)
        assert (answers[0].json()["state"], answers[0].json()["reason"]) == ("cancelled", "asked")
        assert (await execution_of(client, begun["execution_id"]))["state"] == "cancelled"
        act = (await admin.every("/audit"))[-1]
        assert (act["instance_id"], act["event"], act["actor"]) == (begun["execution_id"], "cancel", "admin:ada")


@asynchronous
async def test_an_unknown_execution_is_not_found(errands: ServerProcess, secret: str) -> None:
    async with Admin(errands.url, secret) as admin:
        for path in ("/executions/exe_none", "/executions/exe_none/transitions"):
            problem(await admin.http.get(path), 404, "not-found")
        problem(await admin.http.delete("/executions/exe_none"), 404, "not-found")
        problem(await admin.http.get("/executions?state=connected"), 400, "bad-request")
