"""Every lifecycle of the log, in a small world: each command to each instance that can be reached."""

from __future__ import annotations

import pytest

from interlock.machine.machines import MACHINES
from interlock.machine.session.machine import SESSION_MACHINE
from tests.machine.worlds import WORLDS, World, walk


@pytest.mark.checks("one_outcome", "owner_only", "once_runs_once")
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.machine.kind)
def test_every_step_of_every_lifecycle_keeps_its_promises(world: World) -> None:
    walked = walk(world)
    rows = world.machine.lifecycle.transitions
    assert walked.taken == {(row.event, row.source, row.target) for row in rows}
    asked = {str(term) for row in rows for term in row.guards}
    # Where both a guard and its opposite lead on, neither refuses.
    either = {name for name in asked if f"not {name}" in asked}
    assert walked.refused_by == asked - either - {f"not {name}" for name in either} | {None}


def test_every_lifecycle_has_a_world() -> None:
    assert [SESSION_MACHINE, *(world.machine for world in WORLDS)] == [*MACHINES]
