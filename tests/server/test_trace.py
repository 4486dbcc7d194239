"""The trace that a server writes: complete, in order, without a secret; and what it shows that no log can."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from machine.commands import Authenticate, Connect, Revoke, Touch
from machine.errors import SessionEnded, SettingsError
from machine.session import Session
from server.app import open_services
from server.runtime.sessions import Sessions, commands
from server.settings import Settings
from server.surface.files import LOG_NAME
from server.trace import Told, Trace
from spec.model.traces import Append, Close, Drop, Line, Open, Recover, parse
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, closed, hello, new_email
from tests.support.clock import HandClock
from tests.support.running import eventually, scenario
from tests.support.server import check_trace, running_server
from tests.support.steps import POLICY
from tests.support.wire import Wire, events, log_in, services_in


def lines(trace: Path) -> list[Line]:
    return [parse(line) for line in trace.read_bytes().splitlines()]


@scenario(within_s=20)
async def test_a_server_that_is_killed_goes_on_with_its_trace(tmp_path: Path) -> None:
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
    assert Counter(line.kind for line in told) == {"recover": 2, "append": 10, "ack": 10, "open": 2, "close": 1}
    assert len({line.life for line in told}) == 2
    recovers = [n for n, line in enumerate(told) if isinstance(line, Recover)]
    assert [told[n].position for n in recovers] == [0, 9]  # type: ignore[attr-defined]  # they are recovers
    assert [line.event for line in told[: recovers[1]] if isinstance(line, Append)][-1] == "disconnect", "the orphan's"
    text = server.trace.read_text()
    assert not [secret for secret in secrets if secret in text]
    assert server.trace.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_unless_asked_for(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", trace="") as server:
        pass
    assert not server.trace.exists()
    assert not list(tmp_path.rglob("*.jsonl"))


@asynchronous
async def test_what_a_killed_process_did_not_live_to_write_is_written_first(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    async with services_in(tmp_path) as services:
        ended, _ = await log_in(services)
        await services.sessions.end(ended, "logout", "ada")
        living, _ = await log_in(services)
    whole = trace.read_bytes()
    # The process was killed in the middle of writing its fourth record.
    trace.write_bytes(whole[: whole.rindex(b'{"kind":"append"') - 400])
    async with services_in(tmp_path):
        pass
    told = lines(trace)
    late = [line for line in told if isinstance(line, Append) and line.late]
    assert [(line.session, line.version) for line in late] == [(living.session_id, 1), (living.session_id, 2)]
    assert told[-1] == Recover("node-1", told[-1].life, 5)
    # A new file on an old log: those that live, from their first record on.
    trace.unlink()
    async with services_in(tmp_path):
        pass
    assert [(line.session, line.version) for line in lines(trace) if isinstance(line, Append)] == [
        (living.session_id, 1),
        (living.session_id, 2),
    ]
    assert [line.position for line in lines(trace) if isinstance(line, Recover)] == [5]


@pytest.mark.checks("command_once", "command_answered")
@asynchronous
async def test_a_repeat_is_acknowledged_again_and_appended_once(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, _ = await log_in(services)
        once = commands("ada", Touch())
        for _ in range(2):
            await services.sessions.submit(session.session_id, *once)
        # Also when both are in one batch, so that the log gives the first's record to the second.
        twice = commands("ada", Touch())
        rival = Sessions(services.sessions._log, services.clock, policy=POLICY, cache_limit=10, trace=services.trace)
        await asyncio.gather(*(door.submit(session.session_id, *twice) for door in (services.sessions, rival)))
    told = lines(tmp_path / "trace.jsonl")
    for command in (once[0].command_id, twice[0].command_id):
        assert [line.kind for line in told if getattr(line, "command", "") == command] == ["append", "ack", "ack"]


@asynchronous
async def test_a_late_repeat_is_told_where_the_session_stands_now(tmp_path: Path) -> None:
    """Also when the command itself would be refused by now, and what it recorded is read from the log."""
    async with services_in(tmp_path) as services:
        session = (await services.sessions.begin("anonymous")).session
        login = commands("ada", Authenticate("ada", "password"))
        await services.sessions.submit(session.session_id, *login)
        await services.sessions.submit(session.session_id, *commands("ada", Touch()))
        assert (await services.sessions.submit(session.session_id, *login)).session.version == 3


@asynchronous
async def test_an_anonymous_session_connects_nothing(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session = (await services.sessions.begin("anonymous")).session
        wire = Wire(services, services.tokens.access_token(session))
        running = wire.run()
        wire.leave()
        await running
        assert await events(services, session) == ["create"]
    assert wire.said == ["accept", "close 4401 not authenticated: the session is anonymous; log in first"]


@asynchronous
async def test_a_session_that_expires_closes_its_sockets(tmp_path: Path) -> None:
    async with services_in(tmp_path, idle_timeout_s=0.2) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: (now := services.sessions.cached(session.session_id)) and now.ended, within_s=2)
        await asyncio.sleep(0)
        wire.leave()
        await running
        assert wire.said[-1] == "close 4403 session ended: idle"


@asynchronous
async def test_each_socket_opens_and_ends_once(tmp_path: Path) -> None:
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
    assert [line.kind for line in told] == ["open", "open", "drop", "close"]
    assert [line.code for line in told if isinstance(line, Close)] == [4403]


@pytest.mark.checks("open_guard")
@asynchronous
async def test_a_session_that_ends_during_the_handshake_opens_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after its connect was recorded and before the socket looks at it again."""
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        load = services.sessions.load

        async def load_after_the_end(session_id: str) -> Session:
            if (await load(session_id)).connections:
                monkeypatch.undo()
                await services.sessions.end(session, "revoked", "ada")
            return await load(session_id)

        monkeypatch.setattr(services.sessions, "load", load_after_the_end)
        wire = Wire(services, token)
        running = wire.run()
        wire.leave()
        await running
    assert not [line for line in lines(tmp_path / "trace.jsonl") if isinstance(line, Open)]
    assert wire.said == ["accept", "close 4403 session ended: revoked"]


