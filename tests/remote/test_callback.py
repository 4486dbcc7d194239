"""The callback of remote realms, ``POST /api/realms/{realm}/outcomes``, on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from interlock.server.clock import SystemClock
from interlock.server.guard.realm_secrets import RealmSecrets
from interlock.server.outgoing.signatures import new_signing_secret, signed_headers
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, logged_in
from tests.support.intents import outcome, state_of
from tests.support.log import records, verify
from tests.support.metrics import Scrape, metrics_url
from tests.support.scripted import Scripted, Step, answer, scripted
from tests.support.server import ServerProcess, running_server

DECLARATION = """
name = "billing"
url = "{url}"
[intents."billing.charge"]
effects = "{effects}"
on_session_end = "{on_session_end}"
[intents."billing.charge".parameters]
type = "object"
additionalProperties = false
[intents."billing.charge".result]
type = "object"
"""
TOO_LATE = (409, "outcome-too-late")
UNSIGNED = (401, "signature-invalid")


class Callback(NamedTuple):
    server: ServerProcess
    realm: Scripted
    client: Client
    secret: str

    async def begun(self) -> str:
        """Submit an intent, and return its execution id once the realm has been called."""
        body = {"id": str(uuid4()), "name": "billing.charge", "parameters": {}}
        execution_id = str((await self.client.request("POST", "/api/intents", json=body)).json()["execution_id"])
        await self.realm.wait(1)
        await state_of(self.client, execution_id, "running")
        return execution_id

    async def report(  # each by name
        self, execution_id: str, body: Any, *, secret: str = "", at_s: int = 0, realm: str = "billing"
    ) -> tuple[int, str]:
        """Report as the realm does. Return the status, and the state or the problem."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        now_ms = SystemClock().now_ms() + at_s * 1000
        headers = signed_headers([secret or self.secret], execution_id, content, now_ms)
        said = await self.client.http.post(f"/api/realms/{realm}/outcomes", content=content, headers=headers)
        return said.status_code, said.json().get("state") or said.json()["type"].rpartition(":")[2]


@asynccontextmanager
async def callback(
    folder: Path, *steps: Step, effects: str = "once", on_session_end: str = "cancel"
) -> AsyncIterator[Callback]:
    async with scripted(*(steps or (answer(202),))) as realm:
        declaration = folder / "billing.toml"
        declaration.write_text(DECLARATION.format(url=realm.url, effects=effects, on_session_end=on_session_end))
        settings = {"realm": declaration, "outgoing_networks": "127.0.0.0/8,::1", "metrics_port": 0, "log_json": True}
        with running_server(folder / "data", **settings) as server:
            secret = RealmSecrets(server.data / "keys").create("billing", 1)
            async with await logged_in(server.url) as client:
                yield Callback(server, realm, client, secret)
    verify(folder / "data")


async def counted_callbacks(calls: Callback) -> dict[str, float]:
    """Return the number of callbacks, by result."""
    scraped = await calls.client.http.get(metrics_url(calls.server))
    return Scrape(scraped.text).by("interlock_remote_callbacks_total", "result")


@asynchronous
async def test_a_reported_outcome_is_recorded_before_it_is_acknowledged(tmp_path: Path) -> None:
    async with callback(tmp_path) as calls:
        for body, state, key, value in [
            ({"attempt": 1, "result": {"n": 1.5}}, "succeeded", "result", {"n": 1.5}),
            ({"attempt": 1, "error": "no funds"}, "failed", "error", "no funds"),
        ]:
            execution_id = await calls.begun()
            assert await calls.report(execution_id, body) == (200, state)
            events = [each["event"] for each in records(calls.server.data) if each["instance_id"] == execution_id]
            assert events == ["accept", "start", "succeed" if state == "succeeded" else "fail"]
            assert (await outcome(calls.client, execution_id))[key] == value
            # A repeat, as after a lost answer, changes nothing; another outcome is refused.
            assert await calls.report(execution_id, body) == (200, state)
            assert await calls.report(execution_id, {"attempt": 1, "error": "other"}) == TOO_LATE
            assert await calls.report(execution_id, {"attempt": 2, key: value}) == TOO_LATE
        counted = await counted_callbacks(calls)
        assert counted == {"taken": 2, "repeated": 2, "late": 4}


