"""Two server processes on one log, in one program: each notices and applies what the other records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import generate_latest

from interlock.machine.account.account import Account
from interlock.machine.closing import Close
from interlock.machine.errors import AuthorityLost, CredentialRefused, TransitionRefused
from interlock.machine.ledger import Record
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import Authenticate, Connect, Disconnect, Touch
from interlock.machine.session.conversation import Conversation
from interlock.machine.session.machine import SESSION_MACHINE, authority_of
from interlock.machine.session.messages import Limits
from interlock.machine.session.session import Session
from interlock.machine.session.stream import Stream, StreamLimits
from interlock.server.guard.tickets import Tickets
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.door import commands
from interlock.server.runtime.expiry import Expiry
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.recovery import disconnect_orphans
from interlock.server.runtime.sessions import Sessions
from interlock.server.runtime.tail import Tail
from interlock.server.surface.memory import MemoryDirectory, MemoryLog, MemoryStore, MemoryTickets
from interlock.server.telemetry.metrics import PrometheusMetrics
from tests.support.accounts import AccountStory, personal
from tests.support.asynchronous import asynchronous
from tests.support.clock import HandClock
from tests.support.running import eventually
from tests.support.steps import POLICY


class Socket:
    """The registry's port at one end, and the rules of one connection at the other."""

    def __init__(self, connection_id: str, session: Session) -> None:
        self.conversation = Conversation(
            connection_id,
            session,
            authorised_until_ms=1 << 60,
            outbox_limit=100,
            ping_interval_ms=1,
            limits=Limits(message_bytes=1, unanswered=1),
            open_stream=lambda: Stream("e", StreamLimits(messages=1, bytes=1, age_ms=1, frame_bytes=1)),
        )

    @property
    def closing(self) -> Close | None:
        return self.conversation.closing

    def observe(self, record: Record) -> None:
        self.conversation.observe(record)

    def observe_account(self, account: Account | None) -> None:
        raise AssertionError(account)

    def wake(self) -> None:
        raise AssertionError(self)

    def close(self, closing: Close) -> None:
        self.conversation.close(closing)

    def look_at_keys(self) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError


class Node:
    """The components of one process over its handle on the log: see interlock.server.wiring."""

    def __init__(self, store: MemoryStore, tickets: MemoryTickets, clock: HandClock, name: str) -> None:
        self.name = name
        self.log = MemoryLog(store, on_failure=pytest.fail)
        self.feed = Feed(self.log)
        self.connections = Connections()
        self.sessions = Sessions(self.feed, clock, policy=POLICY, cache_limit=100)
        self.account_sessions = AccountSessions(self.sessions, MemoryDirectory(store), clock)
        self.expiry = Expiry(self.sessions, clock)
        self.tail = Tail(self.sessions.records, 0)
        self.metrics = PrometheusMetrics(MACHINES, clock, {})
        self.tickets = Tickets(tickets, clock, lifetime_ms=10_000)
        self.feed.subscribe(self.connections.observe, "session")
        self.feed.subscribe(self.metrics.observe)
        self.feed.subscribe(self.tail.observe)
        self.feed.subscribe(self.expiry.observe, "session")

    async def start(self) -> None:
        self.expiry.restore(await self.log.live_deadlines("session"))
        await self.feed.start(0)
        await disconnect_orphans(self.log, self.sessions, self.name)

    async def log_in(self) -> Session:
        return (await self.sessions.begin("ada", Authenticate("ada", "password"))).instance

    async def connect(self, session: Session) -> Socket:
        connection_id = f"con-{self.name}-{session.version}"
        connect = commands("ada", Connect(connection_id, self.name))
        socket = Socket(connection_id, session)
        with self.connections.arriving(session.session_id, connection_id, socket, "ada"):
            await self.sessions.submit(session.session_id, *connect, under=authority_of(session))
        return socket


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[Node, Node, HandClock]]:
    store, clock = MemoryStore(), HandClock()
    tickets = MemoryTickets(store)
    one, other = Node(store, tickets, clock, "one"), Node(store, tickets, clock, "other")
    await one.log.append(AccountStory(personal("ada")).register())
    for node in (one, other):
        await node.start()
    yield one, other, clock
    await eventually(lambda: one.feed.position == other.feed.position == len(store.entries))
    assert counted(one) == counted(other)
    for (kind, instance_id), instance in store.instances.items():
        for node in (one, other) if kind == "session" else ():
            assert node.sessions.cached(instance_id) in {None, instance}
            assert await node.sessions.load(instance_id) == instance


def counted(node: Node) -> list[str]:
    lines = generate_latest(node.metrics.registry).decode().splitlines()
    return [line for line in lines if line.startswith(("interlock_instances{", "interlock_transitions_total"))]


