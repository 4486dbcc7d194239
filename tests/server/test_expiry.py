"""Expiry: never early, on time, and never forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from structlog.testing import capture_logs

from interlock.machine.account.account import Account
from interlock.machine.closing import Close
from interlock.machine.errors import Overloaded, SessionEnded, SurfaceFailed
from interlock.machine.ledger import Record
from interlock.machine.machine import Authority
from interlock.machine.session.commands import Revoke
from interlock.machine.session.session import Session
from interlock.server.clock import Clock, SystemClock
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.door import commands
from interlock.server.runtime.expiry import Expiry
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.log import Step
from interlock.server.surface.memory import MemoryLog
from tests.support.asynchronous import asynchronous
from tests.support.clock import HandClock
from tests.support.steps import NOW_MS, POLICY, Story
from tests.support.wire import register


class Server:
    """Sessions and their expiry over a log in memory, with a manual clock."""

    def __init__(self, log: MemoryLog | None = None, clock: Clock | None = None) -> None:
        self.log = log or MemoryLog()
        self.clock = HandClock()
        self.feed = Feed(self.log)
        self.sessions = Sessions(self.feed, clock or self.clock, policy=POLICY, cache_limit=1_000_000)
        self.expiry = Expiry(self.sessions, clock or self.clock)
        self.feed.subscribe(self.expiry.observe)
        self.starting = asyncio.ensure_future(self.feed.start(len(self.log.store.entries)))

    async def begin(self) -> Session:
        return (await self.sessions.begin("anonymous")).instance

    async def at(self, time_ms: int) -> None:
        """Run the expiry at the time ``time_ms``."""
        self.clock.time_ms = time_ms
        await self.expiry._expire_due()


@pytest.mark.asvs("7.3.1", "7.4.1")
@pytest.mark.checks("no_early_expiry")
@asynchronous
async def test_a_session_ends_at_its_deadline_and_not_a_millisecond_before() -> None:
    server = Server()
    session = await server.begin()
    await server.at(session.deadline_ms - 1)
    assert not (await server.sessions.load(session.session_id)).ended
    await server.at(session.deadline_ms)
    after = await server.sessions.load(session.session_id)
    assert (after.state, after.reason) == ("expired", "idle")


@asynchronous
async def test_a_renewed_session_expires_at_its_new_deadline() -> None:
    server = Server()
    session = await server.begin()
    server.clock.time_ms += POLICY.idle_timeout_ms // 2
    renewed = await server.sessions.touch(session)
    await server.at(session.deadline_ms)
    assert not (await server.sessions.load(session.session_id)).ended
    await server.at(renewed.deadline_ms)
    assert (await server.sessions.load(session.session_id)).ended


@pytest.mark.asvs("7.3.2")
@asynchronous
async def test_activity_does_not_move_the_absolute_deadline() -> None:
    server = Server()
    session = await server.begin()
    ends_at_ms = session.absolute_deadline_ms
    while server.clock.time_ms + POLICY.idle_timeout_ms < ends_at_ms:
        server.clock.time_ms += POLICY.idle_timeout_ms - 1
        session = await server.sessions.touch(session)
        await server.expiry._expire_due()
    await server.at(ends_at_ms)
    assert (await server.sessions.load(session.session_id)).reason == "absolute"


@pytest.mark.asvs("10.4.8")
@asynchronous
async def test_refresh_tokens_end_with_the_session_however_often_exchanged() -> None:
    server = Server()
    session = await server.begin()
    ends_at_ms = session.absolute_deadline_ms
    while server.clock.time_ms + POLICY.idle_timeout_ms < ends_at_ms:
        server.clock.time_ms += POLICY.idle_timeout_ms - 1
        session = await server.sessions.touch(session)
        session = (await server.sessions.refresh(session.session_id, session.epoch, session.rotation, "ada")).instance
        await server.expiry._expire_due()
    assert session.rotation >= 2
    assert not session.ended
    server.clock.time_ms = ends_at_ms
    with pytest.raises(SessionEnded, match="absolute"):
        await server.sessions.refresh(session.session_id, session.epoch, session.rotation, "ada")
    await server.at(ends_at_ms)
    assert (await server.sessions.load(session.session_id)).reason == "absolute"


@asynchronous
async def test_a_start_restores_the_deadlines_of_live_sessions() -> None:
    log = MemoryLog()
    stories = [Story() for _ in range(3)]
    for story in stories:
        await log.append(story.begin("ada"))
    await log.append(stories[0].tell(Revoke("revoked")))
    server = Server(log)
    server.expiry.restore(await log.live_deadlines("session"))
    await server.at(NOW_MS + POLICY.idle_timeout_ms)
    assert [(await server.sessions.load(story.session_id)).reason for story in stories] == ["revoked", "idle", "idle"]


@asynchronous
async def test_expiry_skips_ended_and_unknown_sessions() -> None:
    server = Server()
    session = await server.begin()
    await server.sessions.submit(session.session_id, *commands("ada", Revoke("logout")))
    server = Server(server.log)
    server.expiry.restore([(NOW_MS, session.session_id), (NOW_MS, "nobody")])
    await server.at(NOW_MS)
    assert (await server.sessions.load(session.session_id)).reason == "logout"
    assert len(server.expiry._deadlines) == 0


@asynchronous
async def test_an_early_end_removes_the_deadline() -> None:
    server = Server()
    lives = [await server.begin() for _ in range(10)]
    for _ in range(10_000):
        session = await server.begin()
        await server.sessions.submit(session.session_id, *commands("ada", Revoke("logout")))
    assert len(server.expiry._deadlines) < 5200, "half are dropped entries, and in each of the small heaps a few more"
    await server.at(NOW_MS + POLICY.idle_timeout_ms)
    assert (len(server.expiry._deadlines), server.expiry._in_hand) == (0, set())
    assert {(await server.sessions.load(each.session_id)).reason for each in lives} == {"idle"}


class BusyLog(MemoryLog):
    """Answers ``error`` as long as there is one."""

    error: Exception | None = None

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        if self.error is None:
            return super().append(steps, under)
        refused: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
        refused.set_exception(self.error)
        return refused


@pytest.mark.parametrize("error", [SurfaceFailed("a read failed"), ZeroDivisionError()], ids=lambda e: type(e).__name__)
@asynchronous
async def test_an_expiry_that_the_log_refused_is_retried(error: Exception) -> None:
    log = BusyLog()
    server = Server(log)
    session = await server.begin()
    log.error = error
    await server.at(session.deadline_ms)
    log.error = None
    assert not (await server.sessions.load(session.session_id)).ended
    await server.at(session.deadline_ms + 1000)
    assert (await server.sessions.load(session.session_id)).ended


@asynchronous
async def test_expiry_waits_for_an_overloaded_log() -> None:
    log = BusyLog()
    server = Server(log)
    session = await server.begin()
    log.error = Overloaded(0)
    looking = asyncio.create_task(server.at(session.deadline_ms))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not looking.done()
    log.error = None
    await looking
    assert (await server.sessions.load(session.session_id)).ended


@asynchronous
async def test_expiry_does_not_retry_after_a_fail_stop() -> None:
    server = Server()
    session = await server.begin()
    server.log.failure = "the disk is gone"
    await server.at(session.deadline_ms)
    assert len(server.expiry._deadlines) == 0


@asynchronous
async def test_no_deadline_is_early_or_missed_among_100_000_sessions() -> None:
    """2,000 of 100,000 end within one second, while the others wait."""
    clock = SystemClock()
    server = Server(clock=clock)
    late_ms: list[int] = []
    template = (await server.begin()).session_id

    def measure(record: Record, session: Session | None) -> None:
        if session is not None and session.ended:
            late_ms.append(clock.now_ms() - session.deadline_ms)
            assert record.transition.at_ms >= session.deadline_ms, "never early"

    server.feed.subscribe(measure)
    session = await server.sessions.load(template)
    start_ms = clock.now_ms() + 500
    deadlines = [start_ms + n // 2 if n < 2000 else start_ms + 600_000 + n for n in range(100_000)]
    for n, deadline_ms in enumerate(deadlines):
        session_id = f"s{n}"
        server.log.store.instances["session", session_id] = msgspec.structs.replace(
            session, session_id=session_id, idle_deadline_ms=deadline_ms, absolute_deadline_ms=deadline_ms
        )
    server.expiry.restore([(deadline_ms, f"s{n}") for n, deadline_ms in enumerate(deadlines)])
    running = asyncio.create_task(server.expiry.run())
    newcomer = await server.begin()
    assert newcomer.deadline_ms > start_ms
    async with asyncio.timeout(20):
        while len(late_ms) < 2000:  # noqa: ASYNC110  # waiting for an event would measure that too
            await asyncio.sleep(0.01)
    running.cancel()
    assert len(late_ms) == 2000
    # Lateness is a figure of tests/bench: a busy machine is no fault.
    assert min(late_ms) >= 0


@asynchronous
async def test_a_new_nearest_deadline_wakes_the_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.server.runtime.expiry._LONGEST_SLEEP_S", 3600.0)
    clock = SystemClock()
    server = Server(clock=clock)
    server.sessions._policy = msgspec.structs.replace(POLICY, idle_timeout_ms=50)
    running = asyncio.create_task(server.expiry.run())
    await asyncio.sleep(0)
    session = await server.begin()
    async with asyncio.timeout(30):
        while not (await server.sessions.load(session.session_id)).ended:  # noqa: ASYNC110  # no event is available to await
            await asyncio.sleep(0.005)
    running.cancel()


@asynchronous
async def test_expiry_can_be_cancelled_even_as_a_session_is_added() -> None:
    server = Server()
    running = asyncio.create_task(server.expiry.run())
    await asyncio.sleep(0)
    (step,) = Story().begin()
    server.expiry.observe(Record(1, step.transition, bytes(32)), step.instance)
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=5)
    assert done == {running}
    assert running.cancelled()


class ConnectionListener:
    """One end of a connection, which records what it receives."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def observe(self, record: Record) -> None:
        self.told.append((record.position, record.transition.target))

    def observe_account(self, account: Account | None) -> None:
        self.told.append(account)

    def close(self, closing: Close) -> None:
        self.told.append(closing)

    def look_at_keys(self) -> None:
        self.told.append("keys")

    def abort(self) -> None:
        self.told.append("aborted")


