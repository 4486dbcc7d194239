"""The feed: the order of listeners, the effect of a failing one, and memory that is never older than the followed log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from interlock.machine.closing import Close
from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import Record
from interlock.machine.machine import InstanceT, Machine
from interlock.machine.session.commands import Authenticate, Reauthenticate, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.runtime.door import commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.log import Followed, Follower
from interlock.server.surface.memory import MemoryLog, MemoryStore
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.asynchronous import asynchronous
from tests.support.clock import HandClock
from tests.support.door import Door
from tests.support.log import BEGUN
from tests.support.running import eventually
from tests.support.steps import POLICY, Story
from tests.support.wire import register, services_in


@asynchronous
async def test_memory_has_a_whole_batch_before_any_listener_is_called() -> None:
    """And the first listener, which closes sockets, has all of it before the second is called."""
    log = MemoryLog()
    feed = Feed(log)
    heard: list[tuple[str, int]] = []
    for name in ("sockets", "log"):
        feed.subscribe(lambda record, _after, name=name: heard.append((name, record.position)))  # type: ignore[misc]  # mypy can't type a lambda's defaults
    feed.remember("session", lambda record, _after: heard.append(("memory", record.position)))
    feed.remember("account", lambda record, _after: heard.append(("other memory", record.position)))
    await feed.start(0)
    await log.append(Story().begin("ada"))
    assert heard == [(name, position) for name in ("memory", "sockets", "log") for position in (1, 2)]
    assert feed.position == 2


@asynchronous
async def test_a_failing_memory_stops_the_log_and_all_answers() -> None:
    stops: list[str] = []
    log = MemoryLog(on_failure=stops.append)
    feed = Feed(log)
    heard: list[int] = []

    def fail(_record: Record, _after: object) -> None:
        raise ZeroDivisionError

    feed.remember("session", fail)
    feed.subscribe(lambda record, _after: heard.append(record.position))
    sessions = Sessions(feed, HandClock(), policy=POLICY, cache_limit=10)
    await feed.start(0)
    with capture_logs() as logs, pytest.raises(SurfaceFailed):
        await sessions.begin("anonymous")
    assert [each["event"] for each in logs] == ["feed.failed"]
    with pytest.raises(SurfaceFailed):
        sessions.check_alive()
    assert (heard, stops) == ([], [sessions.failure])


@pytest.mark.checks("cache_is_fold")
@asynchronous
async def test_a_server_with_failing_memory_closes_sockets_and_refuses_all(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services:
        session = (await services.sessions.begin("ada", Authenticate("ada", "password"))).instance
        port = Mock()
        register(services.connections, "another", "con", port, "ada")
        services.sessions._remember = Mock(side_effect=ZeroDivisionError)  # type: ignore[method-assign]  # a fault of ours
        with capture_logs() as logs, pytest.raises(SurfaceFailed):
            await services.sessions.submit(session.session_id, *commands("ada", Touch()))
        assert [each["event"] for each in logs] == ["feed.failed", "surface.failed"]
        port.close.assert_called_once_with(Close("internal_error"))
        port.observe.assert_not_called()
        with pytest.raises(SurfaceFailed):
            services.sessions.cached(session.session_id)
        with pytest.raises(SurfaceFailed):
            await services.sessions.begin("anonymous")


@asynchronous
async def test_a_log_that_skips_a_record_is_no_longer_followed() -> None:
    class SkippingLog(MemoryLog):
        async def follow(self, after: int, follower: Follower) -> None:
            def skip(followed: Sequence[Followed]) -> None:
                follower([each for each in followed if each.record.position != 2])

            await super().follow(after, skip)

    door = Door(SkippingLog())
    await door.sessions.begin("anonymous")
    for _ in range(2):
        with pytest.raises(SurfaceFailed):
            await door.sessions.begin("ada", Authenticate("ada", "password"))
    assert door.log.failure is not None
    assert "record 1 was followed by record 3" in door.log.failure


@pytest.mark.checks("views_catch_up")
@asynchronous
async def test_an_instance_changed_by_another_process_is_read_again() -> None:
    store = MemoryStore()
    here, there = Door(MemoryLog(store)), Door(MemoryLog(store))
    session = (await here.sessions.begin("ada", Authenticate("ada", "password"))).instance
    assert await there.sessions.load(session.session_id) == session
    changed = (await there.sessions.submit(session.session_id, *commands("ada", Touch()))).instance
    await eventually(lambda: here.feed.position == 3)
    assert here.sessions.cached(session.session_id) is None
    assert await here.sessions.load(session.session_id) == changed
    assert there.sessions.cached(session.session_id) == changed


@pytest.mark.checks("view_monotonic")
@asynchronous
async def test_a_read_overtaken_by_the_log_is_not_cached() -> None:
    """The read begins before another process's login is followed, and ends after it."""

    class SlowReads(MemoryLog):
        held: asyncio.Event | None = None

        async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
            instance = await super().load(machine, instance_id)
            if self.held is not None:
                await self.held.wait()
            return instance

    log = SlowReads()
    here, there = Door(log, cache_limit=1), Door(MemoryLog(log.store))
    session = (await here.sessions.begin("ada", Authenticate("ada", "password"))).instance
    await here.sessions.begin("anonymous")
    log.held = asyncio.Event()
    reading = asyncio.create_task(here.sessions.load(session.session_id))
    await asyncio.sleep(0)
    login = commands("ada", Reauthenticate("ada", "password"))
    changed = (await there.sessions.submit(session.session_id, *login)).instance
    await eventually(lambda: here.feed.position == 4)
    log.held.set()
    assert (await reading).version == session.version
    log.held = None
    assert here.sessions.cached(session.session_id) is None
    assert await here.sessions.load(session.session_id) == changed


@pytest.mark.checks("revocation_fence")
@asynchronous
async def test_a_server_closes_sockets_before_other_listeners_are_called(tmp_path: Path) -> None:
    """For a whole commit: several ends written together."""
    async with services_in(tmp_path) as services:

        class ConnectionListener(Mock):
            def observe(self, record: Record) -> None:
                closed.append((record.position, services.tail.newest))

        closed: list[tuple[int, int]] = []
        sessions = [(await services.sessions.begin("ada", Authenticate("ada", "password"))).instance for _ in range(3)]
        for session in sessions:
            register(services.connections, session.session_id, f"con-{session.session_id}", ConnectionListener(), "ada")
        await asyncio.gather(*(services.sessions.end(session, "revoked", "admin:eve") for session in sessions))
        assert [position for position, _ in closed] == [BEGUN + 7, BEGUN + 8, BEGUN + 9]
        open_when_told = [position for position, told in closed if told > BEGUN + 6]
        assert open_when_told == []
        assert services.tail.newest == BEGUN + 9
        assert [services.sessions.cached(session.session_id) for session in sessions] == [
            await services.sessions.load(session.session_id) for session in sessions
        ]


@asynchronous
async def test_a_follower_that_starts_late_reads_what_it_missed(tmp_path: Path) -> None:
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        story = Story()
        await surface.log.append(story.begin("ada"))
        feed = Feed(surface.log)
        heard: list[tuple[int, object]] = []
        feed.subscribe(lambda record, after: heard.append((record.position, after)))
        sessions = Sessions(feed, HandClock(), policy=POLICY, cache_limit=10)
        await feed.start(1)
        await surface.log.append(story.touch())
        assert heard == [(2, None), (3, story.session)]
        assert sessions.cached(story.session_id) == story.session
        assert await surface.log.load(SESSION_MACHINE, story.session_id) == story.session
