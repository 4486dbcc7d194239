"""Outcomes: what is recorded of what the realm's code does, whatever it does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from interlock.context import Context
from interlock.machine.account.commands import Delete
from interlock.machine.errors import ExecutionNotFound, IntentUnknown
from interlock.machine.session.commands import Reauthenticate
from interlock.server.runtime.door import commands
from interlock.store import in_thread
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.runtime import Text, bench, notes


async def value_error(_context: Context, _text: str) -> str:
    raise ValueError("password=secret")


async def on_purpose(_context: Context, _text: str) -> str:
    raise IntentUnknown


async def stops_the_server(_context: Context, _text: str) -> str:
    raise SystemExit(3)


async def interrupts(_context: Context, _text: str) -> str:
    raise KeyboardInterrupt


async def stops_in_a_group(context: Context, text: str) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(stops_the_server(context, text))
    return text


async def stops_among_others(context: Context, text: str) -> str:
    await asyncio.gather(asyncio.sleep(60), interrupts(context, text))
    return text


async def stops_in_a_thread(_context: Context, text: str) -> str:
    await asyncio.gather(in_thread(sys.exit))
    return text


class Odd(BaseException):
    """What no realm should raise."""


async def base_exception(_context: Context, _text: str) -> str:
    raise Odd("password=secret")


async def cancels_itself(_context: Context, _text: str) -> str:
    raise asyncio.CancelledError


async def wrong_type(_context: Context, _text: str) -> Any:
    return Wrong()


class Wrong(Text):
    text: Any = 7


async def too_large(_context: Context, _text: str) -> str:
    return "x" * 65_536


ERRORS = {
    value_error: "the realm's code raised ValueError",
    on_purpose: "no realm declares an intent of this name",
    stops_the_server: "the realm's code raised SystemExit",
    interrupts: "the realm's code raised KeyboardInterrupt",
    stops_in_a_group: "the realm's code raised ExceptionGroup",
    stops_among_others: "the realm's code raised KeyboardInterrupt",
    stops_in_a_thread: "the realm's code raised SystemExit",
    base_exception: "the realm's code raised Odd",
    cancels_itself: "the realm's code raised CancelledError",
    wrong_type: "the result does not fit its declared type: text: Expected `str`, got `int`",
    too_large: "the result is 65547 bytes of JSON; the limit is 65536",
}


@pytest.mark.parametrize(("code", "error"), ERRORS.items(), ids=lambda each: getattr(each, "__name__", ""))
@asynchronous
async def test_code_that_fails_fails_its_execution_alone(tmp_path: Path, code: Any, error: str) -> None:
    """The owner gets no text of an error that was not made for callers. The server goes on."""

    async def some(context: Context, text: str) -> Any:
        return await code(context, text) if text == "fail" else text

    async with bench(tmp_path, notes(some)) as made:
        session = await made.login()
        ended = await made.run(session, text="fail")
        assert (ended.state, ended.reason, ended.attempt) == ("failed", "error", 1)
        data = await made.executions.data(ended.execution_id)
        assert (data.result, data.error) == (None, error)
        assert (await made.run(session, intent_id="i2")).state == "succeeded"
        assert made.late == 0


@asynchronous
async def test_a_login_on_the_session_meanwhile_does_not_matter(tmp_path: Path) -> None:
    """The outcome needs the session, at whatever epoch."""
    go = asyncio.Event()

    async def wait(_context: Context, text: str) -> str:
        await go.wait()
        return text

    async with bench(tmp_path, notes(wait)) as made:
        session = await made.login()
        accepted = await made.submit(session)
        await made.reached(accepted.execution.execution_id, "running")
        await made.sessions.submit(session.session_id, *commands("acc_1", Reauthenticate("acc_1", "exchange")))
        go.set()
        assert (await made.runner.outcome(accepted.execution.execution_id)).state == "succeeded"


@pytest.mark.checks("no_execution_after_fence")
@asynchronous
async def test_a_result_after_the_end_of_the_session_is_refused(tmp_path: Path) -> None:
    """Even if the code has returned before it is cancelled: its record comes after that of the end."""
    ended = asyncio.Event()

    async def wait(_context: Context, text: str) -> str:
        await ended.wait()
        return text

    async with bench(tmp_path, notes(wait)) as made:
        session = await made.login()
        accepted = await made.submit(session)
        execution_id = accepted.execution.execution_id
        await made.reached(execution_id, "running")
        # The runner is not told of the end, like one whose code returns at the same moment.
        made.runner.observe_session = lambda *_: None  # type: ignore[method-assign]  # a fault that is put in
        made.feed._listeners = [each for each in made.feed._listeners if each[0] != "session"]
        await made.end(session)
        ended.set()
        outcome = await made.runner.outcome(execution_id)
        assert (outcome.state, outcome.reason) == ("cancelled", "session_ended")
        assert (await made.executions.data(execution_id)).result is None
        assert made.late == 1


@asynchronous
async def test_code_that_may_finish_goes_on_after_the_end_of_its_session(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def wait(context: Context, text: str) -> str:
        await ended.wait()
        assert not context.cancelled
        return text

    async with bench(tmp_path, notes(wait, on_session_end="finish")) as made:
        session = await made.login()
        accepted = await made.submit(session)
        await made.reached(accepted.execution.execution_id, "running")
        await made.end(session)
        ended.set()
        assert (await made.runner.outcome(accepted.execution.execution_id)).state == "succeeded"


@asynchronous
async def test_code_that_may_finish_outlives_its_account_without_data(tmp_path: Path) -> None:
    """Its result is recorded, and not stored: the data was erased with the account."""
    deleted = asyncio.Event()

    async def wait(_context: Context, text: str) -> str:
        await deleted.wait()
        return text

    async with bench(tmp_path, notes(wait, on_session_end="finish")) as made:
        session = await made.login()
        accepted = await made.submit(session)
        execution_id = accepted.execution.execution_id
        await made.reached(execution_id, "running")
        await made.account("acc_1", Delete())
        deleted.set()
        assert (await made.runner.outcome(execution_id)).state == "succeeded"
        with pytest.raises(ExecutionNotFound):
            await made.executions.data(execution_id)


@asynchronous
async def test_code_gets_the_facts_of_its_execution(tmp_path: Path) -> None:
    seen: list[Context] = []

    async def look(context: Context, _text: str) -> str:
        seen.append(context)
        return ""

    async with bench(tmp_path, notes(look, timeout_s=7)) as made:
        session = await made.login("acc_1", "staff")
        ended = await made.run(session)
        (context,) = seen
        assert (context.session_id, context.subject, set(context.groups)) == (session.session_id, "acc_1", {"staff"})
        assert (context.execution_id, context.intent_id, context.attempt) == (ended.execution_id, "i1", 1)
        assert context.deadline_ms == ended.created_at_ms + 7_000
        (start,) = [r for r in await made.executions.history(ended.execution_id, 0, 9) if r.transition.event == "start"]
        assert context.fence == (start.position, 1)


@asynchronous
async def test_progress_reaches_the_sink_in_order_until_the_end(tmp_path: Path) -> None:
    async def tell(context: Context, _text: str) -> str:
        for number in range(3):
            await context.emit({"n": number})
        return ""

    async with bench(tmp_path, notes(tell)) as made:
        ended = await made.run(await made.login())
        assert made.heard == [(ended.execution_id, b'{"n":%d}' % number) for number in range(3)]


@asynchronous
async def test_a_task_that_code_leaves_behind_emits_and_submits_nothing(tmp_path: Path) -> None:
    """Progress after the outcome would have no place, and a child no parent that runs."""
    go = asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    async def later(call: Any) -> None:
        await go.wait()
        await call()

    async def leave(context: Context, text: str) -> str:
        left.append(asyncio.create_task(later(lambda: context.emit(1))))
        left.append(asyncio.create_task(later(lambda: context.submit("notes.create", {"text": "child"}))))
        return text

    async with bench(tmp_path, notes(leave)) as made:
        assert (await made.run(await made.login())).state == "succeeded"
        go.set()
        await asyncio.wait(left)
        assert [each.cancelled() for each in left] == [True, True]
        assert (made.heard, made.submissions, len(made.executions.live)) == ([], [], 0)


@asynchronous
async def test_a_failing_sink_of_progress_does_not_reach_the_code(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError

    async def tell(context: Context, text: str) -> str:
        await context.emit(1)
        return text

    async with bench(tmp_path, notes(tell)) as made:
        made.runner.subscribe_progress(fail)
        assert (await made.run(await made.login())).state == "succeeded"


@asynchronous
async def test_nothing_of_an_execution_stays_in_memory_after_its_end(tmp_path: Path) -> None:
    async def some(_context: Context, text: str) -> str:
        if text == "fail":
            raise ValueError
        if text == "hang":
            await asyncio.Event().wait()
        return text

    async with bench(tmp_path, notes(some)) as made:
        session = await made.login()
        for number, text in enumerate(("ok", "fail", "hang") * 10):
            accepted = await made.submit(session, text=text, intent_id=str(number))
            if text == "hang":
                waiting = asyncio.create_task(made.runner.outcome(accepted.execution.execution_id))
                await made.reached(accepted.execution.execution_id, "running")
                await made.cancel(session, accepted.execution.execution_id)
                await waiting
            else:
                await made.runner.outcome(accepted.execution.execution_id)
        given_up = asyncio.create_task(
            made.runner.outcome((await made.submit(session, text="hang", intent_id="x")).execution.execution_id)
        )
        await asyncio.sleep(0.05)
        given_up.cancel()
        await made.end(session)
        await eventually(lambda: made.runner.busy == 0)
        runner = made.runner
        for left in (runner._runs, runner._drivers, runner._waiters, runner._overdue, runner._in_grace):
            assert not left
        assert (len(made.executions.live), runner.running, runner._stores.calls) == (0, 0, set())
        assert not made.executions.live._ids
        assert not made.executions._accepting._waiting
        assert len(runner._deadlines) <= 2 * 256