@pytest.mark.checks("acknowledged_logged")
@asynchronous
async def test_nobody_is_told_before_the_commit(tmp_path: Path) -> None:
    """The disk takes its time; whoever answers meanwhile is seen."""
    async with services_in(tmp_path) as services:
        log: Any = services.sessions._log
        log._writer._connection = _SlowCommit(log._writer._connection)
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: "hello" in wire.said)
        wire.leave()
        await running
        assert (await services.sessions.submit(session.session_id, *commands("ada", Touch()))).session.version == 5


class _SlowCommit:
    """A connection whose commits take so long that everybody who does not wait for them is quicker."""

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
async def test_the_end_of_a_session_is_acknowledged_when_its_sockets_are_closed(tmp_path: Path) -> None:
    """Not a moment before: the answer may lead to whatever the socket must not see."""
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
async def test_a_start_disconnects_what_a_dead_process_left(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, _ = await log_in(services)
        for name in ("con_1", "con_2"):
            await services.sessions.submit(session.session_id, *commands("ada", Connect(name, "node-1")))
    async with services_in(tmp_path) as services:
        assert (await events(services, session))[-2:] == ["disconnect", "disconnect"]


@pytest.mark.checks("orphan_reaped")
@asynchronous
async def test_a_socket_that_left_is_disconnected(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session, token = await log_in(services)
        wire = Wire(services, token)
        running = wire.run()
        await eventually(lambda: "hello" in wire.said)
        wire.leave(1001)
        await running
        assert (await services.sessions.load(session.session_id)).connections == ()


@pytest.mark.checks("rotation")
@asynchronous
async def test_a_refresh_token_is_exchanged_once_and_reuse_ends_the_session(tmp_path: Path) -> None:
    async with services_in(tmp_path, refresh_grace_s=0) as services:
        session, _ = await log_in(services)
        exchanged = (
            await services.sessions.refresh(session.session_id, session.epoch, session.rotation, "ada")
        ).session
        assert exchanged.rotation == session.rotation + 1
        await services.sessions.refresh(session.session_id, exchanged.epoch, exchanged.rotation, "ada")
        with pytest.raises(SessionEnded, match="token_reuse"):
            await services.sessions.refresh(session.session_id, session.epoch, session.rotation, "ada")


@pytest.mark.checks("versions_gapless", "no_lost_update")
@asynchronous
async def test_of_two_doors_on_one_log_each_decides_on_the_latest_version(tmp_path: Path) -> None:
    """Two writers of one session: a version that both decided on is recorded once, and the other decides again."""
    trace = tmp_path / "trace.jsonl"
    async with services_in(tmp_path) as services:
        session, _ = await log_in(services)
        clock = HandClock(services.clock.now_ms())
        rival = Sessions(services.sessions._log, clock, policy=POLICY, cache_limit=10)
        await rival.load(session.session_id)
        for _ in range(3):
            asked = (door.submit(session.session_id, *commands("ada", Touch())) for door in (services.sessions, rival))
            await asyncio.gather(*asked)
        told = [record.transition.version for record in await services.sessions.history(session.session_id, 0, 100)]
        assert told == list(range(1, 9))
    assert [line.version for line in lines(trace) if isinstance(line, Append)] == told


@asynchronous
async def test_a_trace_that_is_full_ends_and_the_server_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with services_in(tmp_path) as services:
        trace: Any = services.trace
        full = os.open("/dev/full", os.O_WRONLY)
        own, trace._descriptor = trace._descriptor, full
        session, _ = await log_in(services)
        assert session.version == 2
        trace._descriptor = own
        os.close(full)
    assert capsys.readouterr().out.count("trace.ended") == 1


def test_a_line_of_which_the_disk_took_a_part_is_cut_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(tmp_path / "trace.jsonl", "node-1")
    assert trace.begin() == Told()
    trace.go_on(None, None)
    trace.opened("s1", "con_1", 3)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:20]))
    trace.opened("s1", "con_2", 4)
    monkeypatch.undo()
    trace.opened("s1", "con_3", 5)
    trace.close()
    trace.dropped("s1", "con_3", 5)
    (line,) = lines(tmp_path / "trace.jsonl")
    assert isinstance(line, Open)
    assert line.connection == "con_1"


