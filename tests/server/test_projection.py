"""A start's comparison of live sessions. Edits that it refuses: tests/faults/test_forged_log.py."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pysqlite3
import pytest

from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.sqlite.files import LOG_NAME, open_surface
from interlock.server.surface.sqlite.schema import LIVE
from interlock.server.system.supervision import Supervisor
from tests.support.asynchronous import asynchronous
from tests.support.steps import POLICY, Story

LOGIN_AGAIN = Reauthenticate("ada", "password")
LIVES: dict[str, list[Data]] = {
    "created": [],
    "created and refreshed": [Touch(), Refresh(0, 0), Refresh(0, 1)],
    "logged in": [Authenticate("ada", "password")],
    "logged in elsewhere, at some time": [Authenticate("ada", "exchange", None)],
    "logged in elsewhere, a while ago": [Authenticate("ada", "exchange", 7_000)],
    "refreshed before a login": [Refresh(0, 0), Authenticate("ada", "exchange", 7_000)],
    "refreshed after a login": [Refresh(0, 0), Authenticate("ada", "password"), Refresh(1, 1)],
    "logged in again": [Authenticate("ada", "exchange", 7_000), Refresh(1, 0), Touch(), LOGIN_AGAIN],
    "active after a login": [Authenticate("ada", "password"), LOGIN_AGAIN, Touch(), Refresh(2, 0)],
    "connected": [Authenticate("ada", "password"), Connect("con-1", "node-1"), Touch(), Connect("con-2", "node-1")],
    "disconnected": [Authenticate("ada", "password"), Connect("con-1", "node-1"), Disconnect("con-1", 1000)],
    "expired": [Authenticate("ada", "password"), Revoke("logout")],
}


@asynchronous
async def test_a_start_accepts_what_a_server_has_written(tmp_path: Path) -> None:
    """Each event, alone and after others."""
    stories = []
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        for told in LIVES.values():
            story = Story()
            for data in (Create(POLICY), *told):
                await surface.log.append(story.tell(data))
                story.at_ms += 1_000
            stories.append(story)
    assert {data.event for told in LIVES.values() for data in told} == {*SESSION_MACHINE.data} - {"create", "expire"}
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        assert [await surface.log.load(SESSION_MACHINE, story.session_id) for story in stories] == [
            each.session for each in stories
        ]


@asynchronous
async def test_a_start_reads_no_ended_session(tmp_path: Path) -> None:
    """Otherwise it would take longer each day."""
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()):
        pass
    with closing(pysqlite3.connect(str(tmp_path / LOG_NAME))) as shell:
        plan = [step for *_, step in shell.execute(f"EXPLAIN QUERY PLAN {LIVE}", ("session",)).fetchall()]
    assert plan[0] == "SEARCH instances USING INDEX instances_live (kind=?)"
    assert [step for step in plan if step.startswith("SCAN") and "subquery" not in step] == []
