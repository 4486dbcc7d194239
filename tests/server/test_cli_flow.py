"""What ``interlock top`` makes of records and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.machine.errors import SurfaceFailed
from interlock.machine.session.commands import Revoke
from interlock.server.cli.live.flow import Flow
from interlock.server.cli.live.scrape import Scrape
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.surface.sqlite.observer import open_observer
from interlock.server.system.supervision import Supervisor
from tests.support.running import scenario
from tests.support.steps import Story


@scenario(60)
async def test_counts_kept_by_records_equal_counts_read_anew(tmp_path: Path) -> None:
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        await surface.log.append(Story("before").begin("ada", "node-1"))
        with open_observer(tmp_path) as observer:
            flow = Flow(observer)
            story = Story("meanwhile")
            await surface.log.append(story.begin("bob", "node-1"))
            await surface.log.append(story.tell(Revoke("logout")))
            await surface.log.append(Story("another").begin())
            kept = flow.look(0)
            read = Flow(observer).look(0)
    assert kept.counts == read.counts
    assert kept.counts["session"] == {"created": 1, "authenticated": 0, "connected": 1, "expired": 1}
    assert (kept.sockets, [each.session_id for each in kept.ends]) == (1, ["meanwhile"])


@scenario(60)
async def test_a_log_that_was_replaced_is_not_read_on(tmp_path: Path) -> None:
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        await surface.log.append(Story("before").begin("ada", "node-1"))
    log = tmp_path / "interlock.db"
    with open_observer(tmp_path) as observer:
        assert observer.end() > 0
        log.rename(tmp_path / "away")
        log.touch()
        with pytest.raises(SurfaceFailed, match="is another file now"):
            observer.end()
        log.unlink()
        with pytest.raises(SurfaceFailed, match="can't be read"):
            observer.after(0, 1)


def test_a_scrape_tells_what_happened_since_the_one_before() -> None:
    before = Scrape({"session connect: alive": 2}, 1, {0.01: 5, 0.1: 9, float("inf"): 10})
    now = Scrape({"session connect: alive": 2, "session refresh: alive": 1}, 3, {0.01: 5, 0.1: 109, float("inf"): 110})
    since = now.since(before)
    assert since.most_refused == [("session refresh: alive", 1)]
    assert since.commit_p99_s == 0.1
    restarted = Scrape({}, 0, {0.01: 1, 0.1: 1, float("inf"): 1})
    assert restarted.since(now) == restarted
    assert Scrape({}, 0, {}).commit_p99_s is None