_RECOVER = b'{"kind":"recover","node":"node-1","life":"life-1","position":0}\n'


@pytest.mark.parametrize(
    "content",
    [
        b'{"kind":"append",no JSON}\n',
        b'{"kind":"append","node":"node-1"}\n',
        b"notes\nand the last line has no end",
        b"one line without an end",
        b"\n",
        bytes(4096),
        _RECOVER[:-9],
        _RECOVER + b"notes",
        _RECOVER + bytes(64),
        _RECOVER + b'{"kind":"append","node":"node-1"}\n',
    ],
)
@asynchronous
async def test_what_is_not_a_trace_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trace.jsonl").write_bytes(content)
    with pytest.raises(SettingsError, match="can't be used"):
        Trace(tmp_path / "trace.jsonl", "node-1").begin()
    settings = Settings(data=str(tmp_path / "data"), trace=str(tmp_path / "trace.jsonl"))
    with pytest.raises(SettingsError, match="can't be used"):
        async with open_services(settings):
            pass
    assert (tmp_path / "trace.jsonl").read_bytes() == content
    assert not (tmp_path / "data").exists(), "nothing else was written either"


@pytest.mark.parametrize("torn", [b"", b"{", b'{"kind":"', b'{"kind":"append","node":"no'])
@asynchronous
async def test_a_torn_last_line_of_a_trace_is_cut_away(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "trace.jsonl").write_bytes(_RECOVER + torn)
    async with services_in(tmp_path):
        pass
    assert [line.kind for line in lines(tmp_path / "trace.jsonl")] == ["recover", "recover"]


_IN_USE = (
    LOG_NAME,
    f"{LOG_NAME}-wal",
    f"{LOG_NAME}-shm",
    f"{LOG_NAME}-journal",
    "interlock.lock",
    "interlock.head",
    "interlock.head.new",
    "keys",
    "keys/refresh.key",
    "keys/trace.jsonl",
    "../data/./interlock.db",
)


@pytest.mark.parametrize("name", _IN_USE)
@asynchronous
async def test_a_file_of_the_server_is_no_place_for_a_trace(tmp_path: Path, name: str) -> None:
    """Neither before the first start, when it is not there yet, nor later."""
    data = tmp_path / "data"
    settings = Settings(data=str(data), trace=str(data / name), cheap_passwords_for_tests=True)
    with pytest.raises(SettingsError, match="something else there"):
        async with open_services(settings):
            pass
    assert not data.exists()
    async with open_services(Settings(data=str(data), cheap_passwords_for_tests=True)) as services:
        await log_in(services)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match="something else there"):
        async with open_services(settings):
            pass
    assert {path: path.read_bytes() for path in before} == before


