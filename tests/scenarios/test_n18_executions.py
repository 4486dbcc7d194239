"""N18: an accepted intent has exactly one outcome, after any crash; and none is accepted or goes on after a revocation."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from interlock.machine.execution.execution import MAX_ATTEMPTS
from tests.support.client import Client, logged_in, new_email
from tests.support.effort import often
from tests.support.intents import ENDED, outcome, submitted
from tests.support.log import executions, records, verify
from tests.support.running import eventually, run, scenario
from tests.support.server import running_server
from tests.support.tallies import EFFECTS, REALM, effects

KILLS = often(8, 200)
"""How often the server is killed."""

RACES = often(200, 5_000)
"""How many sessions are revoked while they submit intents."""


async def _submit(client: Client, name: str, intent_id: str) -> httpx.Response:
    return await submitted(client, f"tallies.{name}", intent_id)


class Load:
    """A client that submits intents under new ids until it is stopped. ``asked`` maps each id to its intent's effects.

    ``acknowledged`` maps the id of each intent whose acceptance the server has acknowledged to the execution's id.
    """

    def __init__(self, client: Client, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)  # noqa: S311  # a schedule, not a secret
        self.asked: dict[str, str] = {}
        self.acknowledged: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Submit until ``stop``, or until the server is gone."""
        while not stop.is_set():
            intent_id, kind = str(uuid4()), self._random.choice(EFFECTS)
            self.asked[intent_id] = kind
            if not await self.send(intent_id):
                return

    async def send(self, intent_id: str) -> bool:
        """Submit one intent, also again. Return whether the server answered."""
        try:
            answer = await _submit(self._client, self.asked[intent_id], intent_id)
        except (httpx.TransportError, AttributeError):
            # The second from uvloop, about a connection that was cut while it was made.
            return False
        assert answer.status_code in {200, 202}, answer.text
        execution_id = answer.json()["execution_id"]
        assert self.acknowledged.setdefault(intent_id, execution_id) == execution_id
        return True


@pytest.mark.checks("one_outcome", "accepted_once")
@pytest.mark.slow
def test_n18_kills_leave_each_accepted_intent_one_outcome(data: Path, tallies: Path) -> None:
    """kill -9 under load of all three effects: one outcome each, and as many effects as the declaration promises."""
    chance = random.Random(18)  # noqa: S311  # a schedule, not a secret

    with running_server(data, realm=REALM, executions_per_account=10_000, executions_per_session=10_000) as server:

        async def main() -> tuple[dict[str, str], dict[str, str]]:
            async with await logged_in(server.url) as client:
                asked: dict[str, str] = {}
                acknowledged: dict[str, str] = {}
                for turn in range(KILLS):
                    stop = asyncio.Event()
                    loads = [Load(client, turn * 10 + number) for number in range(4)]
                    running = [asyncio.create_task(load.run(stop)) for load in loads]
                    await asyncio.sleep(chance.uniform(0.05, 0.4))
                    await asyncio.to_thread(server.kill)
                    stop.set()
                    await asyncio.gather(*running)
                    await asyncio.to_thread(server.start)
                    # Many kills take longer than an access token lasts.
                    await client.refresh()
                    for load in loads:
                        # A client that did not hear an answer asks again, under the same id.
                        for intent_id in load.asked:
                            assert await load.send(intent_id)
                        asked |= load.asked
                        acknowledged |= load.acknowledged
                for execution_id in acknowledged.values():
                    await outcome(client, execution_id)
                return asked, acknowledged

        asked, acknowledged = run(main(), often(300, 3_000))
    verify(data)
    by_execution = executions(data)
    assert set(by_execution) == set(acknowledged.values()), "an intent was accepted twice, or not at all"
    had = effects(tallies)
    ends: Counter[tuple[str, str, int]] = Counter()
    for intent_id, execution_id in acknowledged.items():
        history, kind = by_execution[execution_id], asked[intent_id]
        assert [each["event"] for each in history].count("accept") == 1
        assert sum(each["target"] in ENDED for each in history) == 1
        end, attempts, effect = history[-1], _attempts(history), had[execution_id]
        if kind == "once":
            assert attempts <= 1
            assert effect.total() == 1 if end["target"] == "succeeded" else effect.total() <= 1
        elif end["target"] == "failed":
            assert (attempts, end["data"]["reason"]) == (MAX_ATTEMPTS, "interrupted")
            assert max(effect.values(), default=0) <= (kind == "idempotent")
        elif kind == "idempotent":
            assert end["target"] == "succeeded"
            assert effect[attempts] == 1
            assert max(effect.values()) == 1, "an attempt ran twice"
        else:
            assert (end["target"], effect.total()) == ("succeeded", 1)
        ends[kind, end["target"], attempts] += 1
    print(f"{KILLS} kills, {len(acknowledged)} intents: {dict(ends)}")  # noqa: T201  # a figure, for pytest -rP


