"""What intents count for: the rate of their account, the executions without an outcome, and activity."""

from __future__ import annotations

from pathlib import Path

from tests.support.admin import problem
from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.errands import REALM
from tests.support.intents import accepted, submit
from tests.support.log import records
from tests.support.running import eventually
from tests.support.server import running_server


@asynchronous
async def test_an_accounts_intents_are_limited_by_rate(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, limit_intent="3/1h") as server:
        async with await logged_in(server.url) as client:
            for _ in range(3):
                assert (await submit(client, "say", "repeated", text="x")).status_code in {200, 202}
            answer = await submit(client, "say", text="x")
            refused = problem(answer, 429, "rate-limited")
            assert (refused["recovery"], int(answer.headers["retry-after"])) > ("retry_later", 1000)
            assert len((await client.request("GET", "/api/executions")).json()) == 1
            other = await logged_in(server.url, client.http)
            assert (await submit(other, "say", text="x")).status_code == 202, "another account's limit is its own"


@asynchronous
async def test_an_intent_beyond_the_limit_is_accepted_later(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, executions_per_session=2) as server:
        async with await logged_in(server.url) as client:
            first, _ = [await accepted(client, "wait") for _ in range(2)]
            answer = await submit(client, "say", "third", text="x")
            refused = problem(answer, 429, "too-many-executions")
            assert refused["recovery"] == "retry_later"
            assert int(answer.headers["retry-after"]) >= 1
            assert (await submit(client, "wait", first["intent_id"])).status_code == 200, "a repeat takes no place"
            await client.request("DELETE", f"/api/executions/{first['execution_id']}")
            await accepted(client, "say", "third", text="x")


@asynchronous
async def test_intents_count_as_activity(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, idle_timeout_s=10) as server:
        async with await logged_in(server.url) as client:

            async def touched() -> bool:
                await accepted(client, "say", text="x")
                return "touch" in [each["event"] for each in records(server.data)]

            await eventually(touched)