@asynchronous
async def test_a_result_that_does_not_fit_its_schema_fails_the_execution(tmp_path: Path) -> None:
    async with callback(tmp_path) as calls:
        execution_id = await calls.begun()
        assert await calls.report(execution_id, {"attempt": 1, "result": 5}) == (200, "failed")
        ended = await outcome(calls.client, execution_id)
        assert ended["error"].startswith("the result does not fit its declared schema")


@asynchronous
async def test_a_report_that_is_not_signed_by_its_realm_is_refused(tmp_path: Path) -> None:
    async with callback(tmp_path) as calls:
        execution_id, body = await calls.begun(), {"attempt": 1, "result": {}}
        other = RealmSecrets(calls.server.data / "keys").create("shop", 1)
        for about in (
            {"secret": new_signing_secret()},
            {"secret": other},
            {"at_s": -301},
            {"at_s": 302},
            {"realm": "shop", "secret": other},
            {"realm": "nobody"},
        ):
            assert await calls.report(execution_id, body, **about) == UNSIGNED, about
        bare = await calls.client.http.post("/api/realms/billing/outcomes", json=body)
        assert (bare.status_code, bare.headers["www-authenticate"].partition(" ")[0]) == (401, "Bearer")
        assert await calls.report("exe_nobody", body) == (404, "not-found")
        # Not those of a realm that there is not.
        assert await counted_callbacks(calls) == {"unsigned": 5}
        assert await calls.report(execution_id, body) == (200, "succeeded")


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"{}",
        b"{",
        {"attempt": 1},
        {"attempt": 1, "result": {}, "error": "x"},
        {"attempt": "1", "result": {}},
        {"attempt": 0, "result": {}},
        {"attempt": 1, "error": None},
        {"attempt": 1, "error": "x" * 1001},
        {"attempt": 1, "result": {}, "more": 1},
        b'{"attempt": 1, "result": 1e999}',
        b'{"attempt": 1, "result": {"a": 1, "a": 2}}',
    ],
)
def test_a_malformed_report_changes_nothing(body: Any, shared: Callback) -> None:
    @asynchronous
    async def check() -> None:
        async with Client(shared.server.url) as client:
            calls = shared._replace(client=client)
            assert await calls.report("exe_nobody", body) == (400, "bad-request")

    check()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("callback")
    declaration = folder / "billing.toml"
    declaration.write_text(
        DECLARATION.format(url="https://billing.example.org/", effects="once", on_session_end="cancel")
    )
    with running_server(folder / "data", realm=declaration) as server:
        secret = RealmSecrets(server.data / "keys").create("billing", 1)
        yield Callback(server, Scripted("", []), Client(server.url), secret)


@asynchronous
async def test_an_outcome_after_the_end_of_the_session_is_refused(tmp_path: Path) -> None:
    async with callback(tmp_path) as calls:
        execution_id = await calls.begun()
        (await calls.client.request("POST", "/api/auth/logout")).raise_for_status()
        assert await calls.report(execution_id, {"attempt": 1, "result": {}}) == TOO_LATE


@asynchronous
async def test_an_intent_that_may_finish_gets_its_outcome_after_the_session_has_ended(tmp_path: Path) -> None:
    async with callback(tmp_path, on_session_end="finish") as calls:
        execution_id = await calls.begun()
        (await calls.client.request("POST", "/api/auth/logout")).raise_for_status()
        assert await calls.report(execution_id, {"attempt": 1, "result": {}}) == (200, "succeeded")


@asynchronous
async def test_after_a_crash_an_outcome_of_the_lost_attempt_is_refused(tmp_path: Path) -> None:
    async with callback(tmp_path, effects="once") as calls:
        execution_id = await calls.begun()
        calls.server.kill()
        calls.server.start()
        ended = await outcome(calls.client, execution_id)
        assert (ended["state"], ended["reason"]) == ("failed", "interrupted")
        assert await calls.report(execution_id, {"attempt": 1, "result": {}}) == TOO_LATE
        assert len(calls.realm.received) == 1, "an intent with effects once is not posted again"


@asynchronous
async def test_after_a_crash_an_idempotent_intent_is_posted_again(tmp_path: Path) -> None:
    async with callback(tmp_path, effects="idempotent") as calls:
        execution_id = await calls.begun()
        calls.server.kill()
        calls.server.start()
        again = await calls.realm.wait(2)
        assert (again.headers["webhook-id"], again.json["attempt"]) == (execution_id, 2)
        assert await calls.report(execution_id, {"attempt": 1, "result": {}}) == TOO_LATE
        assert await calls.report(execution_id, {"attempt": 2, "result": {}}) == (200, "succeeded")
