"""Sessions that end in each way while they submit intents over several sockets and over HTTP, to realms here and elsewhere."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import websockets

from interlock.server.guard.realm_secrets import RealmSecrets
from tests.support.admin import Admin, subject_of
from tests.support.client import PASSWORD, Client, closed, new_email
from tests.support.intents import outcome, submitted
from tests.support.raw_websocket import CLOSE, TEXT
from tests.support.recorded import Recorded
from tests.support.scripted import Exchange, Scripted, scripted
from tests.support.server import ServerProcess, running_server
from tests.support.tallies import EFFECTS, REALM

ROOM: Final = {"executions_per_account": 100_000, "executions_per_session": 100_000, "executions_per_realm": 100_000}
_HOLD: Final = """
name = "far"
url = "{url}"
[intents."far.hold"]
effects = "idempotent"
timeout_s = 600
[intents."far.hold".parameters]
type = "object"
additionalProperties = false
[intents."far.hold".result]
type = "object"
"""


class Holding:
    """A remote realm that answers nothing, and counts the calls that the server has hung up on."""

    def __init__(self) -> None:
        self.hung_up = 0

    async def step(self, exchange: Exchange) -> None:
        try:
            await exchange.closed_by_peer()
        finally:
            self.hung_up += 1


@asynccontextmanager
async def with_remote_realm(data: Path, holding: Holding) -> AsyncIterator[tuple[ServerProcess, Scripted]]:
    """Run a server with a realm of each kind."""
    async with scripted(holding.step) as far:
        declaration = data.parent / "far.toml"
        declaration.write_text(_HOLD.format(url=far.url))
        realms = f"{REALM},{declaration}"
        with running_server(data, realm=realms, outgoing_networks="127.0.0.0/8,::1", **ROOM) as server:
            RealmSecrets(data / "keys").create("far", 1)
            yield server, far


async def end(way: str, home: Client, tab: Client, admin: Admin) -> None:
    """End the session of ``tab``."""
    match way:
        case "revoked":
            answer = await home.request("DELETE", f"/api/sessions/{tab.session_id}")
        case "logout":
            answer = await tab.request("POST", "/api/auth/logout")
        case "password":
            body = {"current_password": PASSWORD, "new_password": PASSWORD[::-1]}
            answer = await home.request("POST", "/api/auth/password", json=body)
        case _:
            answer = await admin.http.post(f"/accounts/{await subject_of(home)}/disable")
    assert answer.is_success, answer.text


class Race:
    """A session that submits intents over three sockets and over HTTP while it ends. ``heard``: all messages of its sockets."""

    def __init__(self, way: str, seed: int, server: Client, admin: Admin) -> None:
        self.way = way
        self.heard: list[dict[str, Any]] = []
        self.over_http: Counter[int] = Counter()
        self._chance = random.Random(seed)  # noqa: S311  # a schedule, not a secret
        self._server = server
        self._admin = admin

    async def run(self) -> None:
        home, tab = self._server.sibling(), self._server.sibling()
        (await home.register(email := new_email())).raise_for_status()
        for each in (home, tab):
            (await each.log_in(email)).raise_for_status()
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(tab.connect(create_connection=Recorded, close_timeout=60))
                for _ in range(3)
            ]
            submitting = [self._over_socket(socket) for socket in (*sockets, *sockets)]
            await asyncio.gather(*submitting, self._over_http(tab), self._end(home, tab))
            for socket in sockets:
                assert (await closed(socket))[0] == 4403
                await socket.wait_closed()
                self._check(socket)

    def _check(self, socket: Any) -> None:
        *before, last = socket.frames()
        assert last[0] == CLOSE, "nothing follows the close frame"
        assert CLOSE not in {opcode for opcode, _ in before}
        heard = [json.loads(payload) for opcode, payload in before if opcode == TEXT]
        ends = [at for at, each in enumerate(heard) if each.get("target") == "expired"]
        assert not ends or ends == [len(heard) - 1], "nothing but the close follows the end of the session"
        self.heard += heard

    def _intent(self) -> str:
        return self._chance.choice(["tallies.wait", "far.hold", f"tallies.{self._chance.choice(EFFECTS)}"])

    async def _over_socket(self, socket: Any) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.03))
        message = {"type": "intent", "id": str(uuid4()), "name": self._intent(), "parameters": {}}
        with suppress(websockets.ConnectionClosed):
            await socket.send(json.dumps(message))

    async def _over_http(self, tab: Client) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.03))
        self.over_http[(await submitted(tab, self._intent(), str(uuid4()))).status_code] += 1

    async def _end(self, home: Client, tab: Client) -> None:
        await asyncio.sleep(self._chance.uniform(0, self._chance.choice([0.04, 0.2])))
        if self._chance.random() < 0.15:
            first = await submitted(tab, "tallies.once")
            await outcome(tab, first.json()["execution_id"])
        await end(self.way, home, tab, self._admin)
        late = await submitted(tab, "tallies.wait", str(uuid4()))
        assert late.status_code == 401, "accepted after the end was acknowledged"
        async with tab.connect() as socket:
            assert (await closed(socket))[0] == 4403


def fences(log: list[dict[str, Any]]) -> dict[str, int]:
    """Return the position in the log from which each session has no authority: its own end, or its account's loss."""
    lost = {each["instance_id"]: each["position"] for each in log if each["event"] in {"disable", "change_password"}}
    subjects = {each["instance_id"]: each["data"]["subject"] for each in log if each["event"] == "authenticate"}
    return {
        each["instance_id"]: min(each["position"], lost.get(subjects[each["instance_id"]], each["position"]))
        for each in log
        if each["target"] == "expired"
    }
