"""Recovery: what a start makes of the executions that its predecessor left, as their effects allow."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from interlock.context import Context
from interlock.machine.execution.commands import Cancel, Effects, execution_id_of
from interlock.realm import Realm
from interlock.server.runtime.door import commands
from tests.support.asynchronous import asynchronous
from tests.support.own_log import logging_to_file
from tests.support.running import eventually
from tests.support.runtime import Counted, bench, notes
from tests.support.tampering import shell


class Attempts:
    """Code that hangs in its first attempt and returns in the next ones."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    async def __call__(self, context: Context, text: str) -> str:
        self.seen.append((context.execution_id, context.attempt))
        if len(self.seen) == 1:
            await asyncio.Event().wait()
        return text


@pytest.mark.checks("outcome_reaches_client", "once_runs_once")
@pytest.mark.parametrize("effects", ["once", "idempotent"])
@asynchronous
async def test_a_lost_attempt_is_repeated_as_its_effects_allow(tmp_path: Path, effects: Effects) -> None:
    code = Attempts()
    async with bench(tmp_path, notes(code, effects=effects), ends="crashes") as made:
        execution_id = (await made.submit(await made.login())).execution.execution_id
        await eventually(lambda: code.seen)
    async with bench(tmp_path, notes(code, effects=effects), clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert made.interrupted == 1
        if effects == "once":
            assert (ended.state, ended.reason, ended.attempt) == ("failed", "interrupted", 1)
            assert code.seen == [(execution_id, 1)]
            assert await made.events(execution_id) == ["accept", "start", "interrupt"]
        else:
            assert (ended.state, ended.attempt) == ("succeeded", 2)
            assert code.seen == [(execution_id, 1), (execution_id, 2)]
            assert await made.events(execution_id) == ["accept", "start", "interrupt", "start", "succeed"]


@pytest.mark.checks("attempts_bounded")
@asynchronous
async def test_code_that_ends_the_server_runs_five_times(tmp_path: Path) -> None:
    seen: list[int] = []
    clock = None

    async def end(context: Context, _text: str) -> str:
        seen.append(context.attempt)
        await asyncio.Event().wait()
        return ""

    def begun(attempt: int) -> bool:
        return seen[-1:] == [attempt]

    with logging_to_file(tmp_path / "log") as lines:
        for attempt in range(1, 6):
            async with bench(tmp_path, notes(end, effects="idempotent"), clock=clock, ends="crashes") as made:
                if attempt == 1:
                    execution_id = (await made.submit(await made.login())).execution.execution_id
                await eventually(partial(begun, attempt))
                clock = made.clock
        async with bench(tmp_path, notes(end, effects="idempotent"), clock=clock) as made:
            ended = await made.runner.outcome(execution_id)
            assert (ended.state, ended.reason, ended.attempt) == ("failed", "interrupted", 5)
        (row,) = [row for row in map(json.loads, lines()) if row["event"] == "execution.given_up"]
    assert row["execution_id"] == execution_id
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.checks("outcome_reaches_client", "once_runs_once")
@pytest.mark.parametrize("effects", ["once", "idempotent"])
@asynchronous
async def test_an_execution_of_a_killed_process_gets_its_outcome(tmp_path: Path, effects: Effects) -> None:
    """By SIGKILL, in the middle of the code."""
    command = [sys.executable, "-m", "tests.support.left_running", str(tmp_path), effects]
    killed = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert await killed.stdout.readline() == b"running\n"
    killed.kill()
    await killed.wait()

    async def echo(_context: Context, text: str) -> str:
        return text

    async with bench(tmp_path, notes(echo, effects=effects)) as made:
        ended = await made.runner.outcome(execution_id_of("acc_1", "i1"))
        expected = ("failed", "interrupted", 1) if effects == "once" else ("succeeded", None, 2)
        assert (ended.state, ended.reason, ended.attempt) == expected


@pytest.mark.checks("owner_only")
@asynchronous
async def test_a_start_interrupts_the_attempts_of_its_own_node_only(tmp_path: Path) -> None:
    code = Attempts()
    async with bench(tmp_path, notes(code, effects="idempotent"), ends="crashes") as made:
        session = await made.login()
        execution_id = (await made.submit(session)).execution.execution_id
        await eventually(lambda: code.seen)
    async with bench(tmp_path, notes(code, effects="idempotent"), clock=made.clock, node="n2") as made:
        assert (made.interrupted, len(made.executions.live)) == (0, 1)
        assert (await made.executions.load(execution_id)).node == "n1"
        assert (await made.run(session, intent_id="i2")).state == "succeeded"
        assert code.seen[0] == (execution_id, 1)
        assert len(code.seen) == 2
    async with bench(tmp_path, notes(code, effects="idempotent"), clock=made.clock) as made:
        assert (await made.runner.outcome(execution_id)).attempt == 2


@pytest.mark.checks("one_outcome")
@asynchronous
async def test_code_whose_execution_another_process_ends_is_cancelled(tmp_path: Path) -> None:
    code, cancelled = Attempts(), asyncio.Event()

    async def hang(context: Context, text: str) -> str:
        try:
            return await code(context, text)
        finally:
            cancelled.set()

    async with bench(tmp_path, notes(hang)) as made:
        session = await made.login()
        execution_id = (await made.submit(session)).execution.execution_id
        await eventually(lambda: code.seen)
        # Recorded beside the runner, as the log's feed brings the record of another process.
        await made.executions.submit(execution_id, *commands("acc_1", Cancel("asked")))
        await cancelled.wait()
        await eventually(lambda: made.runner.running == made.runner.busy == 0)
        assert await made.events(execution_id) == ["accept", "start", "cancel"]


@asynchronous
async def test_what_had_not_started_starts_after_a_restart(tmp_path: Path) -> None:
    """Once, whatever the effects: the code had not run."""
    code = Attempts()
    code.seen.append(("", 0))
    async with bench(tmp_path, notes(code), ends="crashes") as made:
        made.runner.drain()
        accepted = await made.submit(await made.login())
        assert made.runner.busy == 0
    async with bench(tmp_path, notes(code), clock=made.clock) as made:
        ended = await made.runner.outcome(accepted.execution.execution_id)
        assert (made.interrupted, ended.state, ended.attempt) == (0, "succeeded", 1)


@asynchronous
async def test_an_intent_whose_realm_is_gone_has_failed(tmp_path: Path) -> None:
    code = Attempts()
    async with bench(tmp_path, notes(code, effects="idempotent"), ends="crashes") as made:
        execution_id = (await made.submit(await made.login())).execution.execution_id
        await eventually(lambda: code.seen)
    async with bench(tmp_path, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason) == ("failed", "realm_missing")
        assert await made.events(execution_id) == ["accept", "start", "interrupt", "fail"]


@pytest.mark.checks("no_execution_after_fence")
@pytest.mark.parametrize("on_session_end", ["cancel", "finish"])
@asynchronous
async def test_nothing_starts_again_after_the_end_of_its_session(tmp_path: Path, on_session_end: Any) -> None:
    code = Attempts()
    realm = notes(code, effects="idempotent", on_session_end=on_session_end)
    async with bench(tmp_path, realm, ends="crashes") as made:
        session = await made.login()
        execution_id = (await made.submit(session)).execution.execution_id
        await eventually(lambda: code.seen)
    async with bench(tmp_path, realm, clock=made.clock, node="n2") as made:
        await made.end(session)
    async with bench(tmp_path, realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason, len(code.seen)) == ("cancelled", "session_ended", 1)
        assert await made.events(execution_id) == ["accept", "start", "interrupt", "cancel"]


@asynchronous
async def test_an_execution_whose_time_passed_while_the_server_was_down_fails(tmp_path: Path) -> None:
    code = Attempts()
    realm = notes(code, effects="idempotent", timeout_s=10)
    async with bench(tmp_path, realm, ends="crashes") as made:
        made.runner.drain()
        execution_id = (await made.submit(await made.login())).execution.execution_id
    made.clock.advance(10_000)
    async with bench(tmp_path, realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason, ended.attempt, code.seen) == ("failed", "timeout", 0, [])


@asynchronous
async def test_forged_parameters_do_not_run(tmp_path: Path) -> None:
    code = Attempts()
    async with bench(tmp_path, notes(code), ends="crashes") as made:
        made.runner.drain()
        execution_id = (await made.submit(await made.login())).execution.execution_id
    with shell(tmp_path) as database:
        database.execute("UPDATE execution_data SET parameters = replace(parameters, 'hello', 'forged')")
    async with bench(tmp_path, notes(code), clock=made.clock, ends="forged") as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason, code.seen) == ("failed", "error", [])


