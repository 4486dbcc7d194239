"""The compiled step against python-statemachine's own guarded ``send``, for the same events and the same guards."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Reauthenticate,
    Refresh,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import GUARDS, Session
from interlock.spec.session import SessionLifecycle
from tests.bench.figure import Bench, Figure, in_turns
from tests.bench.population import POLICY, step_of

_NOW_MS: Final = 1_800_000_000_000

Step = tuple[str, str, Session, Any]
"""State before, event, session, data."""


class _Model:
    """The model of python-statemachine: each guard is the compiled table's own, on the same session."""

    state: str | None = None
    session: Session = SESSION_MACHINE.absent("")
    data: Any = None


def _guard(name: str) -> Callable[[_Model], bool]:
    guard = GUARDS[name]
    return lambda model: guard(model.session, model.data, _NOW_MS)


for _name in GUARDS:
    setattr(_Model, _name, _guard(_name))


def _life() -> list[Step]:
    """Return a session's steps without its end: the library's machine stops for good in a final state."""
    wanted: list[Callable[[Session], Data]] = [
        lambda _: Touch(),
        lambda _: Authenticate("acc_1", "password"),
        lambda _: Connect("con_1", "node-1"),
        lambda _: Connect("con_2", "node-1"),
        lambda session: Refresh(session.epoch, session.rotation),
        lambda _: Touch(),
        lambda _: Disconnect("con_1", 1000),
        lambda _: Reauthenticate("acc_1", "password"),
        lambda _: Disconnect("con_2", 1000),
        lambda session: Refresh(session.epoch, session.rotation),
    ]
    session = step_of(SESSION_MACHINE.absent("s"), Create(POLICY), _NOW_MS).instance
    steps: list[Step] = []
    for data_of in wanted:
        data = data_of(session)
        steps.append((session.state or "", data.event, session, data))
        session = step_of(session, data, _NOW_MS).instance
    return steps


async def measure(bench: Bench) -> list[Figure]:
    """Measure steps per second, one after the other on one core."""
    life = _life()
    loops, machine_loops = bench.pick(20_000, 4_000), bench.pick(300, 60)
    model = _Model()
    machine = SessionLifecycle(model)

    async def compiled() -> float:
        step = SESSION_MACHINE.table.step
        began = time.perf_counter()
        for _ in range(loops):
            for state, event, session, data in life:
                step(state, event, session, data, _NOW_MS)
        return loops * len(life) / (time.perf_counter() - began)

    async def library() -> float:
        began = time.perf_counter()
        for _ in range(machine_loops):
            model.state = "created"
            for _state, event, session, data in life:
                model.session, model.data = session, data
                machine.send(event)
        return machine_loops * len(life) / (time.perf_counter() - began)

    pairs = await in_turns(bench, "steps", bench.pick(9, 3), compiled, library)
    return [pairs.at_least("compiled step vs. python-statemachine's guarded `send`", 60, "steps/s")]
