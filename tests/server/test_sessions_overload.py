"""The one door with an overloaded or stopped log: what is refused, what is answered, and at what cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from interlock.machine.errors import (
    Overloaded,
    StorageLow,
    SurfaceFailed,
    TransitionRefused,
)
from interlock.machine.ledger import Record
from interlock.machine.machine import Authority, InstanceT, Machine
from interlock.machine.session.commands import Authenticate, Connect, Create, Revoke, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.runtime.door import Recorded, commands
from interlock.server.surface.log import Step
from interlock.server.surface.memory import MemoryLog
from tests.support.asynchronous import asynchronous
from tests.support.door import Door
from tests.support.steps import POLICY


@pytest.mark.parametrize("refusal", [Overloaded(), StorageLow()], ids=["overloaded", "little space"])
@asynchronous
async def test_a_request_succeeds_although_its_activity_can_not_be_written(refusal: Overloaded) -> None:
    class FullLog(MemoryLog):
        full = True

        def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
            if not self.full or isinstance(steps[0].transition.data, Create):
                return super().append(steps, under)
            refused: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
            refused.set_exception(refusal)
            return refused

    log = FullLog()
    door = Door(log)
    session = (await door.sessions.begin("anonymous")).instance
    door.clock.time_ms += POLICY.idle_timeout_ms // 2
    assert await door.sessions.touch(session) == session
    log.full = False
    assert (await door.sessions.touch(session)).idle_deadline_ms == door.clock.time_ms + POLICY.idle_timeout_ms


@asynchronous
async def test_once_the_log_has_stopped_nothing_is_answered_from_memory() -> None:
    door = Door()
    session = (await door.sessions.begin("anonymous")).instance
    door.log.failure = "the disk is gone"
    with pytest.raises(SurfaceFailed, match="the disk is gone"):
        door.sessions.cached(session.session_id)
    with pytest.raises(SurfaceFailed):
        await door.sessions.load(session.session_id)
    with pytest.raises(SurfaceFailed):
        await door.sessions.history(session.session_id, 0, 1)
    with pytest.raises(SurfaceFailed):
        await door.sessions.begin("anonymous")


@asynchronous
async def test_an_overloaded_log_leaves_memory_exact() -> None:
    door = Door(MemoryLog(max_waiting=1))
    one = (await door.sessions.begin("anonymous")).instance
    two = (await door.sessions.begin("anonymous")).instance
    outcomes = await asyncio.gather(
        *(door.sessions.submit(session.session_id, *commands("ada", Touch())) for session in (one, two)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [Recorded, Overloaded]
    assert await door.sessions.load(two.session_id) == two
    assert await door.log.load(SESSION_MACHINE, two.session_id) == two


class CountedLog(MemoryLog):
    """A log that counts its reads."""

    reads = 0

    async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
        self.reads += 1
        return await super().load(machine, instance_id)

    async def history(self, kind: str, instance_id: str, after_version: int, limit: int) -> list[Record]:
        self.reads += 1
        return await super().history(kind, instance_id, after_version, limit)


@asynchronous
async def test_a_write_that_an_overloaded_log_refuses_costs_no_read() -> None:
    log = CountedLog(max_waiting=1)
    door = Door(log)
    session = (await door.sessions.begin("ada", Authenticate("ada", "password"))).instance
    other = (await door.sessions.begin("anonymous")).instance
    for _ in range(10):
        outcomes = await asyncio.gather(
            door.sessions.submit(other.session_id, *commands("ada", Touch())),
            *(door.sessions.submit(session.session_id, *commands("ada", Touch())) for _ in range(3)),
            return_exceptions=True,
        )
        assert Overloaded in map(type, outcomes)
        assert door.sessions.cached(session.session_id) is not None
    assert log.reads == 0


@asynchronous
async def test_a_command_that_the_lifecycle_refuses_costs_no_read() -> None:
    log = CountedLog()
    door = Door(log)
    session = (await door.sessions.begin("anonymous")).instance
    refusals: list[str] = []
    door.sessions.subscribe_refusals(lambda _kind, _session_id, refused: refusals.append(refused.event))
    for _ in range(10):
        with pytest.raises(TransitionRefused):
            await door.sessions.submit(session.session_id, *commands("ada", Connect("con", "node-1")))
    assert (log.reads, refusals) == (0, ["connect"] * 10)


@asynchronous
async def test_the_servers_own_writes_wait_for_an_overloaded_log() -> None:
    class BusyLog(MemoryLog):
        tries = 0
        refusing = True

        def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
            if not self.refusing or isinstance(steps[0].transition.data, Create):
                return super().append(steps, under)
            self.tries += 1
            refused: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
            refused.set_exception(Overloaded(0))
            return refused

    log = BusyLog()
    door = Door(log, cache_limit=1000)
    ids = [(await door.sessions.begin("anonymous")).instance.session_id for _ in range(500)]
    turns = 0
    ends = asyncio.gather(*(door.sessions.insist(each, "server", Revoke("revoked")) for each in ids))
    while log.tries < 1000:
        tries, turns = log.tries, turns + 1
        await asyncio.sleep(0)
        assert log.tries - tries <= 64
    log.refusing = False
    assert all(outcome.instance.ended for outcome in await ends)
