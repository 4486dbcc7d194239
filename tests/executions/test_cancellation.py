"""Cancellation and deadlines: an execution ends in time, whatever its code does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from interlock.context import Context
from interlock.machine.account.commands import Delete, Disable
from interlock.machine.errors import ExecutionNotFound, TokenExpired
from interlock.machine.session.commands import Reauthenticate
from interlock.realm import GRACE_MS
from interlock.server.runtime.door import commands
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.runtime import Bench, bench, notes


class Code:
    """Code that waits. ``ends`` lets it return; what it does when it is cancelled, a subclass says."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.ends = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, context: Context, text: str) -> str:
        try:
            return await self.work(context, text)
        finally:
            self.over.set()

    async def work(self, _context: Context, text: str) -> str:
        await self.ends.wait()
        return text


class Obeys(Code):
    """Ends at once when it is cancelled."""


class CleansUp(Code):
    """Returns a result when it is cancelled, like code that stops halfway."""

    async def work(self, _context: Context, text: str) -> str:
        try:
            await self.ends.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
        return text


class Ignores(Code):
    """Swallows its cancellation, and goes on."""

    async def work(self, context: Context, text: str) -> str:
        while not self.ends.is_set():
            try:
                await self.ends.wait()
            except asyncio.CancelledError:
                assert context.cancelled
                self.cancelled += 1
        return text


async def begun(made: Bench, session: Any, **ids: str) -> str:
    accepted = await made.submit(session, **ids)
    await made.reached(accepted.execution.execution_id, "running")
    await eventually(lambda: made.runner.running)
    return accepted.execution.execution_id


@pytest.mark.parametrize("kind", [Obeys, CleansUp])
@asynchronous
async def test_its_owner_cancels_a_running_execution(tmp_path: Path, kind: type[Code]) -> None:
    code = kind()
    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        ended = await made.cancel(session, execution_id)
        assert (ended.state, ended.reason) == ("cancelled", "asked")
        assert code.over.is_set()
        await eventually(lambda: made.late == (kind is CleansUp))
        assert (await made.executions.data(execution_id)).result is None
        (*_, last) = await made.executions.history(execution_id, 0, 9)
        assert last.transition.actor == "acc_1"
        assert await made.cancel(session, execution_id) == ended, "a repeat changes nothing"


@pytest.mark.checks("outcome_reaches_client")
@asynchronous
async def test_code_that_does_not_stop_has_five_seconds(tmp_path: Path) -> None:
    """Then the end is recorded whatever the code does, and what it returns later is refused and counted."""
    code = Ignores()
    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        cancelling = asyncio.create_task(made.cancel(session, execution_id))
        await eventually(lambda: code.cancelled)
        made.clock.advance(GRACE_MS - 1)
        await asyncio.sleep(0.05)
        assert (await made.executions.load(execution_id)).state == "running"
        made.clock.advance(1)
        ended = await cancelling
        assert (ended.state, ended.reason, made.late, made.runner.running) == ("cancelled", "asked", 0, 1)
        assert made.runner.busy == 0
        code.ends.set()
        await eventually(lambda: made.late)
        assert await made.executions.load(execution_id) == ended
        assert (made.late, made.runner.running) == (1, 0)


@pytest.mark.parametrize("kind", [Obeys, CleansUp, Ignores])
@asynchronous
async def test_an_execution_fails_at_its_deadline(tmp_path: Path, kind: type[Code]) -> None:
    code = kind()
    async with bench(tmp_path, notes(code, timeout_s=10)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        made.clock.advance(9_999)
        await asyncio.sleep(0.05)
        assert (await made.executions.load(execution_id)).state == "running"
        made.clock.advance(1)
        if kind is Ignores:
            await eventually(lambda: code.cancelled)
            made.clock.advance(GRACE_MS)
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason, ended.error) == ("failed", "timeout", None)
        await eventually(lambda: made.late == (kind is CleansUp))
        code.ends.set()
        await code.over.wait()


