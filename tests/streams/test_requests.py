"""Intents, cancels, refreshes and pings of one connection: none waits for another, and how many may wait is bounded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from interlock.machine.session.commands import Reauthenticate
from interlock.server.experience.sockets.requests import UNANSWERED
from interlock.server.runtime.door import commands
from interlock.server.services import Services
from interlock.server.surface.executions import data_differs
from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.following import Follower
from tests.support.running import eventually, scenario
from tests.support.server import running_server
from tests.support.talkers import REALM, realm
from tests.support.wire import Wire, greeted, log_in, services_in

PING = '{"type":"ping"}'


def intent(name: str = "i") -> str:
    return json.dumps({"type": "intent", "id": name, "name": "talk.count", "parameters": {}})


def stall(services: Services) -> asyncio.Event:
    """Let acceptances wait, as for a slow disk, until the event is set. Then they fail as the real ones: no realm is loaded."""
    proceed = asyncio.Event()
    executions: Any = services.executions
    accept = executions.accept

    async def late(*arguments: Any, **named: Any) -> Any:
        await proceed.wait()
        return await accept(*arguments, **named)

    executions.accept = late
    return proceed


@asynchronous
async def test_a_ping_and_a_refresh_do_not_wait_for_an_intent(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, wire, running = await greeted(services)
        proceed = stall(services)
        wire.say(intent())
        wire.say(PING)
        assert wire.said[-1] == "pong"
        wire.say(json.dumps({"type": "refresh", "access_token": services.tokens.access_token(session)}))
        await eventually(lambda: wire.said[-1] == "refreshed")
        assert wire.reading
        proceed.set()
        await eventually(lambda: wire.said[-1] == "refused")
        wire.leave()
        await running


@asynchronous
async def test_a_ping_and_an_intent_do_not_wait_for_a_refresh(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, wire, running = await greeted(services)
        proceed = asyncio.Event()
        authenticator: Any = services.authenticator
        by_access_token = authenticator.by_access_token

        async def late(*arguments: Any) -> Any:
            await proceed.wait()
            return await by_access_token(*arguments)

        authenticator.by_access_token = late
        wire.say(json.dumps({"type": "refresh", "access_token": services.tokens.access_token(session)}))
        wire.say(PING)
        assert wire.said[-1] == "pong"
        wire.say(intent())
        await eventually(lambda: wire.said[-1] == "refused")
        proceed.set()
        await eventually(lambda: wire.said[-1] == "refreshed")
        wire.leave()
        await running


@asynchronous
async def test_more_unanswered_intents_than_allowed_are_refused_at_once(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        _, wire, running = await greeted(services)
        proceed = stall(services)
        for n in range(UNANSWERED):
            wire.say(intent(f"i{n}"))
        assert "refused" not in wire.said
        wire.say(intent("one more"))
        wire.say(json.dumps({"type": "cancel", "execution_id": "exe"}))
        assert wire.said[-2:] == ["refused", "refused"]
        proceed.set()
        await eventually(lambda: wire.said.count("refused") == UNANSWERED + 2)
        wire.say(intent("after the answers"))
        await eventually(lambda: wire.said.count("refused") == UNANSWERED + 3)
        wire.leave()
        await running


@asynchronous
async def test_several_refreshes_are_answered_in_turn_and_bounded(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, wire, running = await greeted(services)
        refresh = json.dumps({"type": "refresh", "access_token": services.tokens.access_token(session)})
        for _ in range(3):
            wire.say(refresh)
        await eventually(lambda: wire.said.count("refreshed") == 3)
        for _ in range(5):
            wire.say(refresh)
        await running
        assert wire.said[-1] == "close 4420 too many frames"


@asynchronous
async def test_an_intent_under_a_superseded_credential_is_not_recorded(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, wire, running = await greeted(services)
        asked: list[Any] = []
        executions: Any = services.executions
        executions.recording.of = _nothing

        async def accept(*arguments: Any, **_named: Any) -> None:
            asked.append(arguments)

        executions.accept = accept
        login = services.sessions.submit(session.session_id, *commands("ada", Reauthenticate("ada", "password")))
        wire.say(intent())
        await login
        await running
        assert wire.said[-1] == "close 4408 token expired"
        assert [arguments for arguments in asked if arguments[1].epoch != session.epoch] == []


@asynchronous
async def test_an_answer_for_a_client_that_left_is_dropped(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        _, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: "hello" in wire.said)
        proceed = stall(services)
        wire.say(intent())
        wire.leave()
        proceed.set()
        await running
        assert wire.said == ["accept", "hello"]


@asynchronous
async def test_what_is_emitted_after_the_recorded_end_is_dropped(tmp_path: Path) -> None:
    async with services_in(tmp_path, realm) as services:
        session, wire, running = await greeted(services)
        wire.say(json.dumps({"type": "intent", "id": "i", "name": "talk.wait", "parameters": {}}))
        await eventually(lambda: wire.said[-1] == "progress")
        proceed = late_data(services)
        (execution_id,) = services.executions.live.of("session", session.session_id)
        execution = await services.executions.load(execution_id)
        wire.say(json.dumps({"type": "cancel", "execution_id": execution_id}))
        await eventually(lambda: not services.executions.live)
        services.streams.progress(execution, b'"too late"')
        proceed.set()
        await eventually(lambda: wire.said[-1] == "outcome")
        assert wire.said == ["accept", "hello", "accepted", "progress", "outcome"]
        wire.leave()
        await running


@scenario()
async def test_intents_have_the_rate_limit_of_http(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, limit_intent="2/1h") as server:
        async with await logged_in(server.url) as client, Follower().connected(client) as tab:
            body = {"id": "over http", "name": "talk.count", "parameters": {}}
            (await client.request("POST", "/api/intents", json=body)).raise_for_status()
            await tab.accepted("count")
            await tab.intent("count")
            refused = await tab.answer("refused")
            answer = await client.request("POST", "/api/intents", json={**body, "id": "another"})
            assert answer.status_code == 429
            assert refused["problem"] == answer.json()
            assert 0 < refused["retry_after_s"] <= 3600


@asynchronous
async def test_nothing_of_an_intent_is_read_back_from_the_disk(tmp_path: Path) -> None:
    """Its parameters and its result are in memory when they are recorded. Each read would take the reader's thread."""
    async with services_in(tmp_path, realm) as services:
        _, wire, running = await greeted(services)
        read: list[str] = []

        async def by_id(execution_id: str) -> None:
            read.append(execution_id)

        services.executions.store.by_id = by_id  # type: ignore[method-assign]  # an observer that is put in
        wire.say(intent())
        await eventually(lambda: wire.said[-1] == "outcome")
        assert read == []
        wire.leave()
        await running


