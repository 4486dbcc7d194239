"""Intents over a WebSocket: accepted or refused, their progress, and one outcome that every connection hears."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import Client, logged_in
from tests.support.following import Follower
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server
from tests.support.talkers import REALM


@scenario()
async def test_an_intent_is_accepted_progresses_and_has_one_outcome(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, Follower().connected(client) as tab:
        execution_id = await tab.accepted("count", to=30, pause_s=0.01)
        outcome = await tab.outcome(execution_id)
        assert (outcome["state"], outcome["result"]) == ("succeeded", {"last": 30})
        assert tab.values == list(range(1, 31))
        assert tab.kinds(execution_id) == ["accepted", "progress", "outcome"]
        assert len(tab.heard) < 32, "values are collected"
        shown = (await client.request("GET", f"/api/executions/{execution_id}")).json()
        assert (shown["state"], shown["receipt"]) == ("succeeded", outcome["receipt"])


@pytest.mark.checks("outcome_reaches_client")
@scenario()
async def test_all_connections_hear_the_stream_and_a_new_one_what_follows(server: ServerProcess) -> None:
    async with (
        await logged_in(server.url) as client,
        Follower().connected(client) as first,
        Follower().connected(client) as second,
    ):
        execution_id = await first.accepted("wait")
        await second.until(lambda: second.values)
        async with Follower().connected(client) as third:
            await third.send({"type": "cancel", "execution_id": execution_id})
            for tab in (first, second, third):
                outcome = await tab.outcome(execution_id)
                assert (outcome["state"], outcome["reason"]) == ("cancelled", "asked")
            assert first.heard == second.heard
            assert [each["type"] for each in third.heard] == ["outcome"]


@scenario()
async def test_an_intent_over_http_is_heard_on_the_sockets(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, Follower().connected(client) as tab:
        body = {"id": "over http", "name": "talk.count", "parameters": {"to": 3}}
        answer = await client.request("POST", "/api/intents", json=body)
        execution_id = answer.raise_for_status().json()["execution_id"]
        assert (await tab.outcome(execution_id))["intent_id"] == "over http"
        accepted = tab.of("accepted")
        assert accepted is not None
        assert accepted["receipt"] == answer.json()["receipt"]


@pytest.mark.parametrize(
    ("name", "parameters", "problem", "status"),
    [
        ("unknown", {}, "intent-unknown", 404),
        ("count", {"to": "many"}, "parameters-refused", 400),
        ("count", {"secret": 1}, "parameters-refused", 400),
        ("staff", {}, "role-missing", 403),
    ],
    ids=["unknown intent", "wrong parameter", "unknown parameter", "missing role"],
)
@scenario()
async def test_a_refused_intent_has_the_problem_that_http_answers(
    server: ServerProcess, name: str, parameters: dict[str, Any], problem: str, status: int
) -> None:
    async with (
        await logged_in(server.url) as client,
        Follower().connected(client) as tab,
        Follower().connected(client) as other,
    ):
        intent_id = await tab.intent(name, **parameters)
        refused = await tab.answer("refused")
        body = {"id": intent_id, "name": f"talk.{name}", "parameters": parameters}
        answer = await client.request("POST", "/api/intents", json=body)
        assert answer.status_code == status
        assert refused == {"type": "refused", "intent_id": intent_id, "problem": answer.json()}
        assert refused["problem"]["type"].endswith(problem)
        # The connections go on; the other has heard nothing of it.
        await tab.outcome(await tab.accepted("count"))
        await other.until(lambda: other.of("outcome"))
        assert [each["offset"] for each in other.heard] == [1, 2]
        assert other.answers == []


@scenario()
async def test_a_repeated_intent_is_the_same_execution_and_executes_once(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, Follower().connected(client) as tab:
        first = await tab.accepted("count", intent_id="again", to=3)
        await tab.outcome(first)
        await tab.intent("count", "again", to=3)
        await tab.until(lambda: len([each for each in tab.heard if each["type"] == "outcome"]) == 2)
        assert tab.kinds(first) == ["accepted", "progress", "outcome", "accepted", "outcome"]
        assert tab.values == [1, 2, 3]
        await tab.intent("count", "again", to=4)
        assert (await tab.answer("refused"))["problem"]["type"].endswith("intent-reused")


@pytest.mark.checks("outcome_reaches_client")
@scenario()
async def test_a_repeat_from_another_session_of_the_account_hears_the_outcome(server: ServerProcess) -> None:
    async with (
        await logged_in(server.url) as client,
        await another_session(client) as elsewhere,
        Follower().connected(client) as mine,
        Follower().connected(elsewhere) as theirs,
    ):
        execution_id = await mine.accepted("wait", intent_id="shared")
        await mine.until(lambda: mine.values)
        await theirs.accepted("wait", intent_id="shared")
        await theirs.send({"type": "cancel", "execution_id": execution_id})
        for tab in (mine, theirs):
            assert (await tab.outcome(execution_id))["state"] == "cancelled"
        assert theirs.kinds(execution_id) == ["accepted", "outcome"]


@scenario()
async def test_a_cancel_of_an_unknown_or_foreign_execution_is_refused(server: ServerProcess) -> None:
    async with (
        await logged_in(server.url) as ada,
        await logged_in(server.url) as bob,
        Follower().connected(ada) as hers,
        Follower().connected(bob) as his,
    ):
        execution_id = await hers.accepted("wait")
        for name in (execution_id, "exe_unknown"):
            await his.send({"type": "cancel", "execution_id": name})
            refused = await his.answer("refused")
            assert refused["execution_id"] == name
            assert (refused["problem"]["type"], refused["problem"]["status"]) == (
                "urn:interlock:problem:not-found",
                404,
            )
        await hers.send({"type": "cancel", "execution_id": execution_id})
        await hers.outcome(execution_id)


@scenario()
async def test_a_cancel_of_an_ended_execution_is_answered_by_its_outcome(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, Follower().connected(client) as tab:
        execution_id = await tab.accepted("count")
        await tab.outcome(execution_id)
        await tab.send({"type": "cancel", "execution_id": execution_id})
        await tab.until(lambda: len(tab.heard) == 3)
        assert [each.get("state") for each in tab.heard] == [None, "succeeded", "succeeded"]


@scenario()
async def test_an_intent_counts_as_activity_of_its_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("active") / "data"
    with running_server(data, realm=REALM, idle_timeout_s=3) as server:
        async with await logged_in(server.url) as client, Follower().connected(client) as tab:

            async def touched() -> bool:
                await tab.accepted("count")
                return any(each["event"] == "touch" for each in tab.answers if each["type"] == "transition")

            await eventually(touched)


async def another_session(client: Client) -> Client:
    """Return a client with another session of the same account."""
    other = Client(client.url)
    (await other.log_in(client.email)).raise_for_status()
    return other
