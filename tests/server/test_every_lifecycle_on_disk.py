"""What the database checks of a record and its projection holds for every life that the declarations allow."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.machine.errors import RecordRefused, TransitionRefused
from interlock.machine.execution.commands import Effects, Interrupt, Start, execution_id_of
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machine import Command, id_of
from interlock.server.runtime.door import Door, Recorded
from interlock.server.runtime.feed import Feed
from interlock.server.surface.log import Step
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.machine.worlds import WORLDS, World, accept, walk
from tests.support.asynchronous import asynchronous
from tests.support.clock import HandClock
from tests.support.door import start


@asynchronous
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.machine.kind)
async def test_the_database_takes_every_declared_life_and_finds_it_again(tmp_path: Path, world: World) -> None:
    machine = world.machine
    logs = walk(world).logs
    longest = set(logs) - {log[:-1] for log in logs}
    lived = {}
    async with open_surface(tmp_path, max_waiting=9999, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        for number, log in enumerate(sorted(longest, key=str)):
            instance, steps = machine.absent(f"i{number}"), []
            for each in log:
                transition = msgspec.structs.replace(each, instance_id=f"i{number}")
                instance = machine.evolve(instance, transition)
                steps.append(Step(transition, instance))
            await surface.log.append(steps)
            lived[f"i{number}"] = instance
        busy = {id_of(each) for each in await surface.log.busy(machine)}
    assert busy == {each for each, instance in lived.items() if machine.keys(instance).busy}
    async with open_surface(tmp_path, max_waiting=9999, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        assert {each: await surface.log.load(machine, each) for each in lived} == lived


@asynchronous
@pytest.mark.parametrize(("effects", "reason"), [("idempotent", "interrupted"), ("once", None), ("once", "timeout")])
async def test_the_database_refuses_a_reason_that_the_record_does_not_give(
    tmp_path: Path, effects: Effects, reason: Any
) -> None:
    """Only an end has a reason, and it is the recorded one."""
    steps, execution = [], EXECUTION_MACHINE.absent("exe_1")
    for number, data in enumerate((accept(effects), Start("n1"), Interrupt("n1", 1))):
        transition = EXECUTION_MACHINE.decide(execution, Command(f"c{number}", "server", data), number)
        execution = EXECUTION_MACHINE.evolve(execution, transition)
        steps.append(Step(transition, execution))
    wrong = Step(steps[-1].transition, msgspec.structs.replace(execution, reason=reason))
    async with open_surface(tmp_path, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        with pytest.raises(RecordRefused):
            await surface.log.append([*steps[:-1], wrong])
        await surface.log.append(steps)


@pytest.mark.checks("accepted_once")
@asynchronous
async def test_one_intent_submitted_at_two_doors_at_once_is_accepted_once(tmp_path: Path) -> None:
    async with open_surface(tmp_path, max_waiting=99, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        feed = Feed(surface.log)
        doors = [Door(EXECUTION_MACHINE, feed, HandClock(), cache_limit=1) for _ in range(2)]
        await start(feed)
        execution_id = execution_id_of("acc_1", "i")
        asked = [
            doors[number % 2].submit(execution_id, Command(f"c{number}", "acc_1", accept("once")))
            for number in range(16)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert Counter(map(type, answers)) == {Recorded: 1, TransitionRefused: 15}
        assert [each.transition.instance_id for each in await surface.log.after(0, 99)] == [execution_id]
