"""Sockets that arrive at once, as after a restart: a few are handled at a time, and other requests are not delayed."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from interlock.server.guard.tokens import Claims
from interlock.server.system.loop_turns import EACH_TURN, LoopTurns
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.wire import Wire, log_in, services_in

_SOCKETS = 200


@asynchronous
async def test_a_failing_call_does_not_hold_up_those_behind_it() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    turns, called = LoopTurns(), []

    def fail() -> None:
        raise ValueError

    for call in (fail, lambda: called.append(1), fail, lambda: called.append(2)):
        turns.add(call)
    await eventually(lambda: called == [1, 2])


@asynchronous
async def test_concurrent_handshakes_take_many_turns_of_the_event_loop(tmp_path: Path) -> None:
    """Other requests get their turns in between: few credentials and few answers are processed per turn."""
    async with services_in(tmp_path) as services:
        wires = [Wire(services, (await log_in(services))[1]) for _ in range(_SOCKETS)]
        turn = 0
        checked: Counter[int] = Counter()
        accepted: Counter[int] = Counter()
        check = services.tokens.check_access_token

        def check_and_count(token: str) -> Claims:
            checked[turn] += 1
            return check(token)

        def count() -> None:
            accepted[turn] += 1

        services.tokens.check_access_token = check_and_count  # type: ignore[method-assign]  # to see when it is called
        for wire in wires:
            wire.on_upgrade = count
        running = [wire.run() for wire in wires]
        while any(wire.said != ["accept", "hello"] for wire in wires):
            turn += 1
            await asyncio.sleep(0)
        for wire in wires:
            wire.leave()
        await asyncio.gather(*running)
    assert sum(checked.values()) == sum(accepted.values()) == _SOCKETS
    assert max(checked.values()) <= EACH_TURN
    assert max(accepted.values()) <= EACH_TURN


@asynchronous
async def test_a_handshake_that_waited_too_long_is_closed_as_overloaded(tmp_path: Path) -> None:
    async with services_in(tmp_path, handshake_timeout_s=0.3) as services:
        _, token = await log_in(services)
        turnstile = services.connections.turnstile
        while not turnstile.locked():
            await turnstile.acquire()
        late = Wire(services, token)
        running = late.run()
        await eventually(lambda: len(late.said) == 2)
        assert late.said == ["accept", "close 1013 overloaded"]
        turnstile.release()
        next_one = Wire(services, token)
        held = next_one.run()
        await eventually(lambda: next_one.said == ["accept", "hello"])
        next_one.leave()
        await asyncio.gather(running, held)
