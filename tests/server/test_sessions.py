"""The one door, over a log in memory: who waits for whom, what is published, and what memory may forget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from interlock.machine.errors import (
    CredentialInvalid,
    SessionEnded,
    SessionNotFound,
    SurfaceFailed,
    TokenExpired,
    TransitionRefused,
    VersionConflict,
)
from interlock.machine.ledger import Record
from interlock.machine.machine import Authority, Command, InstanceT, Machine
from interlock.machine.session.commands import Authenticate, Connect, Create, Disconnect, Reauthenticate, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.runtime.door import Recorded, commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.recovery import disconnect_orphans
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.log import Step
from interlock.server.surface.memory import MemoryLog
from tests.support.accounts import AccountStory, personal
from tests.support.asynchronous import asynchronous
from tests.support.door import Door, HeldLog
from tests.support.steps import POLICY, Story


@asynchronous
async def test_a_new_session_is_published_once() -> None:
    door = Door()
    outcome = await door.sessions.begin("ada", Authenticate("ada", "password"))
    assert (outcome.instance.state, outcome.instance.version) == ("authenticated", 2)
    assert door.heard == [("create", 1), ("authenticate", 2)]
    assert await door.sessions.history(outcome.instance.session_id, 1, 10) == outcome.records[1:]


@asynchronous
async def test_a_failing_listener_stops_no_other_and_no_answer() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    door = Door()
    heard: list[str] = []
    for listener in (fail, lambda record, _after: heard.append(record.transition.event), fail):
        door.feed.subscribe(listener)
    for refusal_listener in (fail, lambda _kind, _session_id, refusal: heard.append(f"refused {refusal.event}")):
        door.sessions.subscribe_refusals(refusal_listener)
    with capture_logs() as logs:
        session = (await door.sessions.begin("anonymous")).instance
        with pytest.raises(TransitionRefused):
            await door.sessions.submit(session.session_id, *commands("ada", Connect("con", "node-1")))
        await door.sessions.end(session, "logout", "anonymous")
    assert heard == ["create", "refused connect", "revoke"]
    assert door.heard == [("create", 1), ("revoke", 2)]
    assert [log["event"] for log in logs] == ["listener.failed"] * 5
    assert "fail" in logs[0]["listener"]


@asynchronous
async def test_a_refusal_changes_nothing_and_is_not_published() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    with pytest.raises(TransitionRefused):
        await door.sessions.submit(session.session_id, *commands("ada", Touch(), Connect("con", "node-1")))
    with pytest.raises(SessionNotFound):
        await door.sessions.submit("nobody", *commands("ada", Touch()))
    with pytest.raises(TransitionRefused):
        await door.sessions.begin("ada", Connect("con", "node-1"))
    assert await door.sessions.load(session.session_id) == session
    assert door.heard == [("create", 1)]


@asynchronous
async def test_a_cancelled_callers_transition_is_recorded_and_published() -> None:
    log = HeldLog()
    door = Door(log)
    session = (await door.sessions.begin("anonymous")).instance
    log.held = asyncio.Event()
    asking = asyncio.create_task(door.sessions.submit(session.session_id, *commands("ada", Touch())))
    next_one = asyncio.create_task(door.sessions.submit(session.session_id, *commands("ada", Touch())))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.sleep(0)
    assert not next_one.done(), "the session's turn is still taken"
    log.held.set()
    outcome = await next_one
    assert asking.cancelled()
    assert outcome.instance.version == 3
    assert door.heard == [("create", 1), ("touch", 2), ("touch", 3)]


@asynchronous
async def test_an_evicted_session_is_read_again_exactly() -> None:
    door = Door(cache_limit=2)
    sessions = [(await door.sessions.begin("ada", Authenticate("ada", "password"))).instance for _ in range(10)]
    assert [door.sessions.cached(session.session_id) is not None for session in sessions].count(True) == 2
    for _ in range(3):
        await asyncio.gather(*(door.sessions.submit(s.session_id, *commands("ada", Touch())) for s in sessions))
    for session in sessions:
        now = await door.sessions.load(session.session_id)
        assert now.version == session.version + 3
        assert now == await door.log.load(SESSION_MACHINE, session.session_id)


@asynchronous
async def test_a_read_from_before_a_command_is_not_cached_after_it() -> None:
    """A slow read of an evicted session, and a quicker command: the older session must not come back."""

    class SlowReads(MemoryLog):
        slow = False

        async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
            session = await super().load(machine, instance_id)
            if self.slow:
                self.slow = False
                await asyncio.sleep(0.05)
            return session

    log = SlowReads()
    door = Door(log, cache_limit=1)
    session = (await door.sessions.begin("anonymous")).instance
    await door.sessions.begin("anonymous")
    log.slow = True
    reading = asyncio.create_task(door.sessions.load(session.session_id))
    await asyncio.sleep(0)
    told = (await door.sessions.submit(session.session_id, *commands("ada", Touch()))).instance.version
    await reading
    assert (await door.sessions.load(session.session_id)).version == told


@asynchronous
async def test_commands_to_one_session_are_taken_in_turn() -> None:
    door = Door()
    session = (await door.sessions.begin("ada", Authenticate("ada", "password"))).instance
    outcomes = await asyncio.gather(
        *(door.sessions.submit(session.session_id, *commands("ada", Connect(f"con-{n}", "node-1"))) for n in range(5)),
        return_exceptions=True,
    )
    assert [isinstance(outcome, Recorded) for outcome in outcomes] == [True, True, True, False, False]
    refused = outcomes[-1]
    assert isinstance(refused, TransitionRefused)
    assert refused.guard == "below_connection_limit"


@asynchronous
async def test_a_repeated_creation_returns_the_sessions_current_state() -> None:
    door = Door(cache_limit=1)
    asked = (Command("once", "ada", Create(POLICY)), Command("then", "ada", Authenticate("ada", "password")))
    first = await door.sessions.submit("one", *asked)
    await door.sessions.submit("one", *commands("ada", Touch()))
    await door.sessions.begin("anonymous")
    assert door.sessions.cached("one") is None
    again = await door.sessions.submit("one", *asked)
    assert again.instance.version == 3
    assert again.records == first.records
    assert (await door.sessions.load("one")).version == 3
    assert [event for event, _ in door.heard] == ["create", "authenticate", "touch", "create"], "nobody is told twice"


@asynchronous
async def test_a_command_is_decided_again_after_another_writers_append() -> None:
    """Even if the door has not been notified yet."""
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    behind = Sessions(Feed(MemoryLog(door.log.store)), door.clock, policy=POLICY, cache_limit=10)
    await behind.load(session.session_id)
    await door.sessions.submit(session.session_id, *commands("ada", Touch()))
    outcome = await behind.submit(session.session_id, *commands("ada", Touch()))
    assert outcome.instance.version == 3


@asynchronous
async def test_a_command_on_a_constantly_changing_session_is_given_up() -> None:
    class ContestedLog(MemoryLog):
        def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
            if steps[0].transition.version > 1 and steps[0].transition.actor != "other":
                rival = Story(steps[0].transition.instance_id)
                rival.session = self.store.instances["session", rival.session_id]
                self.rival = super().append(rival.touch())
            return super().append(steps, under)

    door = Door(ContestedLog())
    session = (await door.sessions.begin("anonymous")).instance
    with pytest.raises(SurfaceFailed, match="kept changing"):
        await door.sessions.submit(session.session_id, *commands("ada", Touch()))


@asynchronous
async def test_a_conflicting_creation_is_decided_again() -> None:
    class SlowLog(MemoryLog):
        """Reports a conflict once, although no other writer was first."""

        said = False

        def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
            if self.said:
                return super().append(steps, under)
            self.said = True
            refused: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
            refused.set_exception(VersionConflict(steps[0].transition.instance_id, 1))
            return refused

    outcome = await Door(SlowLog()).sessions.begin("anonymous")
    assert outcome.instance.version == 1


@asynchronous
async def test_an_existing_session_id_is_not_adopted() -> None:
    door = Door(cache_limit=1)
    taken = (await door.sessions.begin("ada", Authenticate("ada", "password"))).instance
    await door.sessions.begin("anonymous")
    with pytest.raises(TransitionRefused):
        await door.sessions.submit(taken.session_id, *commands("mallory", Create(POLICY)))
    assert await door.sessions.load(taken.session_id) == taken


@asynchronous
async def test_concurrent_logins_of_one_subject_on_a_session_all_succeed() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    after = await asyncio.gather(
        *(door.sessions.authenticate(session, Authenticate("ada", "password")) for _ in range(3))
    )
    assert [(each.instance.session_id, each.instance.epoch) for each in after] == [
        (session.session_id, n) for n in (1, 2, 3)
    ]


@asynchronous
async def test_of_concurrent_logins_on_a_session_one_subject_gets_it() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    outcomes = await asyncio.gather(
        *(door.sessions.authenticate(session, Authenticate(subject, "password")) for subject in ("ada", "bob")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], Recorded)
    assert outcomes[0].instance.subject == "ada"
    assert isinstance(outcomes[1], TransitionRefused)
    assert outcomes[1].guard == "same_subject"


@pytest.mark.asvs("10.4.5")
@asynchronous
async def test_a_refresh_token_is_exchanged_repeated_and_detected_as_reuse() -> None:
    door = Door()
    session_id = (await door.sessions.begin("ada", Authenticate("ada", "password"))).instance.session_id
    exchanged = await door.sessions.refresh(session_id, 1, 0, "ada")
    assert exchanged.instance.rotation == 1
    assert exchanged.receipt is not None
    assert exchanged.receipt == exchanged.records[0].receipt
    assert exchanged.receipt.position == 3
    door.clock.time_ms += POLICY.refresh_grace_ms - 1
    repeated = await door.sessions.refresh(session_id, 1, 0, "ada")
    assert repeated.instance.rotation == 2
    assert repeated.receipt is not None, "every answer is recorded"
    await door.sessions.refresh(session_id, 1, 1, "ada")
    assert [event for event, _ in door.heard] == ["create", "authenticate", "refresh", "refresh", "refresh"]
    door.clock.time_ms += 1
    with pytest.raises(SessionEnded, match="token_reuse"):
        await door.sessions.refresh(session_id, 1, 0, "ada")
    assert (await door.sessions.load(session_id)).reason == "token_reuse"
    with pytest.raises(SessionEnded, match="token_reuse"):
        await door.sessions.refresh(session_id, 1, 3, "ada")


@asynchronous
async def test_a_lost_refresh_answer_is_repeated_however_late() -> None:
    door = Door()
    session_id = (await door.sessions.begin("ada", Authenticate("ada", "password"))).instance.session_id
    for _ in range(3):
        await door.sessions.refresh(session_id, 1, 0, "ada")
        door.clock.time_ms += 3 * POLICY.refresh_grace_ms
    found = await door.sessions.refresh(session_id, 1, 0, "ada")
    assert (
        await door.sessions.refresh(session_id, 1, found.instance.rotation, "ada")
    ).instance.state == "authenticated"
    with pytest.raises(SessionEnded, match="token_reuse"):
        await door.sessions.refresh(session_id, 1, 1, "ada")


@pytest.mark.asvs("7.2.4")
@asynchronous
async def test_a_refresh_token_from_before_a_login_is_void_and_ends_nothing() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    await door.sessions.authenticate(session, Authenticate("ada", "password"))
    with pytest.raises(CredentialInvalid):
        await door.sessions.refresh(session.session_id, 0, 0, "anonymous")
    assert (await door.sessions.load(session.session_id)).state == "authenticated"


@asynchronous
async def test_concurrently_refreshing_tabs_each_get_their_own_token() -> None:
    door = Door()
    session_id = (await door.sessions.begin("ada", Authenticate("ada", "password"))).instance.session_id
    after = await asyncio.gather(*(door.sessions.refresh(session_id, 1, 0, "ada") for _ in range(4)))
    assert sorted(outcome.instance.rotation for outcome in after) == [1, 2, 3, 4]
    assert all(outcome.receipt is not None for outcome in after)
    assert [event for event, _ in door.heard].count("refresh") == 4
    door.clock.time_ms += 2 * POLICY.refresh_grace_ms
    # The jar holds whichever came last; nobody has the others.
    assert (await door.sessions.refresh(session_id, 1, 2, "ada")).instance.rotation == 5
    with pytest.raises(SessionEnded, match="token_reuse"):
        await door.sessions.refresh(session_id, 1, 4, "ada")


@asynchronous
async def test_activity_is_written_once_per_tenth_of_the_idle_timeout() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    door.clock.time_ms += POLICY.idle_timeout_ms // 10 - 1
    assert await door.sessions.touch(session) == session
    door.clock.time_ms += 1
    touched = await door.sessions.touch(session)
    assert touched.idle_deadline_ms == door.clock.time_ms + POLICY.idle_timeout_ms
    assert await door.sessions.touch(touched) == touched


@asynchronous
async def test_concurrent_activity_is_written_once() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    door.clock.time_ms += POLICY.idle_timeout_ms // 2
    await asyncio.gather(*(door.sessions.touch(session) for _ in range(40)))
    await asyncio.gather(*(door.sessions.touch(session) for _ in range(40)))
    assert [event for event, _ in door.heard] == ["create", "touch"]


@asynchronous
async def test_a_second_end_of_a_session_records_nothing() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    ended = await door.sessions.end(session, "logout", "anonymous")
    assert ended is not None
    assert ended == (await door.sessions.history(session.session_id, 1, 1))[0].receipt
    assert await door.sessions.end(session, "logout", "anonymous") is None


@asynchronous
async def test_a_dead_processs_connections_are_disconnected_at_the_start() -> None:
    door = Door()
    told = (
        Authenticate("ada", "password"),
        Connect("here-1", "node-1"),
        Connect("there", "node-2"),
        Connect("here-2", "node-1"),
    )
    session = (await door.sessions.begin("ada", *told)).instance
    alone = (await door.sessions.begin("ada", Authenticate("ada", "password"), Connect("here", "node-1"))).instance
    assert await disconnect_orphans(door.log, door.sessions, "node-1") == 3
    left = await door.sessions.load(session.session_id)
    assert [connection.connection_id for connection in left.connections] == ["there"]
    assert (await door.sessions.load(alone.session_id)).state == "authenticated"
    last = (await door.sessions.history(alone.session_id, 3, 1))[0].transition
    assert last.data == Disconnect("here", 1006)
    assert await disconnect_orphans(door.log, door.sessions, "node-1") == 0


@pytest.mark.checks("authority_at_append")
@asynchronous
async def test_activity_by_a_superseded_credential_is_not_recorded() -> None:
    door = Door()
    await door.log.append(AccountStory(personal("ada")).register())
    before = (await door.sessions.begin("ada", Authenticate("ada", "password"))).instance
    door.clock.advance(POLICY.idle_timeout_ms // 2)
    await door.sessions.submit(before.session_id, *commands("ada", Reauthenticate("ada", "password")))
    door.clock.advance(POLICY.idle_timeout_ms // 2)
    with pytest.raises(TokenExpired):
        await door.sessions.touch(before)
    assert (await door.sessions.touch(await door.sessions.load(before.session_id))).version == before.version + 2
