"""Intents over HTTP: accepted once, refused with a reason, and read by their own account only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.admin import Admin, admin_token, problem
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, logged_in
from tests.support.errands import REALM
from tests.support.intents import accepted, execution_of, outcome, state_of, submit
from tests.support.log import records, verify
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def errands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("intents") / "data", realm=REALM) as process:
        yield process
        verify(process.data)


def of_execution(server: ServerProcess, execution_id: str) -> list[str]:
    """Return the events that the log has of an execution."""
    return [each["event"] for each in records(server.data) if each["instance_id"] == execution_id]


@asynchronous
async def test_an_intent_is_executed_and_its_result_can_be_got(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        answer = await submit(client, "say", "first", text="ab", times=2)
        assert answer.status_code == 202
        begun = answer.json()
        assert (begun["intent_id"], begun["name"], begun["attempt"]) == ("first", "errands.say", 0)
        assert begun["state"] == "accepted"
        assert not {"result", "error"} & begun.keys()
        receipt = begun["receipt"]
        assert answer.headers["interlock-receipt"] == f"{receipt['position']}.{receipt['digest']}"
        ended = await outcome(client, begun["execution_id"])
        assert ended["state"] == "succeeded"
        assert ended["result"] == {"text": "abab", "attempt": 1}
        assert (ended["attempt"], ended["reason"]) == (1, None)
        assert begun["accepted_at"] <= ended["started_at"] <= ended["ended_at"]
        assert ended["receipt"]["position"] > receipt["position"]
        assert of_execution(errands, begun["execution_id"]) == ["accept", "start", "succeed"]


@asynchronous
async def test_an_intent_without_a_result_has_null(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        ended = await outcome(client, (await accepted(client, "add", numbers=[1, 0.5]))["execution_id"])
        assert (ended["state"], ended["result"]) == ("succeeded", None)


@asynchronous
async def test_a_repeated_intent_is_the_same_execution(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        begun = await accepted(client, "wait", "again")
        running = await state_of(client, begun["execution_id"], "running")
        repeated = await submit(client, "wait", "again")
        assert (repeated.status_code, repeated.json()) == (200, running)
        assert "interlock-receipt" not in repeated.headers, "nothing was recorded"
        await client.request("DELETE", f"/api/executions/{begun['execution_id']}")
        repeated = await submit(client, "wait", "again")
        assert (repeated.status_code, repeated.json()["state"]) == (200, "cancelled")
        assert of_execution(errands, begun["execution_id"]) == ["accept", "start", "cancel"]


@asynchronous
async def test_a_repeat_after_the_end_has_the_result(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        begun = await accepted(client, "say", "result", text="x", times=2)
        ended = await outcome(client, begun["execution_id"])
        # The order of the names, white space, and how numbers and characters are written make no difference.
        body = b'{ "parameters": {"times": 2.0, "text": "\\u0078" }, "name": "errands.say", "id": "result" }'
        again = await client.request("POST", "/api/intents", content=body, headers={"Content-Type": "application/json"})
        assert (again.status_code, again.json()) == (200, ended)


@asynchronous
async def test_of_the_same_intents_at_once_one_is_new(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        answers = await asyncio.gather(*(submit(client, "say", "at once", text="x") for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 19 + [202]
        assert len({answer.json()["execution_id"] for answer in answers}) == 1


@asynchronous
async def test_an_id_used_for_another_intent_is_refused(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        begun = await accepted(client, "say", "used", text="x")
        for name, parameters in (("say", {"text": "y"}), ("say", {"text": "x", "times": 2}), ("wait", {})):
            refused = problem(await submit(client, name, "used", **parameters), 409, "intent-reused")
            assert refused["recovery"] == "fix_request"
        assert await outcome(client, begun["execution_id"])
        assert len(await executions(client)) == 1, "nothing else was accepted"


@asynchronous
async def test_an_unknown_intent_is_refused_without_its_name(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        answer = await submit(client, "canary", "unknown")
        problem(answer, 404, "intent-unknown")
        assert "canary" not in answer.text
        assert (await submit(client, "say", "unknown", text="x")).status_code == 202, "its id is unused"


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing": ({}, "parameters.text", "is missing"),
    "of another type": ({"text": 7}, "parameters.text", "Expected `str`, got `int`"),
    "out of range": ({"text": "x", "times": 11}, "parameters.times", "Expected `int` <= 10"),
    "inside": ({"text": "x", "among": [{"text": None}]}, "parameters.among[0].text", "Expected `str`, got `null`"),
    "unknown": ({"text": "x", "canary": 1}, "parameters", "contains an unknown field"),
}


@pytest.mark.parametrize(("parameters", "field", "message"), WRONG.values(), ids=WRONG)
@asynchronous
async def test_refused_parameters_are_named(
    errands: ServerProcess, parameters: dict[str, Any], field: str, message: str
) -> None:
    async with await logged_in(errands.url) as client:
        answer = await submit(client, "say", "wrong", **parameters)
        refused = problem(answer, 400, "parameters-refused")
        assert refused["errors"] == [{"field": field, "message": message}]
        assert "canary" not in answer.text
        assert await executions(client) == [], "nothing was recorded"


@pytest.mark.parametrize("intent_id", ["", "x" * 129, "a/b", "a\n", "a\x00b", "a\x7f", "\x9b"])
@asynchronous
async def test_an_id_that_could_be_misread_is_refused(errands: ServerProcess, intent_id: str) -> None:
    async with await logged_in(errands.url) as client:
        body = {"id": intent_id, "name": "errands.say", "parameters": {"text": "x"}}
        refused = problem(await client.request("POST", "/api/intents", json=body), 400, "bad-request")
        said = "an intent's id has 1 to 128 characters, without / and control characters"
        assert refused["errors"] == [{"field": "id", "message": said}]
        assert await executions(client) == []


@pytest.mark.parametrize("intent_id", ["x", "a.b:c~é 日", "y" * 128])
@asynchronous
async def test_any_other_id_is_accepted(errands: ServerProcess, intent_id: str) -> None:
    async with await logged_in(errands.url) as client:
        begun = await accepted(client, "say", intent_id, text="x")
        assert (await outcome(client, begun["execution_id"]))["intent_id"] == intent_id


BODIES = {
    "twice": (b'{"id": "x", "name": "errands.say", "parameters": {"text": "a", "text": "b"}}', 400),
    "deep": (b'{"id": "x", "name": "errands.say", "parameters": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400),
    "half a character": (b'{"id": "x", "name": "errands.say", "parameters": {"text": "\\ud800"}}', 400),
    "no object": (b'{"id": "x", "name": "errands.say", "parameters": ["a"]}', 400),
    "null": (b'{"id": "x", "name": "errands.say", "parameters": null}', 400),
    "missing": (b'{"id": "x", "name": "errands.say"}', 400),
    "more": (b'{"id": "x", "name": "errands.say", "parameters": {"text": "a"}, "session_id": "y"}', 400),
    "large": (b'{"id": "x", "name": "errands.say", "parameters": {"text": "' + b"a" * 65_536 + b'"}}', 413),
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES)
@asynchronous
async def test_a_body_that_is_no_intent_is_refused(errands: ServerProcess, body: bytes, status: int) -> None:
    async with await logged_in(errands.url) as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.request("POST", "/api/intents", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert await executions(client) == []


@asynchronous
async def test_an_intent_needs_one_of_its_roles(errands: ServerProcess) -> None:
    async with (
        await logged_in(errands.url) as client,
        Admin(errands.url, admin_token(errands.data, "roles")) as admin,
    ):
        refused = problem(await submit(client, "staff", "roles"), 403, "role-missing")
        assert refused["recovery"] == "ask_administrator"
        subject = (await client.request("GET", "/api/account")).json()["subject"]
        (await admin.http.put(f"/accounts/{subject}/groups", json={"groups": ["staff"]})).raise_for_status()
        begun = await accepted(client, "staff", "roles")
        assert (await outcome(client, begun["execution_id"]))["state"] == "succeeded"


@asynchronous
async def test_an_anonymous_session_has_no_executions(errands: ServerProcess) -> None:
    async with Client(errands.url) as client:
        calls = (("GET", "/api/executions"), ("GET", "/api/executions/x"), ("DELETE", "/api/executions/x"))
        for method, path in calls:
            problem(await client.request(method, path), 401, "credential-missing")
        problem(await submit(client, "say", text="x"), 401, "credential-missing")
        await client.begin()
        for method, path in calls:
            problem(await client.request(method, path), 403, "login-required")
        problem(await submit(client, "say", text="x"), 403, "login-required")


@pytest.mark.asvs("8.2.2")
@asynchronous
async def test_another_accounts_executions_are_invisible(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        other = await logged_in(errands.url, client.http)
        begun = await accepted(client, "wait", "shared")
        path = f"/api/executions/{begun['execution_id']}"
        for method in ("GET", "DELETE"):
            refused = await other.request(method, path)
            problem(refused, 404, "not-found")
            assert refused.content == (await other.request(method, "/api/executions/exe_none")).content
        assert await executions(other) == []
        assert (await accepted(other, "say", "shared", text="x"))["execution_id"] != begun["execution_id"]
        assert (await execution_of(client, begun["execution_id"]))["state"] in {"accepted", "running"}
        await client.request("DELETE", path)


@asynchronous
async def test_an_accounts_sessions_share_its_executions(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        elsewhere = client.sibling()
        await elsewhere.log_in(client.email)
        begun = await accepted(client, "wait", "theirs")
        assert (await submit(elsewhere, "wait", "theirs")).json()["execution_id"] == begun["execution_id"]
        cancelled = await elsewhere.request("DELETE", f"/api/executions/{begun['execution_id']}")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")


@asynchronous
async def test_executions_are_listed_in_pages_newest_first(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        begun = [(await accepted(client, "say", f"page {n}", text="x"))["execution_id"] for n in range(5)]
        for each in begun:
            await outcome(client, each)
        whole = await executions(client)
        assert sorted(each["execution_id"] for each in whole) == sorted(begun)
        assert [each["accepted_at"] for each in whole] == sorted((each["accepted_at"] for each in whole), reverse=True)
        assert all(each["state"] == "succeeded" and "result" not in each for each in whole)
        found, path = [], "/api/executions?limit=2"
        while path:
            answer = (await client.request("GET", path)).raise_for_status()
            assert len(answer.json()) <= 2
            found += answer.json()
            path = answer.links.get("next", {}).get("url", "")
        assert found == whole
        for query in ("state=running", "limit=0", "limit=101", "after=x"):
            problem(await client.request("GET", f"/api/executions?{query}"), 400, "bad-request")


@asynchronous
async def test_a_cancelled_execution_has_ended_when_the_answer_comes(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        begun = await accepted(client, "wait")
        path = f"/api/executions/{begun['execution_id']}"
        await state_of(client, begun["execution_id"], "running")
        answers = [await client.request("DELETE", path) for _ in range(2)]
        for answer in answers:
            assert answer.status_code == 200
            assert (answer.json()["state"], answer.json()["reason"]) == ("cancelled", "asked")
        assert answers[0].json() == answers[1].json() == await execution_of(client, begun["execution_id"])
        assert of_execution(errands, begun["execution_id"]) == ["accept", "start", "cancel"]


@asynchronous
async def test_a_cancel_comes_too_late_for_an_outcome(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        ended = await outcome(client, (await accepted(client, "say", text="x"))["execution_id"])
        answer = await client.request("DELETE", f"/api/executions/{ended['execution_id']}")
        assert (answer.status_code, answer.json()) == (200, ended)


@asynchronous
async def test_a_failed_execution_says_why_without_the_realms_secrets(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        ended = await outcome(client, (await accepted(client, "fail"))["execution_id"])
        assert (ended["state"], ended["reason"]) == ("failed", "error")
        assert "result" not in ended
        assert "secret" not in json.dumps(ended)


@pytest.mark.asvs("16.2.5")
@asynchronous
async def test_no_parameter_result_or_error_is_in_the_servers_own_files(errands: ServerProcess) -> None:
    async with await logged_in(errands.url) as client:
        canary = f"canary-{uuid4()}"
        ended = await outcome(client, (await accepted(client, "say", text=canary))["execution_id"])
        assert ended["result"]["text"] == canary
        wrongs: tuple[dict[str, Any], ...] = ({"text": 1, "times": canary}, {"text": "x", canary: 1})
        for wrong in wrongs:
            problem(await submit(client, "say", **wrong), 400, "parameters-refused")
        problem(await submit(client, canary), 404, "intent-unknown")
        assert errands.log_path.read_text()
        for path in (errands.log_path, errands.trace):
            assert canary not in path.read_text()
        assert canary not in json.dumps(records(errands.data))


async def executions(client: Client) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await client.request("GET", "/api/executions")).raise_for_status().json()
    return listed
