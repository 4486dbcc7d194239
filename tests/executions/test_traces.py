"""Traces of executions as the runtime writes them: complete, in order, without the domain's data."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from interlock.context import Context
from interlock.realm import Realm
from interlock.spec.model.trace.lines import Ack, Append, Line, Recover, parse
from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.intents import outcome
from tests.support.log import verify
from tests.support.running import eventually, scenario
from tests.support.runtime import Text, bench, notes
from tests.support.server import check_trace, running_server
from tests.support.tallies import REALM, create


def lines(trace: Path) -> list[Line]:
    return [parse(line) for line in trace.read_bytes().splitlines()]


def told(trace: Path) -> list[tuple[str, bool]]:
    """Return the events of executions, and whether their line is late, in order, with the recoveries."""
    return [
        ("recover", False) if isinstance(line, Recover) else (line.event, line.late)
        for line in lines(trace)
        if isinstance(line, Recover) or (isinstance(line, Append) and line.kind == "execution")
    ]


async def hang(_context: Context, _text: str) -> str:
    await asyncio.Event().wait()
    return ""


@asynchronous
async def test_records_and_answers_of_executions_are_traced_without_their_data(tmp_path: Path) -> None:
    async def shout(_context: Context, text: str) -> str:
        return f"{text}, loudly"

    async with bench(tmp_path, notes(shout)) as made:
        await made.run(await made.login(), text="a private text")
    trace = tmp_path / "trace.jsonl"
    of_executions = [line for line in lines(trace) if isinstance(line, Append | Ack) and line.kind == "execution"]
    assert [line.type for line in of_executions] == ["append", "ack"] * 3
    assert told(trace) == [("recover", False), ("accept", False), ("start", False), ("succeed", False)]
    assert "private" not in trace.read_text()
    assert "loudly" not in trace.read_text()


@pytest.mark.parametrize("lost", [1, 2])
@asynchronous
async def test_execution_records_that_a_kill_left_untraced_are_traced_first(tmp_path: Path, lost: int) -> None:
    trace = tmp_path / "trace.jsonl"
    async with bench(tmp_path, notes(hang, effects="once"), ends="crashes") as made:
        accepted = await made.submit(await made.login())
        await made.reached(accepted.execution.execution_id, "running")
    text = trace.read_bytes()
    for _ in range(lost):
        text = text[: text.rindex(b'{"type":"append"')]
    trace.write_bytes(text)
    async with bench(tmp_path, notes(hang, effects="once"), clock=made.clock):
        pass
    late = ["accept", "start"][-lost:]
    early = ["accept", "start"][:-lost]
    assert told(trace) == [
        ("recover", False),
        *[(event, False) for event in early],
        *[(event, True) for event in late],
        ("interrupt", False),
        ("recover", False),
    ]


@asynchronous
async def test_a_new_trace_has_the_executions_that_still_live(tmp_path: Path) -> None:
    """The session has ended, so it is not in the new trace. What lives on in it must not start again."""
    trace = tmp_path / "trace.jsonl"
    realm = notes(hang, effects="idempotent", on_session_end="finish")
    async with bench(tmp_path, realm, ends="crashes") as made:
        session = await made.login()
        ended = await made.submit(session, intent_id="ended")
        await made.cancel(session, ended.execution.execution_id)
        lives = await made.submit(session, intent_id="lives")
        await made.reached(lives.execution.execution_id, "running")
        await made.end(session)
    trace.resolve().unlink()
    async with bench(tmp_path, realm, clock=made.clock) as made:
        execution = await made.runner.outcome(lives.execution.execution_id)
        assert (execution.state, execution.reason) == ("cancelled", "session_ended")
    assert told(trace) == [
        ("accept", True),
        ("start", True),
        ("interrupt", False),
        ("recover", False),
        ("cancel", False),
    ]


class SlowStore:
    """A realm's store that has committed nothing, and answers when ``asked`` is over. ``started`` are the starts till then."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen
        self.started: list[int] = []

    async def prepare(self) -> None:
        """Prepare nothing."""

    async def commit(self, connection: Any, execution_id: str, attempt: int, result: bytes) -> None:
        """Commit nothing."""

    async def close(self, execution_id: str, attempt: int) -> bytes | None:
        del execution_id, attempt
        await asyncio.sleep(0.2)
        self.started.append(len(self.seen))
        return None


@pytest.mark.checks("crashed_recovers")
@asynchronous
async def test_nothing_starts_before_every_lost_attempt_is_interrupted(tmp_path: Path) -> None:
    """One lost attempt waits for the answer of its realm's store, and the other could be repeated at once."""
    seen: list[int] = []
    store = SlowStore(seen)
    realm = Realm("notes", store=store)

    @realm.intent("notes.create", effects="transactional")
    async def create(_context: Context, parameters: Text) -> Text:
        await asyncio.Event().wait()
        return parameters

    @realm.intent("notes.list", effects="idempotent")
    async def listed(context: Context, parameters: Text) -> Text:
        seen.append(context.attempt)
        await asyncio.Event().wait()
        return parameters

    async with bench(tmp_path, realm, ends="crashes") as made:
        session = await made.login()
        for number, name in enumerate(("notes.create", "notes.list")):
            accepted = await made.submit(session, name, intent_id=f"i{number}")
            await made.reached(accepted.execution.execution_id, "running")
        await eventually(lambda: seen == [1])
    async with bench(tmp_path, realm, clock=made.clock, ends="crashes"):
        await eventually(lambda: seen == [1, 2])
        assert store.started[0] == 1


@scenario()
async def test_a_killed_servers_executions_continue_their_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = tmp_path / "data", tmp_path / "tallies.db"
    create(path)
    monkeypatch.setenv("TALLIES", str(path))
    with running_server(data, realm=REALM) as server:
        async with await logged_in(server.url) as client:
            ids = []
            for kind in ("once", "idempotent", "transactional"):
                body: dict[str, Any] = {"id": kind, "name": f"tallies.{kind}", "parameters": {}}
                ids.append((await client.request("POST", "/api/intents", json=body)).json()["execution_id"])
            server.kill()
            server.start()
            for execution_id in ids:
                await outcome(client, execution_id)
    summary = check_trace(server.trace)
    assert (summary.sessions, summary.executions) == (1, 3)
    assert [line.type for line in lines(server.trace)].count("recover") == 2
    verify(data)
