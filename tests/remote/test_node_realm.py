"""A realm in Node, as the how-to page shows it, called by a real server: over revocations, crashes and new secrets."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from interlock.server.clock import SystemClock
from interlock.server.guard.realm_secrets import RealmSecrets
from interlock.server.outgoing.signatures import signed_headers
from tests.support.asynchronous import LIMIT_S, asynchronous
from tests.support.client import Client, logged_in
from tests.support.intents import execution_of, outcome
from tests.support.log import interlock, verify
from tests.support.ports import KeptPort
from tests.support.server import ServerProcess, running_server

JAVASCRIPT = Path(__file__).parents[1] / "javascript"
PAGE_URL = "http://127.0.0.1:8720"


class NodeRealm:
    """The realm's process, and the lines that it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.events.append(json.loads(line))
            self._more.set()

    async def wait(self, event: str, **about: Any) -> dict[str, Any]:
        """Wait until the realm has logged ``event``, and return the line."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                for each in self.events:
                    if each["event"] == event and each.items() >= about.items():
                        return each
                self._more.clear()
                await self._more.wait()

    def count(self, execution_id: str) -> Counter[str]:
        return Counter(each["event"] for each in self.events if each.get("id") == execution_id)

    async def stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading


@asynccontextmanager
async def node_realm(port: KeptPort, server: ServerProcess, *secrets: str) -> AsyncIterator[NodeRealm]:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(JAVASCRIPT / "realm.mjs"),
        str(port.number),
        server.url,
        env={**os.environ, "REALM_SECRETS": " ".join(secrets)},
        stdout=asyncio.subprocess.PIPE,
    )
    realm = NodeRealm(process)
    try:
        await realm.wait("listening")
        yield realm
    finally:
        await realm.stop()


@asynccontextmanager
async def billing(folder: Path) -> AsyncIterator[tuple[ServerProcess, NodeRealm]]:
    """Run a server and the realm, with a secret made while the server runs."""
    port = KeptPort()
    declaration = folder / "billing.toml"
    declaration.write_text(
        (JAVASCRIPT / "billing.toml").read_text().replace(PAGE_URL, f"http://127.0.0.1:{port.number}")
    )
    with running_server(folder / "data", realm=declaration, outgoing_networks="127.0.0.0/8") as server:
        made = interlock("realm-secrets", "add", "billing", "--data", server.data)
        assert made.returncode == 0, made.stderr
        async with node_realm(port, server, made.stdout.strip()) as realm:
            yield server, realm
    verify(folder / "data")


async def submit(client: Client, name: str, **parameters: Any) -> str:
    """Submit an intent, and return the id of its execution."""
    body = {"id": str(uuid4()), "name": name, "parameters": parameters}
    answer = await client.request("POST", "/api/intents", json=body)
    assert answer.status_code == 202, answer.text
    execution_id: str = answer.json()["execution_id"]
    return execution_id


@asynchronous
async def test_an_intent_is_done_by_a_realm_in_node(tmp_path: Path) -> None:
    async with billing(tmp_path) as (server, realm), await logged_in(server.url) as client:
        charged = await outcome(client, execution_id := await submit(client, "billing.charge", cents=500))
        payer = (await client.session())["subject"]
        assert (charged["state"], charged["result"]) == (
            "succeeded",
            {"charge": "ch_1", "payer": payer},
        )
        assert realm.count(execution_id) == {"called": 1, "effect": 1}
        refused = await outcome(client, await submit(client, "billing.charge", cents=100_001))
        assert (refused["state"], refused["reason"], refused["error"]) == ("failed", "error", "the limit is 1000 euros")
        body = {"id": "x", "name": "billing.charge", "parameters": {"cents": 0}}
        wrong = await client.request("POST", "/api/intents", json=body)
        assert (wrong.status_code, wrong.json()["type"]) == (400, "urn:interlock:problem:parameters-refused")
        (secret,) = RealmSecrets(server.data / "keys").texts("billing")
        assert secret.removeprefix("whsec_") not in server.log_path.read_text()


@asynchronous
async def test_a_long_intent_is_reported_by_a_signed_callback(tmp_path: Path) -> None:
    async with billing(tmp_path) as (server, realm), await logged_in(server.url) as client:
        execution_id = await submit(client, "billing.statement", seconds=0.1)
        written = await outcome(client, execution_id)
        assert (written["state"], written["result"]) == ("succeeded", {"pages": 2})
        await realm.wait("reported", id=execution_id, status=200)
        assert realm.count(execution_id) == {"called": 1, "effect": 1, "reported": 1}


@asynchronous
async def test_a_revoked_session_stops_the_realm_and_its_outcome(tmp_path: Path) -> None:
    async with billing(tmp_path) as (server, realm), await logged_in(server.url) as client:
        execution_id = await submit(client, "billing.statement", seconds=3000)
        await realm.wait("called", id=execution_id)
        await client.request("POST", "/api/auth/logout")
        await realm.wait("stopped", id=execution_id)
        assert realm.count(execution_id) == {"called": 1, "cancelled": 1, "stopped": 1}
        again = client.sibling()
        await again.log_in(client.email)
        ended = await outcome(again, execution_id)
        assert (ended["state"], ended["reason"]) == ("cancelled", "session_ended")


@asynchronous
async def test_an_outcome_that_comes_after_a_revocation_is_refused(tmp_path: Path) -> None:
    async with billing(tmp_path) as (server, realm), await logged_in(server.url) as client:
        execution_id = await submit(client, "billing.statement", seconds=3000)
        await realm.wait("called", id=execution_id)
        answer = await client.request("DELETE", f"/api/executions/{execution_id}")
        assert answer.json()["state"] == "cancelled"
        report = {"attempt": 1, "result": {"pages": 2}}
        late = await signed_report(client, server, execution_id, report)
        assert late == (409, "urn:interlock:problem:outcome-too-late")
        assert (await execution_of(client, execution_id))["state"] == "cancelled"


@asynchronous
async def test_a_server_killed_in_the_middle_calls_again_and_the_effect_is_one(tmp_path: Path) -> None:
    async with billing(tmp_path) as (server, realm), await logged_in(server.url) as client:
        execution_id = await submit(client, "billing.statement", seconds=1)
        await realm.wait("called", id=execution_id)
        server.kill()
        # The realm's report finds nobody.
        await realm.wait("unreachable", id=execution_id)
        server.start()
        ended = await outcome(client, execution_id)
        assert (ended["state"], ended["result"], ended["attempt"]) == ("succeeded", {"pages": 2}, 2)
        await realm.wait("called", id=execution_id, attempt=2)
        assert realm.count(execution_id)["effect"] == 1
        assert {each["status"] for each in realm.events if each["event"] == "reported"} <= {200, 409}


@asynchronous
async def test_secrets_are_rotated_beside_a_running_server(tmp_path: Path) -> None:
    port = KeptPort()
    declaration = tmp_path / "billing.toml"
    declaration.write_text(
        (JAVASCRIPT / "billing.toml").read_text().replace(PAGE_URL, f"http://127.0.0.1:{port.number}")
    )
    with running_server(tmp_path / "data", realm=declaration, outgoing_networks="127.0.0.0/8") as server:
        secrets = RealmSecrets(server.data / "keys")
        old = secrets.create("billing", 1)
        async with await logged_in(server.url) as client:

            async def works(*held: str) -> str:
                async with node_realm(port, server, *held) as realm:
                    ended = await outcome(client, execution_id := await submit(client, "billing.statement", seconds=0))
                    if ended["state"] == "succeeded":
                        await realm.wait("reported", id=execution_id, status=200)
                    return str(ended["state"])

            assert await works(old) == "succeeded"
            new = secrets.create("billing", 2)
            # The realm still has only the old one, then both, then only the new one.
            assert [await works(*held) for held in ((old,), (new, old), (new,))] == ["succeeded"] * 3
            secrets.retire("billing")
            assert await works(new) == "succeeded"
            assert await works(old) == "failed"


async def signed_report(
    client: Client, server: ServerProcess, execution_id: str, report: dict[str, Any]
) -> tuple[int, str]:
    """Report an outcome as the realm does. Return the status and the problem."""
    body = json.dumps(report).encode()
    secrets = RealmSecrets(server.data / "keys").texts("billing")
    headers = signed_headers(secrets, execution_id, body, SystemClock().now_ms())
    answer = await client.http.post(f"{server.url}/api/realms/billing/outcomes", content=body, headers=headers)
    return answer.status_code, answer.json().get("type", "")
