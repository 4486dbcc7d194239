"""The trace that a server writes: complete, in order, without a secret; and what it shows beyond the log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from interlock.machine.errors import SessionEnded
from interlock.machine.session.commands import Authenticate, Connect, Revoke, Touch
from interlock.server.runtime.door import commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.spec.model.trace.lines import Append, Close, Drop, Line, Open, Recover, parse
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, closed, hello, new_email
from tests.support.clock import HandClock
from tests.support.log import BEGUN
from tests.support.running import eventually, scenario
from tests.support.server import check_trace, running_server
from tests.support.steps import POLICY
from tests.support.wire import Wire, after_connect, events, greeted, log_in, services_in


def lines(trace: Path) -> list[Line]:
    return [parse(line) for line in trace.read_bytes().splitlines()]


@scenario()
async def test_a_killed_server_continues_its_trace(tmp_path: Path) -> None:
    secrets: list[str] = [PASSWORD]
    with running_server(tmp_path / "data") as server:
        async with Client(server.url) as client:
            await client.begin()
            await client.register(email := new_email())
            await client.log_in(email)
            secrets += [email, client.access_token, client.refresh_token]
            ticket = (await client.request("POST", "/api/session/ticket")).json()["ticket"]
            await client.refresh()
            secrets += [ticket, client.access_token, client.refresh_token]
            by_ticket: dict[str, Any] = {"subprotocols": ["interlock.v1", f"ticket.{ticket}"]}
            async with client.connect(additional_headers={}, **by_ticket) as socket:
                await hello(socket)
                elsewhere = client.sibling()
                await elsewhere.log_in(email)
                (await elsewhere.request("DELETE", f"/api/sessions/{client.session_id}")).raise_for_status()
                assert (await closed(socket))[0] == 4403
            async with elsewhere.connect() as socket:
                await hello(socket)
                server.kill()
            secrets += [elsewhere.access_token, elsewhere.refresh_token]
            server.start()
            await elsewhere.refresh()
    told = lines(server.trace)
    assert check_trace(server.trace).sessions == 2
    assert Counter(line.type for line in told) == {"recover": 2, "append": 10, "ack": 10, "open": 2, "close": 1}
    assert len({line.life for line in told}) == 2
    recovers = [n for n, line in enumerate(told) if isinstance(line, Recover)]
    assert [told[n].position for n in recovers] == [0, BEGUN + 10]  # type: ignore[attr-defined]  # they are recovers
    assert [line.event for line in told[: recovers[1]] if isinstance(line, Append)][-1] == "disconnect", "the orphan's"
    text = server.trace.read_text()
    assert not [secret for secret in secrets if secret in text]
    assert server.trace.stat().st_mode & 0o777 == 0o600


def test_no_trace_is_written_by_default(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", model_trace="") as server:
        pass
    assert not server.trace.exists()
    assert not list(tmp_path.rglob("*.jsonl"))


@asynchronous
async def test_records_that_a_killed_process_left_untraced_are_traced_first(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    async with services_in(tmp_path) as services:
        ended, _ = await log_in(services)
        await services.sessions.end(ended, "logout", "ada")
        living, _ = await log_in(services)
    whole = trace.read_bytes()
    # The process was killed while writing its fourth record.
    trace.write_bytes(whole[: whole.rindex(b'{"type":"append"') - 400])
    async with services_in(tmp_path):
        pass
    told = lines(trace)
    late = [line for line in told if isinstance(line, Append) and line.late]
    assert [(line.instance, line.version) for line in late] == [(living.session_id, 1), (living.session_id, 2)]
    assert told[-1] == Recover("node-1", told[-1].life, BEGUN + 6)
    # A new file on an old log: the live sessions, from their first record.
    trace.unlink()
    async with services_in(tmp_path):
        pass
    assert [(line.instance, line.version) for line in lines(trace) if isinstance(line, Append)] == [
        (living.session_id, 1),
        (living.session_id, 2),
    ]
    assert [line.position for line in lines(trace) if isinstance(line, Recover)] == [BEGUN + 6]


@pytest.mark.checks("command_once", "command_answered")
@asynchronous
async def test_a_repeat_is_traced_as_acknowledged_again_and_appended_once(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, _ = await log_in(services)
        once = commands("ada", Touch())
        for _ in range(2):
            await services.sessions.submit(session.session_id, *once)
        # Also with both in one batch, so that the log gives the first one's record to the second.
        twice = commands("ada", Touch())
        rival = Sessions(
            Feed(services.sessions._log), services.clock, policy=POLICY, cache_limit=10, trace=services.trace
        )
        await asyncio.gather(*(door.submit(session.session_id, *twice) for door in (services.sessions, rival)))
    told = lines(tmp_path / "trace.jsonl")
    for command in (once[0].command_id, twice[0].command_id):
        assert [line.type for line in told if getattr(line, "command", "") == command] == ["append", "ack", "ack"]


@asynchronous
async def test_a_late_repeat_is_traced_with_the_sessions_current_version(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session = (await services.sessions.begin("anonymous")).instance
        once = commands("anonymous", Touch())
        await services.sessions.submit(session.session_id, *once)
        await services.sessions.submit(session.session_id, *commands("ada", Authenticate("ada", "password")))
        assert (await services.sessions.submit(session.session_id, *once)).instance.version == 3


@asynchronous
async def test_an_anonymous_session_traces_no_connection(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session = (await services.sessions.begin("anonymous")).instance
        wire = Wire(services, services.tokens.access_token(session))
        await wire.run()
        assert await events(services, session) == ["create"]
    assert wire.said == ["accept", "close 4401 not authenticated: the session is anonymous; log in first"]


@asynchronous
async def test_an_expiring_session_traces_the_close_of_its_sockets(tmp_path: Path) -> None:
    async with services_in(tmp_path, idle_timeout_s=0.2) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: (now := services.sessions.cached(session.session_id)) and now.ended)
        await asyncio.sleep(0)
        wire.leave()
        await running
        assert wire.said[-1] == "close 4403 session ended: idle"


@asynchronous
async def test_each_socket_is_traced_as_opened_and_ended_once(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        leaves, stays = Wire(services, token), Wire(services, token)
        running = [wire.run() for wire in (leaves, stays)]
        await eventually(lambda: "hello" in leaves.said and "hello" in stays.said)
        leaves.leave()
        await running[0]
        await services.sessions.end(session, "revoked", "ada")
        await running[1]
        again = Wire(services, token)
        await again.run()
        assert again.said == ["accept", "close 4403 session ended: revoked"]
    told = [line for line in lines(tmp_path / "trace.jsonl") if isinstance(line, Open | Close | Drop)]
    assert [line.type for line in told] == ["open", "open", "drop", "close"]
    assert [line.code for line in told if isinstance(line, Close)] == [4403]


@pytest.mark.checks("open_guard")
@asynchronous
async def test_a_session_ending_during_the_handshake_leaves_no_socket_open(tmp_path: Path) -> None:
    """It ends after its connect was recorded and before the handshake is answered."""
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        after_connect(services, lambda: services.sessions.end(session, "revoked", "ada"))
        wire = Wire(services, token)
        await wire.run()
    told = [type(line) for line in lines(tmp_path / "trace.jsonl")]
    assert (told.count(Open), told.count(Close)) == (1, 1)
    assert wire.said == ["accept", "hello", "transition", "close 4403 session ended: revoked"]


@pytest.mark.checks("open_guard")
@asynchronous
async def test_concurrent_sockets_each_open_with_their_own_connect(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        _, token = await log_in(services)
        wires = [Wire(services, token) for _ in range(2)]
        running = [wire.run() for wire in wires]
        await eventually(lambda: all("hello" in wire.said for wire in wires))
        assert sorted(wire.said for wire in wires) == [["accept", "hello"], ["accept", "hello", "transition"]]
        for wire in wires:
            wire.leave()
        await asyncio.gather(*running)


@pytest.mark.checks("acknowledged_logged")
@asynchronous
async def test_nobody_is_answered_before_the_commit(tmp_path: Path) -> None:
    """The disk is slow, so a premature answer would be seen."""
    async with services_in(tmp_path) as services:
        log: Any = services.sessions._log
        log._writer._connection = _SlowCommit(log._writer._connection)
        session, wire, running = await greeted(services)
        wire.leave()
        await running
        assert (await services.sessions.submit(session.session_id, *commands("ada", Touch()))).instance.version == 5


class _SlowCommit:
    """A connection with slow commits, so that callers that don't wait for them are faster."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, *parameters: Any) -> Any:
        if statement == "COMMIT":
            time.sleep(0.1)
        return self._connection.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.checks("revocation_fence")