@pytest.mark.checks("expired_closes")
@asynchronous
async def test_a_revocation_at_one_node_closes_the_sockets_at_the_other() -> None:
    async with two_nodes() as (one, other, _):
        session, unconcerned = await one.log_in(), await one.log_in()
        socket, stays = await other.connect(session), await other.connect(unconcerned)
        await one.sessions.end(session, "revoked", "admin:eve")
        await eventually(lambda: socket.closing)
        assert socket.closing == Close("session_ended", "revoked")
        assert stays.closing is None
        assert other.sessions.cached(session.session_id) is None
        with pytest.raises(CredentialRefused):
            await other.connect(session)


@asynchronous
async def test_ending_all_sessions_of_an_account_works_across_nodes() -> None:
    async with two_nodes() as (one, other, _):
        own, another, third = await one.log_in(), await other.log_in(), await other.log_in()
        sockets = [await node.connect(each) for node, each in ((other, another), (one, third))]
        kept = await other.connect(own)
        receipts = await one.account_sessions.end_all(
            "ada", "logout", "ada", but=own.session_id, under=authority_of(own)
        )
        assert len(receipts) == 2
        await eventually(lambda: all(socket.closing for socket in sockets))
        assert kept.closing is None


@pytest.mark.checks("authority_at_append")
@asynchronous
async def test_a_login_at_one_node_supersedes_the_credentials_at_the_other() -> None:
    async with two_nodes() as (one, other, _):
        before = await one.log_in()
        socket = await other.connect(before)
        after = (await one.sessions.authenticate(before, Authenticate("ada", "password"))).instance
        await eventually(lambda: socket.closing)
        assert socket.closing == Close("token_expired")
        with pytest.raises(CredentialRefused):
            await other.connect(before)
        with pytest.raises(AuthorityLost):
            await other.tickets.issue(before, 1 << 60, "kid")
        newer = await other.connect(after)
        assert newer.closing is None


@asynchronous
async def test_a_socket_with_a_login_not_yet_followed_stays_open() -> None:
    """The session was read from the log before the records that led to it were followed; they don't concern the socket."""
    async with two_nodes() as (one, other, clock):
        before = await one.log_in()
        late = Sessions(Feed(MemoryLog(one.log.store)), clock, policy=POLICY, cache_limit=10)
        after = (await late.authenticate(before, Authenticate("ada", "password"))).instance
        socket = Socket("con", after)
        with other.connections.arriving(after.session_id, "con", socket, "ada"):
            for record in await one.log.history("session", after.session_id, 0, 10):
                other.connections.observe(record, None)
        assert socket.closing is None
        assert socket.conversation.take() == []


@asynchronous
async def test_sessions_that_one_node_ends_are_forgotten_by_the_other() -> None:
    async with two_nodes() as (one, other, clock):
        sessions = [await node.log_in() for node in (one, other) for _ in range(20)]
        for session in sessions[::4]:
            await other.sessions.end(session, "logout", "ada")
        clock.time_ms = sessions[0].deadline_ms
        await asyncio.gather(one.expiry._expire_due(), other.expiry._expire_due())
        clock.advance(1000)
        await asyncio.gather(one.expiry._expire_due(), other.expiry._expire_due())
        for node in (one, other):
            assert (len(node.expiry._deadlines), node.expiry._in_hand) == (0, set())
            ended = [await node.sessions.load(session.session_id) for session in sessions]
            assert {session.state for session in ended} == {"expired"}


@pytest.mark.checks("no_lost_update")
@asynchronous
async def test_concurrent_commands_at_both_nodes_lose_no_update() -> None:
    async with two_nodes() as (one, other, _):
        session = await one.log_in()
        for _ in range(20):
            asked = (node.sessions.submit(session.session_id, *commands("ada", Touch())) for node in (one, other))
            await asyncio.gather(*asked)
        history = await one.sessions.history(session.session_id, 0, 100)
        assert [record.transition.version for record in history] == list(range(1, 43))
        assert SESSION_MACHINE.replay(session.session_id, (r.transition for r in history)) == await other.sessions.load(
            session.session_id
        )


@asynchronous
async def test_each_nodes_tail_has_the_records_of_both() -> None:
    async with two_nodes() as (one, other, _):
        waiting = asyncio.create_task(other.tail.wait(1, 60))
        await asyncio.sleep(0)
        await one.log_in()
        await waiting
        await other.log_in()
        await eventually(lambda: one.tail.newest == other.tail.newest == 5)
        assert await one.tail.after(0, 10) == await other.tail.after(0, 10)


@pytest.mark.checks("orphan_reaped")
@asynchronous
async def test_a_restarting_node_disconnects_only_its_own_connections() -> None:
    async with two_nodes() as (one, other, clock):
        session = await one.log_in()
        here = await one.connect(session)
        there = await other.connect(await other.sessions.load(session.session_id))
        again = Node(one.log.store, MemoryTickets(one.log.store), clock, "one")
        await again.start()
        left = await other.sessions.load(session.session_id)
        assert [connection.node for connection in left.connections] == ["other"]
        assert there.closing is None
        last = await again.sessions.history(session.session_id, left.version - 1, 1)
        assert last[0].transition.data == Disconnect(here.conversation.connection_id, 1006)
        with pytest.raises(TransitionRefused):
            await one.sessions.submit(session.session_id, *commands("server", last[0].transition.data))