@asynchronous
async def test_only_its_owner_cancels_an_execution_and_only_under_a_valid_credential(tmp_path: Path) -> None:
    code = Obeys()
    async with bench(tmp_path, notes(code)) as made:
        session, other = await made.login(), await made.login("acc_2")
        execution_id = await begun(made, session)
        with pytest.raises(ExecutionNotFound):
            await made.cancel(other, execution_id)
        await made.sessions.submit(session.session_id, *commands("acc_1", Reauthenticate("acc_1", "exchange")))
        with pytest.raises(TokenExpired):
            await made.cancel(session, execution_id)
        assert (await made.executions.load(execution_id)).state == "running"
        code.ends.set()
        assert (await made.runner.outcome(execution_id)).state == "succeeded"


@pytest.mark.checks("no_execution_after_fence")
@pytest.mark.parametrize("kind", [Obeys, CleansUp, Ignores])
@asynchronous
async def test_the_end_of_the_session_cancels_its_executions(tmp_path: Path, kind: type[Code]) -> None:
    """When the revocation is acknowledged, the cancellation has begun. Other sessions' go on."""
    code, others = kind(), Obeys()

    async def either(context: Context, text: str) -> str:
        return await (code if text == "hello" else others)(context, text)

    async with bench(tmp_path, notes(either)) as made:
        session, other = await made.login(), await made.login()
        execution_id, kept = await begun(made, session), await begun(made, other, intent_id="i2", text="other")
        await made.end(session)
        assert made.runner._runs[execution_id].stopped.done()
        if kind is Ignores:
            await eventually(lambda: code.cancelled)
            made.clock.advance(GRACE_MS)
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason) == ("cancelled", "session_ended")
        code.ends.set()
        await code.over.wait()
        assert (await made.executions.load(kept)).state == "running"
        others.ends.set()
        assert (await made.runner.outcome(kept)).state == "succeeded"


@pytest.mark.checks("no_execution_after_fence")
@pytest.mark.parametrize("loss", ["disable", "delete"])
@asynchronous
async def test_what_an_account_loses_cancels_before_its_sessions_end(tmp_path: Path, loss: str) -> None:
    """The ends of the sessions are recorded later, and may be lost with the server."""
    code = Obeys()
    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await made.account("acc_1", Disable() if loss == "disable" else Delete())
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason) == ("cancelled", "session_ended")
        assert not (await made.sessions.load(session.session_id)).ended


@asynchronous
async def test_a_session_that_cannot_be_checked_keeps_no_other_from_its_end(tmp_path: Path) -> None:
    code = Obeys()
    async with bench(tmp_path, notes(code)) as made:
        sessions = [await made.login() for _ in range(3)]
        begun_ids = [await begun(made, each, intent_id=each.session_id) for each in sessions]
        executions: Any = made.executions
        standing = executions.standing
        broken: list[str] = []

        async def fails_once(session_id: str) -> Any:
            if not broken:
                broken.append(session_id)
                raise ValueError
            return await standing(session_id)

        executions.standing = fails_once
        with capture_logs() as logged:
            await made.account("acc_1", Disable())
            ends = [await made.executions.load(each) for each in begun_ids]
            for each in ends:
                if each.session_id not in broken:
                    assert (await made.runner.outcome(each.execution_id)).reason == "session_ended"
        assert [each["event"] for each in logged if each["log_level"] == "error"] == ["task.failed"]


@asynchronous
async def test_a_cancelled_execution_emits_and_submits_nothing_more(tmp_path: Path) -> None:
    tried: list[str] = []

    async def go_on(context: Context, _text: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for what in (lambda: context.emit(1), lambda: context.submit("notes.create", {"text": "child"})):
                try:
                    await what()
                except asyncio.CancelledError:
                    tried.append("refused")
        return "late"

    async with bench(tmp_path, notes(go_on)) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await made.cancel(session, execution_id)
        assert (tried, made.heard) == (["refused", "refused"], [])
        assert [each.execution_id for each in await made.executions.page(session, None, 9)] == [execution_id]