@pytest.mark.checks("no_execution_after_fence")
@pytest.mark.slow
@pytest.mark.usefixtures("tallies")
@scenario()
async def test_n13_a_revocation_racing_intents_is_a_fence(data: Path) -> None:
    """In each race, a session submits intents while it is revoked: none is accepted later, and none goes on."""
    chance = random.Random(13)  # noqa: S311  # a schedule, not a secret
    refused: Counter[str] = Counter()
    settings = {"executions_per_account": 100_000, "executions_per_realm": 100_000}
    with running_server(data, realm=REALM, argon2_queue=1000, **settings) as server:
        async with Client(server.url) as client:
            emails = [new_email() for _ in range(20)]
            await asyncio.gather(*map(client.register, emails))

            async def submit(tab: Client, delay_s: float, name: str) -> None:
                await asyncio.sleep(delay_s)
                answer = await _submit(tab, name, str(uuid4()))
                refused["accepted" if answer.is_success else answer.json()["type"]] += 1
                assert answer.status_code in {202, 401}, answer.text

            async def revoke(home: Client, tab: Client, delay_s: float) -> None:
                await asyncio.sleep(delay_s)
                assert (await home.request("DELETE", f"/api/sessions/{tab.session_id}")).status_code == 204
                late = await _submit(tab, "wait", str(uuid4()))
                assert late.status_code == 401, "accepted after the revocation was acknowledged"

            async def races(email: str, count: int) -> None:
                home = client.sibling()
                await home.log_in(email)
                for _ in range(count):
                    tab = client.sibling()
                    await tab.log_in(email)
                    names = ["wait", chance.choice(EFFECTS), "stubborn" if chance.random() < 0.05 else "wait"]
                    await asyncio.gather(
                        *(submit(tab, chance.uniform(0, 0.02), name) for name in names),
                        revoke(home, tab, chance.uniform(0, 0.03)),
                    )

            await asyncio.gather(*(races(email, RACES // len(emails)) for email in emails))

            def over() -> dict[str, list[dict[str, Any]]] | None:
                found = executions(data)
                return found if all(history[-1]["target"] in ENDED for history in found.values()) else None

            by_execution = await eventually(over, within_s=120)
    verify(data)
    ends = {each["instance_id"]: each for each in records(data) if each["target"] == "expired"}
    stubborn = 0
    for history in by_execution.values():
        accept = history[0]
        end = ends[accept["data"]["session_id"]]
        assert accept["position"] < end["position"]
        assert all(each["position"] < end["position"] for each in history if each["event"] == "start")
        if accept["data"]["intent"] in {"tallies.wait", "tallies.stubborn"}:
            assert (history[-1]["event"], history[-1]["data"]["reason"]) == ("cancel", "session_ended")
        stubborn += accept["data"]["intent"] == "tallies.stubborn"
    assert refused["accepted"] == len(by_execution) > 0
    assert stubborn > 0
    assert len(refused) > 1, "no race was lost"
    print(f"{RACES} races: {dict(refused)}")  # noqa: T201  # a figure, for pytest -rP


@pytest.mark.checks("accepted_once")
@pytest.mark.slow
@pytest.mark.usefixtures("tallies")
@scenario()
async def test_n18_one_id_from_16_clients_and_a_kill_is_one_execution(data: Path) -> None:
    """16 clients submit the same id at once; the server is killed in the middle; all ask again."""
    with running_server(data, realm=REALM) as server:
        async with await logged_in(server.url) as client:
            for turn in range(5):
                load = [Load(client, 0) for _ in range(16)]
                for each in load:
                    each.asked["the same " + str(turn)] = "idempotent"
                sending = [asyncio.create_task(each.send("the same " + str(turn))) for each in load]
                await asyncio.sleep(turn * 0.01)
                await asyncio.to_thread(server.kill)
                await asyncio.gather(*sending)
                await asyncio.to_thread(server.start)
                assert all(await asyncio.gather(*(each.send("the same " + str(turn)) for each in load)))
                assert len({execution_id for each in load for execution_id in each.acknowledged.values()}) == 1
    accepted = [each for each in records(data) if each["event"] == "accept"]
    assert len(accepted) == 5
    verify(data)


def _attempts(history: list[dict[str, Any]]) -> int:
    return sum(each["event"] == "start" for each in history)
