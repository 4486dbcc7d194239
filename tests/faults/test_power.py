"""A power cut: what was synced of each file is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.machine.session.commands import Authenticate, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.sqlite.files import LOG_NAME, open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.asynchronous import asynchronous
from tests.support.power import synced_files
from tests.support.steps import Story


@pytest.mark.checks("durability")
@asynchronous
async def test_acknowledged_records_survive_a_power_cut(tmp_path: Path) -> None:
    after = tmp_path / "after"
    after.mkdir()
    story = Story()
    with synced_files() as synced:
        async with open_surface(
            tmp_path / "before", max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()
        ) as surface:
            acknowledged = await surface.log.append(story.begin())
            acknowledged += await surface.log.append(story.tell(Authenticate("ada", "password"), Touch()))
            for path, content in synced.items():
                # SQLite syncs the folder when it removes a journal.
                if path.exists():
                    (after / path.name).write_bytes(content)
    assert {path.name for path in synced} >= {LOG_NAME}, "SQLite was listened to"
    async with open_surface(after, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        assert await surface.log.history("session", story.session_id, 0, 100) == acknowledged
        assert await surface.log.load(SESSION_MACHINE, story.session_id) == story.session