@scenario()
async def test_cancels_do_not_count_as_intents(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, limit_intent="2/1h") as server:
        async with await logged_in(server.url) as client, Follower().connected(client) as tab:
            execution_id = await tab.accepted("wait")
            await tab.send({"type": "cancel", "execution_id": execution_id})
            assert (await tab.outcome(execution_id))["state"] == "cancelled"
            for _ in range(3):
                await tab.send({"type": "cancel", "execution_id": "exe_unknown"})
                refused = await tab.answer("refused")
                assert refused["problem"]["status"] == 404
            await tab.accepted("wait")


def late_data(services: Services) -> asyncio.Event:
    """Make reads of executions' data wait for the event, which is returned, and let none come from memory."""
    proceed = asyncio.Event()
    executions: Any = services.executions
    executions.recording.of = _nothing
    data = executions.data

    async def late(*arguments: Any) -> Any:
        await proceed.wait()
        return await data(*arguments)

    executions.data = late
    return proceed


def _nothing(_execution: object) -> None:
    """Know nothing of the data, as of an end that another process recorded."""


@asynchronous
async def test_a_result_that_something_else_changed_does_not_hide_the_outcome(tmp_path: Path) -> None:
    async with services_in(tmp_path, realm) as services:
        _, wire, running = await greeted(services)
        executions: Any = services.executions
        executions.recording.of = _nothing

        async def forged(execution_id: str) -> Any:
            raise data_differs(execution_id)

        executions.data = forged
        with capture_logs() as logged:
            wire.say(intent())
            await eventually(lambda: wire.said[-1] == "outcome")
        outcome = wire.heard[-1]
        assert outcome["state"] == "succeeded"
        assert not {"result", "error"} & outcome.keys()
        assert [each["execution_id"] for each in logged if each["event"] == "execution.forged"] == [
            outcome["execution_id"]
        ]
        wire.leave()
        await running


@asynchronous
async def test_an_outcome_that_a_bug_keeps_back_is_logged(tmp_path: Path) -> None:
    async with services_in(tmp_path, realm) as services:
        _, wire, running = await greeted(services)
        executions: Any = services.executions
        executions.recording.of = _nothing

        async def broken(_execution_id: str) -> Any:
            raise ValueError

        executions.data = broken
        with capture_logs() as logged:
            wire.say(intent())
            await eventually(lambda: [each for each in logged if each["event"] == "task.failed"])
        wire.leave()
        await running


@asynchronous
async def test_a_session_does_not_wait_for_the_outcome_of_anothers(tmp_path: Path) -> None:
    async with services_in(tmp_path, realm) as services:
        session, wire, running = await greeted(services)
        other, _ = await log_in(services)
        proceed = late_data(services)
        wire.say(intent())
        await eventually(lambda: services.streams._ending)
        assert services.streams.expects_outcome(session.session_id)
        assert not services.streams.expects_outcome(other.session_id)
        proceed.set()
        await eventually(lambda: wire.said[-1] == "outcome")
        assert not services.streams.expects_outcome(session.session_id)
        wire.leave()
        await running
