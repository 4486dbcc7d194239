"""The limit of the log's lead over its signed head: after a crash at any step, and while the head can't be written."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from interlock.machine.errors import Overloaded
from interlock.machine.session.commands import Revoke
from interlock.server.surface.sqlite import log as sqlite
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.faults.test_head import head_of
from tests.support.asynchronous import asynchronous
from tests.support.crashing import CRASHED, crash_at
from tests.support.forked import Forked
from tests.support.log import record_count
from tests.support.server import ServerProcess
from tests.support.steps import Story
from tests.support.verifying import live, verify


def test_a_kill_at_any_step_of_a_servers_run_leaves_a_valid_log(tmp_path: Path) -> None:
    """Before and after each write of the head, each rename and each commit."""
    data, survived, steps = tmp_path / "data", False, 0
    server = ServerProcess(data, {})
    server.start()
    asyncio.run(live(server))
    server.stop()
    while not survived:
        steps += 1
        survived = _crashed_at(data, steps)
        outcome = verify(data, "--require-head")
        assert outcome.exit_code == 0, (steps, outcome.output)
    assert steps > 10
    assert head_of(data).position == record_count(data)


def _crashed_at(data: Path, step: int) -> bool:
    """Run a server that dies at ``step``: start, write, stop. Return whether it survived all of it."""
    arguments = ["serve", "--port", "0", "--data", str(data), "--idle-timeout-s", "0.01"]
    process = Forked(arguments, dict(os.environ), data.with_name("stderr"), partial(crash_at, step))
    with process.stdout as stdout:
        line = stdout.readline()
        if line:
            with suppress(httpx.TransportError):
                httpx.post(f"{line.split()[3]}/api/session")
            process.send_signal(signal.SIGTERM)
    status = process.wait(timeout=120)
    assert status in {0, CRASHED, -signal.SIGTERM}, status
    return status != CRASHED


@asynchronous
async def test_the_log_waits_for_a_head_that_lags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "HEAD_LAG", 4)
    monkeypatch.setattr(sqlite, "_HEAD_WAIT_S", 0.05)
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        await surface.log.append(Story("a").begin())
        await surface.log.append(Story("b").begin())
        await surface.log.append(Story("c").begin())
        surface.head_lag.signed(1)
        appended = await asyncio.gather(
            *(surface.log.append(Story(f"session-{n}").begin()) for n in range(5)), return_exceptions=True
        )
        refused = [each for each in appended if isinstance(each, Overloaded)]
        assert len(refused) == 4
        newest = await surface.log.newest()
        assert newest is not None
        assert newest.position == 4
        surface.head_lag.signed(4)
        await surface.log.append(Story("later").begin())
        assert surface.log.failure is None


@asynchronous
async def test_sessions_can_end_while_the_head_is_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "HEAD_LAG", 8)
    monkeypatch.setattr(sqlite, "_HEAD_WAIT_S", 0.05)
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        surface.head_lag.signed(0)
        stories = [Story(f"session-{number}") for number in range(10)]
        begun = [surface.log.append(story.begin()) for story in stories]
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [list] * 6 + [Overloaded] * 4
        for story in stories[:2]:
            await surface.log.append(story.tell(Revoke("revoked")))
        with pytest.raises(Overloaded):
            await surface.log.append(stories[2].tell(Revoke("revoked")))