@asynchronous
async def test_nor_is_another_name_of_such_a_file(tmp_path: Path) -> None:
    data, head = tmp_path / "data", tmp_path / "head"
    data.mkdir()
    (data / LOG_NAME).touch()
    (tmp_path / "link").symlink_to(data / "interlock.lock")
    os.link(data / LOG_NAME, tmp_path / "hard")
    for trace in (tmp_path / "link", tmp_path / "hard", head):
        with pytest.raises(SettingsError, match="something else there"):
            async with open_services(Settings(data=str(data), head=str(head), trace=str(trace))):
                pass


@asynchronous
async def test_a_trace_of_another_log_is_refused(tmp_path: Path) -> None:
    for name, sessions in (("short", 1), ("long", 2), ("empty", 0)):
        async with services_in(tmp_path / name) as services:
            for _ in range(sessions):
                await log_in(services)
    short, long = ((tmp_path / name / "trace.jsonl").read_bytes() for name in ("short", "long"))
    for name, foreign, why in (
        ("short", long, "it tells of position 4, and the log ends at 2"),
        ("long", short, "and the log has another record there"),
        ("empty", short, "it tells of position 2, and the log ends at 0"),
        ("empty", _RECOVER.replace(b":0", b":7"), "it tells of position 7, and the log ends at 0"),
    ):
        own = (tmp_path / name / "trace.jsonl").read_bytes()
        (tmp_path / name / "trace.jsonl").write_bytes(foreign + b'{"kind":"')
        settings = Settings(data=str(tmp_path / name), trace=str(tmp_path / name / "trace.jsonl"))
        with pytest.raises(SettingsError, match=why):
            async with open_services(settings):
                pass
        assert (tmp_path / name / "trace.jsonl").read_bytes() == foreign + b'{"kind":"', "left as it was"
        (tmp_path / name / "trace.jsonl").write_bytes(own)


@asynchronous
async def test_a_new_trace_that_was_killed_before_it_recovered_is_still_new(tmp_path: Path) -> None:
    """It told of the living session's first record only; the one that ended must not come into it."""
    async with services_in(tmp_path) as services:
        living, _ = await log_in(services)
        ended, _ = await log_in(services)
        await services.sessions.end(ended, "logout", "ada")
    trace = tmp_path / "trace.jsonl"
    trace.unlink()
    async with services_in(tmp_path):
        pass
    trace.write_bytes(trace.read_bytes().splitlines(keepends=True)[0])
    async with services_in(tmp_path):
        pass
    told = lines(trace)
    assert [line.kind for line in told] == ["append", "append", "recover"]
    assert {line.session for line in told if isinstance(line, Append)} == {living.session_id}


@asynchronous
async def test_a_server_that_did_nothing_goes_on_with_its_trace(tmp_path: Path) -> None:
    for _ in range(2):
        async with services_in(tmp_path):
            pass
    assert [line.kind for line in lines(tmp_path / "trace.jsonl")] == ["recover", "recover"]


def test_a_folder_and_a_pipe_are_no_trace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SettingsError, match="not a regular file"):
            Trace(path, "node-1").begin()


def test_a_trace_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        Trace(tmp_path / "nowhere" / "trace.jsonl", "node-1").begin()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="Not a directory"):
        Trace(tmp_path / "file" / "trace.jsonl", "node-1").begin()


@asynchronous
async def test_a_link_to_itself_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SettingsError, match="can't be used"):
        async with open_services(Settings(data=str(tmp_path / "data"), trace=str(tmp_path / "loop"))):
            pass


def test_a_trace_whose_torn_line_cannot_be_cut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(f"not {descriptor} to {length}")

    (tmp_path / "trace.jsonl").write_bytes(_RECOVER + b'{"kind":"')
    trace = Trace(tmp_path / "trace.jsonl", "node-1")
    trace.begin()
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(SettingsError, match=f"not .* to {len(_RECOVER)}"):
        trace.go_on(None, None)
    trace.close()