def test_connections_receive_only_their_own_sessions_records() -> None:
    connections = Connections()
    mine, mine_too, other = ConnectionListener(), ConnectionListener(), ConnectionListener()
    register(connections, "a", "1", mine, "ada")
    register(connections, "a", "2", mine_too, "ada")
    register(connections, "b", "3", other, "ada")
    (step,) = Story("a").begin()
    record = Record(1, step.transition, bytes(32))
    connections.observe(record, step.instance)
    assert (mine.told, mine_too.told, other.told) == ([(1, "created")], [(1, "created")], [])
    assert len(connections) == 3
    connections.unregister("a", "1", "ada")
    connections.unregister("a", "1", "ada")
    connections.unregister("nobody", "1", "ada")
    assert len(connections) == 2
    connections.observe(record, step.instance)
    connections.close_all(Close("draining"))
    assert mine.told == [(1, "created")]
    assert mine_too.told == [(1, "created"), (1, "created"), Close("draining")]
    assert other.told == [Close("draining")]
    connections.unregister("a", "2", "ada")
    connections.unregister("b", "3", "ada")
    assert len(connections) == 0


def test_a_failing_connection_is_dropped_and_others_miss_nothing() -> None:
    class Failing(ConnectionListener):
        def observe(self, _record: Record) -> None:
            raise ZeroDivisionError

        def close(self, _closing: Close) -> None:
            raise ZeroDivisionError

        def look_at_keys(self) -> None:
            raise ZeroDivisionError

    connections = Connections()
    failing, good = Failing(), ConnectionListener()
    register(connections, "a", "1", failing, "ada")
    register(connections, "a", "2", good, "ada")
    (step,) = Story("a").begin()
    with capture_logs() as logs:
        connections.observe(Record(1, step.transition, bytes(32)), step.instance)
        assert (failing.told, good.told) == (["aborted"], [(1, "created")])
        connections.close_all(Close("draining"))
        assert (failing.told, good.told[1:]) == (["aborted"] * 2, [Close("draining")])
        connections.close("a", "1", Close("displaced"))
        assert failing.told == ["aborted"] * 3
        connections.look_at_keys()
        assert (failing.told, good.told[2:]) == (["aborted"] * 4, ["keys"])
    assert {log["event"] for log in logs} == {"listener.failed"}


def test_a_port_may_unregister_while_it_is_notified() -> None:
    connections = Connections()

    class Leaving(ConnectionListener):
        def close(self, closing: Close) -> None:
            super().close(closing)
            connections.unregister("a", str(id(self)), "ada")

    ports = [Leaving() for _ in range(3)]
    for port in ports:
        register(connections, "a", str(id(port)), port, "ada")
    connections.close_all(Close("draining"))
    assert all(port.told == [Close("draining")] for port in ports)
    assert len(connections) == 0
