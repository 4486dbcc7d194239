"""N13 and N18 over sockets: revocations, kills, broken networks and restarts, with clients that recover as the docs say."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.admin import Admin, admin_token
from tests.support.client import Client, logged_in
from tests.support.effort import often
from tests.support.ending import ROOM, Holding, Race, fences, with_remote_realm
from tests.support.intents import ENDED, outcome, submitted
from tests.support.log import executions, records, verify
from tests.support.recovering import Recovering, what_ended
from tests.support.relay import Relay, relay_to
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server
from tests.support.talkers import REALM as TALKERS
from tests.support.tallies import EFFECTS, effects
from tests.support.tallies import REALM as TALLIES

RACES = often(32, 5_000)
"""How many sessions end while they submit intents over several sockets and over HTTP."""

KILLS = often(3, 30)
"""How often the server is killed while 16 clients submit one id."""

DISTURBANCES = often(2, 40)
"""How often the network of each socket is disturbed."""

RESTARTS = often(3, 20)
"""How often the server stops and starts again while clients submit intents."""


@pytest.mark.checks("no_execution_after_fence")
@pytest.mark.slow
@pytest.mark.usefixtures("tallies")
@scenario(within_s=often(300, 3_000))
async def test_n13_the_end_of_a_session_is_a_fence_on_all_its_sockets(data: Path) -> None:
    """Sessions end in four ways while they submit: none is accepted, starts or is told of later, and none goes on."""
    holding = Holding()
    async with with_remote_realm(data, holding) as (server, far), Client(server.url) as client:
        async with Admin(server.url, admin_token(data)) as admin:
            ways = ("revoked", "logout", "password", "disabled")
            races = [Race(ways[n % len(ways)], n, client, admin) for n in range(RACES)]
            waiting = iter(races)

            async def lane() -> None:
                for race in waiting:
                    await race.run()

            await asyncio.gather(*(lane() for _ in range(8)))

        def over() -> bool:
            return all(history[-1]["target"] in ENDED for history in executions(data).values())

        await eventually(over, within_s=120)
        await eventually(lambda: holding.hung_up == len(far.received))
    verify(data)
    by_execution, ends = executions(data), fences(records(data))
    outcomes: Counter[str] = Counter()
    for history in by_execution.values():
        accept, last = history[0], history[-1]
        fence = ends[accept["data"]["session_id"]]
        assert all(each["position"] < fence for each in history if each["event"] in {"accept", "start"})
        intent = accept["data"]["intent"]
        if intent in {"tallies.wait", "far.hold"}:
            assert (last["event"], last["data"]["reason"]) == ("cancel", "session_ended")
        elif intent != "tallies.transactional":
            assert last["event"] == "cancel" or last["position"] < fence
        outcomes[f"{intent} {last['target']}"] += 1
    heard: Counter[str] = Counter()
    for each in (each for race in races for each in race.heard if each["type"] in {"accepted", "outcome"}):
        recorded = by_execution[each["execution_id"]]
        assert each["type"] == "accepted" or each["state"] == recorded[-1]["target"]
        heard[each["type"]] += 1
    statuses = sum((race.over_http for race in races), Counter[int]())
    assert set(statuses) == {202, 401}, "some races are won, and some are lost"
    assert far.received
    assert set(heard) == {"accepted", "outcome"}
    print(f"{RACES} races: HTTP {dict(statuses)}, heard {dict(heard)}, {dict(outcomes)}")  # noqa: T201  # a figure


async def sessions(server: ServerProcess, stack: AsyncExitStack, count: int) -> list[Client]:
    """Return so many sessions of one new account."""
    first = await stack.enter_async_context(await logged_in(server.url))
    others = [first.sibling() for _ in range(count - 1)]
    for each in others:
        (await each.log_in(first.email)).raise_for_status()
    return [first, *others]


async def insist(client: Client, name: str, intent_id: str) -> dict[str, Any]:
    """Submit an intent over HTTP until there is an answer. Return the outcome, however often the server is away."""
    while True:
        with suppress(httpx.TransportError):
            answer = await submitted(client, name, intent_id)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                # Many kills take longer than an access token lasts.
                (await client.refresh()).raise_for_status()
                continue
            assert answer.status_code in {200, 202}, answer.text
            return what_ended(await outcome(client, answer.json()["execution_id"]))
        await asyncio.sleep(0.02)


@pytest.mark.checks("accepted_once", "one_outcome", "outcome_reaches_client")
@pytest.mark.slow
@scenario(within_s=often(300, 900))
async def test_n18_one_id_over_sockets_and_http_has_one_outcome_for_all(data: Path, tallies: Path) -> None:
    """16 sessions of an account submit the same id at once, half of them over sockets; the server is killed in the middle."""
    chance = random.Random(16)  # noqa: S311  # a schedule, not a secret
    turns = [(EFFECTS[turn % len(EFFECTS)], f"the same {turn}") for turn in range(KILLS)]
    learned: dict[str, dict[str, Any]] = {}
    with running_server(data, realm=TALLIES) as server:
        async with AsyncExitStack() as stack:
            clients = await sessions(server, stack, 16)
            tabs = [await stack.enter_async_context(Recovering(each).kept()) for each in clients[::2]]
            for kind, intent_id in turns:
                name = f"tallies.{kind}"
                asking = [asyncio.create_task(insist(each, name, intent_id)) for each in clients[1::2]]
                for tab in tabs:
                    await tab.want(name, intent_id)
                if chance.random() < 0.7:
                    await tabs[0].until(lambda: intent_id in tabs[0].executions)  # noqa: B023  # awaited at once
                await asyncio.sleep(chance.uniform(0, 0.08))
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                found = await asyncio.gather(*asking)
                for tab in tabs:
                    await tab.until(lambda: not tab.waiting)  # noqa: B023  # awaited at once
                    found.append(tab.outcomes[intent_id])
                learned[intent_id] = found[0]
                assert found == [found[0]] * 16, "two clients learned different outcomes"
            closes = sum((tab.closes for tab in tabs), Counter[int]())
            fetched = sum(tab.fetched for tab in tabs)
    verify(data)
    by_execution, had = executions(data), effects(tallies)
    assert set(by_execution) == {each["execution_id"] for each in learned.values()}
    assert len(by_execution) == KILLS
    for kind, intent_id in turns:
        execution_id, state = learned[intent_id]["execution_id"], learned[intent_id]["state"]
        attempts = sum(each["event"] == "start" for each in by_execution[execution_id])
        effect = had[execution_id]
        assert by_execution[execution_id][-1]["target"] == state
        if kind == "once":
            assert attempts <= 1
            assert effect.total() == 1 if state == "succeeded" else effect.total() <= 1
        elif kind == "idempotent":
            assert (state, max(effect.values()), effect[attempts]) == ("succeeded", 1, 1)
        else:
            assert (state, effect.total()) == ("succeeded", 1)
    states = Counter(each["state"] for each in learned.values())
    print(f"{KILLS} kills: {dict(states)}, {fetched} fetched, closes {dict(closes)}")  # noqa: T201  # a figure


async def disturb(relay: Relay, tab: Recovering, chance: random.Random, times: int) -> None:
    """Disturb the network of a socket: cut it, hold it up until a heartbeat is lost, or delay it."""
    for turn in range(times):
        before, values = tab.closes.total(), len(tab.values)
        relay.delay_s = chance.choice([0, 0.01, 0.2])
        # What arrives shows that the last disturbance is over.
        await tab.until(lambda: len(tab.values) > values)  # noqa: B023  # awaited at once
        if turn % 2:
            relay.cut()
        else:
            relay.freeze()
        await eventually(lambda: tab.closes.total() > before, within_s=120)  # noqa: B023  # awaited at once
        if chance.random() < 0.5:
            relay.cut()
        relay.thaw()


@pytest.mark.checks("outcome_reaches_client")
@pytest.mark.slow
@scenario(within_s=often(300, 1_800))
async def test_n18_sockets_over_a_bad_network_hear_all_once_or_of_a_gap(data: Path) -> None:
    """Four sockets of a session, each over a network of its own that delays, cuts and swallows what it carries."""
    chance = random.Random(4)  # noqa: S311  # a schedule, not a secret
    settings = {"ping_interval_s": 1, "ping_timeout_s": 2, "resume_s": 300}
    with running_server(data, realm=TALKERS, **settings) as server:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(await logged_in(server.url))
            relays, tabs = [], []
            for _ in range(4):
                relay = await stack.enter_async_context(relay_to(server.url))
                far = Client(relay.url, client.http)
                far.tokens = client.tokens
                tab = Recovering(far, ping_interval=1, ping_timeout=2, open_timeout=5, close_timeout=1)
                relays.append(relay)
                tabs.append(await stack.enter_async_context(tab.kept()))
                await tab.until(lambda: tab.place)  # noqa: B023  # awaited at once
            endless = await tabs[0].want("talk.count", to=100_000, pause_s=0.02)
            disturbing = [
                asyncio.create_task(disturb(relay, tab, chance, DISTURBANCES))
                for relay, tab in zip(relays, tabs, strict=True)
            ]
            counts = [await tab.want("talk.count", to=100, pause_s=0.02) for tab in tabs]
            await asyncio.gather(*disturbing)
            for tab in tabs:
                await tab.until(lambda: tab.outcomes.keys() >= set(counts))  # noqa: B023  # awaited at once
            assert [tab.gaps for tab in tabs] == [0] * 4, "all was kept"

            # More than is kept, while a network swallows everything.
            relays[0].freeze()
            large = str(uuid4())
            body = {"id": large, "name": "talk.count", "parameters": {"to": 100, "padding": 16_000}}
            answer = (await client.request("POST", "/api/intents", json=body)).raise_for_status()
            await outcome(client, answer.json()["execution_id"])
            relays[0].cut()
            relays[0].thaw()
            await tabs[0].until(lambda: tabs[0].gaps)
            stop = tabs[0].executions[endless]
            (await client.request("DELETE", f"/api/executions/{stop}")).raise_for_status()
            for tab in tabs:
                await tab.until(lambda: endless in tab.outcomes)  # noqa: B023  # awaited at once
            closes = sum((tab.closes for tab in tabs), Counter[int]())
            gaps = sum(tab.gaps for tab in tabs)
    stream: dict[int, dict[str, Any]] = {}
    for tab in tabs:
        assert tab.outcomes == tab.outcomes | {each: tabs[0].outcomes[each] for each in (*counts, endless)}
        values: dict[str, list[int]] = {each: [] for each in (*counts, endless)}
        for message in tab.heard:
            assert stream.setdefault(message["offset"], message) == message
            if message["type"] == "progress" and message["intent_id"] in values:
                values[message["intent_id"]] += message["data"]
        assert values[endless] == sorted(set(values[endless])), "in order, and none twice"
        for each in counts:
            assert values[each] == list(range(1, 101))
    verify(data)
    print(f"{len(stream)} messages, {gaps} gaps, closes {dict(closes)}")  # noqa: T201  # a figure


@pytest.mark.checks("accepted_once", "one_outcome", "outcome_reaches_client")
@pytest.mark.slow
@scenario(within_s=often(300, 1_800))
async def test_n18_a_rolling_restart_under_load_loses_and_repeats_nothing(data: Path, tallies: Path) -> None:
    """Six clients submit intents of all three effects over sockets while the server stops and starts, again and again."""
    chance = random.Random(20)  # noqa: S311  # a schedule, not a secret
    stopping = asyncio.Event()
    with running_server(data, realm=TALLIES, drain_s=60, **ROOM) as server:

        async def load(tab: Recovering) -> None:
            while not stopping.is_set():
                # Some run for longer than it takes to close all connections.
                pause_s = 4 if chance.random() < 0.06 else 0.02
                await tab.want(f"tallies.{chance.choice(EFFECTS)}", pause_s=pause_s)
                await asyncio.sleep(chance.uniform(0, 0.1))
                await tab.until(lambda: len(tab.waiting) < 8)
            await tab.until(lambda: not tab.waiting)

        async with AsyncExitStack() as stack:
            clients = await sessions(server, stack, 6)
            tabs = [await stack.enter_async_context(Recovering(each).kept()) for each in clients]
            loads = [asyncio.create_task(load(tab)) for tab in tabs]
            for _ in range(RESTARTS):
                for tab in tabs:
                    enough = len(tab.outcomes) + chance.randrange(5, 20)
                    await tab.until(lambda: len(tab.outcomes) >= enough)  # noqa: B023  # awaited at once
                assert await asyncio.to_thread(server.stop) == 0
                await asyncio.to_thread(server.start)
            stopping.set()
            await asyncio.gather(*loads)
            closes = sum((tab.closes for tab in tabs), Counter[int]())
            gaps, fetched, repeats = (sum(getattr(tab, it) for tab in tabs) for it in ("gaps", "fetched", "repeats"))
    verify(data)
    by_execution, had = executions(data), effects(tallies)
    learned = {known["execution_id"]: known["state"] for tab in tabs for known in tab.outcomes.values()}
    assert set(by_execution) == set(learned)
    lost = {each: by_execution[each] for each, state in learned.items() if state != "succeeded" or not had[each]}
    repeated = {each: history for each, history in by_execution.items() if had[each].total() > 1 or len(history) > 3}
    # A drain lets running code end, so not even an idempotent intent has its effect twice.
    assert (lost, repeated) == ({}, {})
    # 4408: so many restarts take longer than an access token lasts.
    assert set(closes) <= {1001, 1006, 4408}
    assert gaps >= RESTARTS * len(tabs)
    assert repeats > 0, "no answer was lost"
    print(  # noqa: T201  # a figure
        f"{RESTARTS} restarts, {len(learned)} intents: {len(lost)} lost, {len(repeated)} repeated; "
        f"{gaps} gaps, {repeats} sent again, {fetched} fetched, closes {dict(closes)}"
    )