@asynchronous
async def test_parameters_that_are_not_declared_any_more_do_not_run(tmp_path: Path) -> None:
    code = Attempts()
    async with bench(tmp_path, notes(code), ends="crashes") as made:
        made.runner.drain()
        execution_id = (await made.submit(await made.login())).execution.execution_id
    async with bench(tmp_path, other_parameters(code), clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason, code.seen) == ("failed", "error", [])
        assert (await made.executions.data(execution_id)).error == "count: is missing"


def other_parameters(code: Any) -> Any:
    realm = Realm("notes")

    @realm.intent("notes.create")
    async def handle(context: Context, parameters: Counted) -> None:
        await code(context, str(parameters.count))

    return realm


@asynchronous
async def test_many_executions_are_taken_over(tmp_path: Path) -> None:
    """More than the log takes writes at once."""
    code = Attempts()
    code.seen.append(("", 0))
    async with bench(tmp_path, notes(code), ends="crashes") as made:
        made.runner.drain()
        session = await made.login()
        for number in range(60):
            await made.submit(session, intent_id=str(number))
    async with bench(tmp_path, notes(code), clock=made.clock, max_waiting=8) as made:
        await eventually(lambda: made.runner.busy == 0)
        page = await made.executions.page(session, None, 100)
        assert [each.state for each in page] == ["succeeded"] * 60