@asynchronous
async def test_a_sessions_end_is_acknowledged_after_its_sockets_are_closed(tmp_path: Path) -> None:
    """Not before: the answer may lead to what the socket must not see."""
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        wires = [Wire(services, token) for _ in range(3)]
        running = [wire.run() for wire in wires]
        await eventually(lambda: all("hello" in wire.said for wire in wires))
        await services.sessions.submit(session.session_id, *commands("ada", Revoke("revoked")))
        for wire in wires:
            wire.leave()
        await asyncio.gather(*running)
        assert all(wire.said[-1] == "close 4403 session ended: revoked" for wire in wires)


@pytest.mark.checks("orphan_reaped")
@asynchronous
async def test_a_start_traces_disconnects_of_a_dead_processs_connections(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, _ = await log_in(services)
        for name in ("con_1", "con_2"):
            await services.sessions.submit(session.session_id, *commands("ada", Connect(name, "node-1")))
    async with services_in(tmp_path) as services:
        assert (await events(services, session))[-2:] == ["disconnect", "disconnect"]


@pytest.mark.checks("orphan_reaped")
@asynchronous
async def test_a_socket_that_leaves_is_traced_as_disconnected(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, wire, running = await greeted(services)
        wire.leave(1001)
        await running
        assert (await services.sessions.load(session.session_id)).connections == ()


@pytest.mark.checks("rotation")
@asynchronous
async def test_the_trace_shows_one_exchange_and_the_end_by_reuse(tmp_path: Path) -> None:
    async with services_in(tmp_path, refresh_grace_s=0) as services:
        session, _ = await log_in(services)
        exchanged = (
            await services.sessions.refresh(session.session_id, session.epoch, session.rotation, "ada")
        ).instance
        assert exchanged.rotation == session.rotation + 1
        await services.sessions.refresh(session.session_id, exchanged.epoch, exchanged.rotation, "ada")
        with pytest.raises(SessionEnded, match="token_reuse"):
            await services.sessions.refresh(session.session_id, session.epoch, session.rotation, "ada")


@pytest.mark.checks("versions_gapless", "no_lost_update")
@asynchronous
async def test_two_doors_on_one_log_each_decide_on_the_latest_version(tmp_path: Path) -> None:
    """Two writers of one session: a version that both decided on is recorded once, and the other decides again."""
    trace = tmp_path / "trace.jsonl"
    async with services_in(tmp_path) as services:
        session, _ = await log_in(services)
        clock = HandClock(services.clock.now_ms())
        rival = Sessions(Feed(services.sessions._log), clock, policy=POLICY, cache_limit=10)
        await rival.load(session.session_id)
        for _ in range(3):
            asked = (door.submit(session.session_id, *commands("ada", Touch())) for door in (services.sessions, rival))
            await asyncio.gather(*asked)
        told = [record.transition.version for record in await services.sessions.history(session.session_id, 0, 100)]
        assert told == list(range(1, 9))
    assert [line.version for line in lines(trace) if isinstance(line, Append)] == told
