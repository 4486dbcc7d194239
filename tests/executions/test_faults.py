"""Faults around an execution: a full disk, an overload, a log that has stopped, and a server that stops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from interlock.context import Context
from interlock.machine.errors import Overloaded, RecordRefused, StorageLow, SurfaceFailed
from interlock.machine.ledger import Record
from interlock.server.surface.log import Step
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.runtime import Bench, bench, notes


async def echo(_context: Context, text: str) -> str:
    return text


class Waits:
    def __init__(self) -> None:
        self.ends = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, _context: Context, text: str) -> str:
        try:
            await self.ends.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return text


async def begun(made: Bench, session: Any) -> str:
    execution_id = (await made.submit(session)).execution.execution_id
    await made.reached(execution_id, "running")
    await eventually(lambda: made.runner.running)
    return execution_id


@asynchronous
async def test_a_nearly_full_disk_takes_outcomes_and_nothing_new(tmp_path: Path) -> None:
    code = Waits()
    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        made.surface.refuse_growth(True)  # noqa: FBT003  # Surface says what it means
        with pytest.raises(StorageLow):
            await made.submit(session, intent_id="i2")
        assert len(made.executions.live) == 1
        code.ends.set()
        assert (await made.runner.outcome(execution_id)).state == "succeeded"


@pytest.mark.parametrize("end", ["asked", "timeout", "session_ended"])
@asynchronous
async def test_what_waits_for_room_on_the_disk_still_ends(tmp_path: Path, end: str) -> None:
    """A start is not recorded then; an end is."""
    async with bench(tmp_path, notes(echo, timeout_s=10)) as made:
        session = await made.login()
        refused = _refuse_starts(made, StorageLow)
        execution_id = (await made.submit(session)).execution.execution_id
        await eventually(lambda: refused)
        match end:
            case "asked":
                await made.cancel(session, execution_id)
            case "timeout":
                made.clock.advance(10_000)
            case "session_ended":
                await made.end(session)
        ended = await made.runner.outcome(execution_id)
        assert (ended.reason, ended.attempt) == (end, 0)


def _refuse_starts(made: Bench, error: Callable[[], Exception], times: int = 1_000) -> list[Step]:
    """Have the log refuse starts with ``error``. Return the refused ones, to which more are added."""
    refused: list[Step] = []
    log: Any = made.surface.log
    append = log.append

    def refuse(steps: Sequence[Step], under: Any = None) -> asyncio.Future[list[Record]]:
        if steps[0].transition.event != "start" or len(refused) == times:
            return append(steps, under)  # type: ignore[no-any-return]  # the log's own
        refused.append(steps[0])
        future: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
        future.set_exception(error())
        return future

    log.append = refuse
    return refused


@asynchronous
async def test_an_overloaded_log_delays_a_start(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        refused = _refuse_starts(made, lambda: Overloaded(0), times=3)
        assert (await made.run(await made.login())).state == "succeeded"
        assert len(refused) == 3


@asynchronous
async def test_an_error_of_the_server_itself_fails_the_execution(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        _refuse_starts(made, lambda: RecordRefused("a bug"), times=1)
        session = await made.login()
        ended = await made.run(session)
        assert (ended.state, ended.reason, ended.attempt) == ("failed", "error", 0)
        assert (await made.run(session, intent_id="i2")).state == "succeeded"


@asynchronous
async def test_a_stopped_log_stops_the_code_and_those_who_wait(tmp_path: Path) -> None:
    code = Waits()
    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        waiting = asyncio.create_task(made.runner.outcome(execution_id))
        await asyncio.sleep(0)
        writer: Any = made.surface.log._writer  # type: ignore[attr-defined]  # of the SQLite log
        writer.failure = "the disk is gone"
        with pytest.raises(SurfaceFailed):
            await waiting
        await eventually(lambda: made.runner.busy == 0)
        assert code.cancelled == 1
        for call in (made.submit(session, intent_id="i2"), made.runner.outcome(execution_id)):
            with pytest.raises(SurfaceFailed):
                await call
        writer.failure = None
        assert await made.events(execution_id) == ["accept", "start"]


@asynchronous
async def test_a_draining_server_ends_what_runs_and_starts_nothing(tmp_path: Path) -> None:
    code = Waits()
    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        made.runner.drain()
        later = (await made.submit(session, intent_id="i2")).execution.execution_id
        assert made.runner.busy == 1
        code.ends.set()
        await eventually(lambda: made.runner.busy == 0)
        assert (await made.executions.load(execution_id)).state == "succeeded"
        assert (await made.executions.load(later)).state == "accepted"
        assert (await made.cancel(session, later)).state == "cancelled"


@asynchronous
async def test_a_start_that_waits_for_the_log_does_not_hold_up_a_drain(tmp_path: Path) -> None:
    async with bench(tmp_path, notes(echo)) as made:
        refused = _refuse_starts(made, StorageLow)
        execution_id = (await made.submit(await made.login())).execution.execution_id
        await eventually(lambda: refused)
        made.runner.drain()
        await eventually(lambda: made.runner.busy == 0)
        assert await made.events(execution_id) == ["accept"]


async def swallow(_context: Context, text: str) -> str:
    """Run on, whatever cancels it."""
    for _ in range(1000):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return text


@pytest.mark.parametrize("code", [Waits(), swallow])
@asynchronous
async def test_nothing_runs_any_more_after_a_close(tmp_path: Path, code: Any) -> None:
    """And nothing more is recorded: the next start ends what ran."""
    async with bench(tmp_path, notes(code)) as made:
        execution_id = await begun(made, await made.login())
        waiting = asyncio.create_task(made.runner.outcome(execution_id))
        await asyncio.sleep(0)
        await made.runner.close()
        assert await made.events(execution_id) == ["accept", "start"]
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        names = {each.get_name() for each in asyncio.all_tasks()}
        assert not {each for each in names if each.startswith(("interlock-exe", "interlock-notes"))}


@asynchronous
async def test_a_close_waits_for_what_a_cancelled_caller_asked(tmp_path: Path) -> None:
    """The acceptance was handed to the log: it must not end with a log that is closed under it."""
    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        asking = asyncio.create_task(made.submit(session))
        await asyncio.sleep(0)
        assert made.executions.accepting
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await made.runner.close()
        assert not made.executions.accepting
        (execution,) = await made.executions.page(session, None, 9)
        assert execution.state == "accepted"


def test_a_server_ends_though_code_swallows_everything(tmp_path: Path) -> None:
    """In a process of its own, which such code would keep alive."""
    command = [sys.executable, "-m", "tests.support.left_running", str(tmp_path), "swallows"]
    ended = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"running\nclosed\n"), ended.stderr.decode()
