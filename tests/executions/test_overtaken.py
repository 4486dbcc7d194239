"""Authority is decided where it is written: whatever a runner has seen before, the log refuses what comes after the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.context import Context
from interlock.machine.account.commands import Disable
from interlock.machine.session.commands import Reauthenticate
from interlock.server.runtime.door import commands
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.runtime import Bench, bench, notes


def overtake(made: Bench, event: str, change: Callable[[], Any]) -> None:
    """Have ``change`` recorded right before the first ``event`` of an execution. The runner does not hear of it."""
    submit = made.executions.submit
    made.feed._listeners = [each for each in made.feed._listeners if each[0] == "execution"]
    done: list[bool] = []

    async def submit_late(instance_id: str, *asked: Any, **more: Any) -> Any:
        if asked[0].data.event == event and not done:
            done.append(True)
            await change()
        return await submit(instance_id, *asked, **more)

    made.executions.submit = submit_late  # type: ignore[method-assign]  # what no client can time


@pytest.mark.checks("no_execution_after_fence")
@pytest.mark.parametrize("loss", ["end", "disable"])
@pytest.mark.parametrize(
    ("event", "events"),
    [
        ("start", ["accept", "cancel"]),
        ("succeed", ["accept", "start", "cancel"]),
        ("fail", ["accept", "start", "cancel"]),
    ],
)
@asynchronous
async def test_a_record_that_the_end_of_its_session_overtakes_is_refused(
    tmp_path: Path, event: str, events: list[str], loss: str
) -> None:
    ran: list[str] = []

    async def code(_context: Context, text: str) -> str:
        ran.append(text)
        if event == "fail":
            raise ValueError
        return text

    async with bench(tmp_path, notes(code)) as made:
        session = await made.login()
        losing = {"end": lambda: made.end(session), "disable": lambda: made.account("acc_1", Disable())}
        overtake(made, event, losing[loss])
        ended = await made.run(session)
        assert (ended.state, ended.reason) == ("cancelled", "session_ended")
        assert await made.events(ended.execution_id) == events
        assert len(ran) == (event != "start")


@pytest.mark.parametrize("event", ["start", "succeed"])
@asynchronous
async def test_a_record_that_a_login_on_its_session_overtakes_is_written(tmp_path: Path, event: str) -> None:
    async def echo(_context: Context, text: str) -> str:
        return text

    async with bench(tmp_path, notes(echo)) as made:
        session = await made.login()
        again = commands("acc_1", Reauthenticate("acc_1", "exchange"))
        overtake(made, event, lambda: made.sessions.submit(session.session_id, *again))
        assert (await made.run(session)).state == "succeeded"


@asynchronous
async def test_a_cancellation_that_the_end_of_its_session_overtakes_says_so(tmp_path: Path) -> None:
    async def hang(_context: Context, _text: str) -> str:
        await asyncio.Event().wait()
        return ""

    async with bench(tmp_path, notes(hang)) as made:
        session = await made.login()
        execution_id = (await made.submit(session)).execution.execution_id
        await eventually(lambda: made.runner.running)
        overtake(made, "cancel", lambda: made.end(session))
        ended = await made.cancel(session, execution_id)
        assert (ended.state, ended.reason) == ("cancelled", "session_ended")
        assert ended.version == 3
