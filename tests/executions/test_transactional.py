"""Transactional effects: what a realm's transaction has committed is recorded, and nothing else, whatever happens."""

from __future__ import annotations

import asyncio
import gc
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from interlock.context import Context
from interlock.realm import GRACE_MS
from tests.support.asynchronous import asynchronous
from tests.support.ledger import Ledger, begun, fail, hang, nothing
from tests.support.running import eventually
from tests.support.runtime import Bench, bench


@asynchronous
async def test_a_committed_result_is_the_outcome(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    async with bench(tmp_path, ledger.realm) as made:
        ended = await made.run(await made.login())
        assert (ended.state, ledger.effects) == ("succeeded", 1)
        assert (await made.executions.data(ended.execution_id)).result == '{"text":"hello"}'


@asynchronous
async def test_code_that_fails_before_its_commit_has_no_effect(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.before = fail
    async with bench(tmp_path, ledger.realm) as made:
        ended = await made.run(await made.login())
        assert (ended.state, ended.reason, ledger.effects) == ("failed", "error", 0)


@pytest.mark.checks("committed_is_outcome")
@pytest.mark.parametrize("stop", ["asked", "session_ended", "timeout"])
@asynchronous
async def test_a_committed_result_is_never_recorded_as_cancelled(tmp_path: Path, stop: str) -> None:
    """The code is stopped after its commit: the effects are there, and so is the outcome that says so."""
    ledger = Ledger(tmp_path)
    ledger.after = hang
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.effects)
        ended = await stopped(made, session, execution_id, stop)
        assert (ended.state, ended.reason, ledger.effects) == ("succeeded", None, 1)
        assert (await made.executions.data(execution_id)).result == '{"text":"hello"}'
        assert made.late == 0


@pytest.mark.checks("committed_is_outcome")
@pytest.mark.parametrize("stop", ["asked", "session_ended", "timeout"])
@asynchronous
async def test_code_that_goes_on_after_its_end_commits_nothing(tmp_path: Path, stop: str) -> None:
    """The store is closed before the end is recorded."""
    ledger = Ledger(tmp_path)
    go, refused = asyncio.Event(), asyncio.Event()

    async def ignore(_context: Context) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                refused.set()

    ledger.before = ignore
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: made.runner.running)
        stopping = asyncio.create_task(stopped(made, session, execution_id, stop))
        await refused.wait()
        made.clock.advance(GRACE_MS)
        ended = await stopping
        assert ended.reason == stop
        go.set()
        await eventually(lambda: not made.runner.running)
        assert ledger.effects == 0
        assert await made.executions.load(execution_id) == ended


@pytest.mark.checks("committed_is_outcome")
@pytest.mark.parametrize("stop", ["asked", "session_ended", "timeout"])
@asynchronous
async def test_code_that_goes_on_when_it_is_cancelled_commits_nothing(tmp_path: Path, stop: str) -> None:
    """Not even within its grace: the store is closed at once."""
    ledger = Ledger(tmp_path)
    closed = asyncio.Event()

    async def ignore(_context: Context) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await closed.wait()

    ledger.before = ignore
    close = ledger.store.close

    async def tell(execution_id: str, attempt: int) -> bytes | None:
        committed = await close(execution_id, attempt)
        closed.set()
        return committed

    ledger.store.close = tell  # type: ignore[method-assign]  # so that the code can wait for it
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: made.runner.running)
        ended = await stopped(made, session, execution_id, stop)
        assert (ended.reason, ledger.effects) == (stop, 0)


async def stopped(made: Bench, session: Any, execution_id: str, stop: str) -> Any:
    match stop:
        case "asked":
            return await made.cancel(session, execution_id)
        case "session_ended":
            await made.end(session)
        case "timeout":
            made.clock.advance(60_000)
    return await made.runner.outcome(execution_id)


@pytest.mark.checks("committed_is_outcome")
@asynchronous
async def test_an_attempt_that_a_crash_took_after_its_commit_has_succeeded(tmp_path: Path) -> None:
    """Even if its session has ended since. The code does not run again, and the attempt is the one that committed."""
    ledger = Ledger(tmp_path)
    ledger.after = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.effects)
    async with bench(tmp_path, clock=made.clock, node="other") as made:
        await made.end(session)
    async with bench(tmp_path, ledger.realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.attempt, ledger.effects, ledger.attempts) == ("succeeded", 1, 1, [1])
        assert await made.events(execution_id) == ["accept", "start", "succeed"]


@asynchronous
async def test_an_attempt_that_a_crash_took_before_its_commit_is_repeated(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.before = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        execution_id = await begun(made, await made.login())
        await eventually(lambda: ledger.attempts)
    ledger.before = nothing
    async with bench(tmp_path, ledger.realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (made.interrupted, ended.state, ended.attempt) == (1, "succeeded", 2)
        assert (ledger.effects, ledger.attempts) == (1, [1, 2])


@pytest.mark.checks("committed_is_outcome")
@asynchronous
async def test_a_stale_commit_can_not_follow_the_end_of_an_interrupted_attempt(tmp_path: Path) -> None:
    """A commit of the dead process may arrive late: after the interruption it is refused."""
    ledger = Ledger(tmp_path)
    ledger.before = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.attempts)
    async with bench(tmp_path, clock=made.clock, node="other") as made:
        await made.end(session)
    async with bench(tmp_path, ledger.realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason) == ("cancelled", "session_ended")
        with closing(ledger.connect()) as connection:
            connection.execute("INSERT INTO effects VALUES ('stale')")
            with pytest.raises(Exception, match="may not commit"):
                await ledger.store.commit(connection, execution_id, 1, b"{}")
        assert ledger.effects == 0


@pytest.mark.parametrize("ends", ["cancelled", "closed"])
@asynchronous
async def test_what_cut_off_code_raises_is_no_fault_of_the_server(tmp_path: Path, ends: str) -> None:
    ledger = Ledger(tmp_path)
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))

    async def raise_when_cancelled(_context: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError from None

    ledger.before = raise_when_cancelled
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.attempts)
        if ends == "cancelled":
            assert (await made.cancel(session, execution_id)).state == "cancelled"
    del made
    gc.collect()
    assert faults == []
