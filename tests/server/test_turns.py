"""Turns per key, whatever happens to the waiters."""

from __future__ import annotations

import asyncio

import pytest

from interlock.server.system.turns import Turns
from tests.support.asynchronous import asynchronous


@asynchronous
async def test_turns_are_in_order_and_independent_between_keys() -> None:
    turns, heard = Turns(), list[str]()

    async def work(key: str, name: str) -> None:
        await turns.take(key)
        heard.append(f"{name} begins")
        await asyncio.sleep(0.01)
        heard.append(f"{name} ends")
        turns.give(key)

    await asyncio.gather(*(work("one", name) for name in ("a", "b", "c")), work("other", "x"))
    own = [told for told in heard if not told.startswith("x")]
    assert own == [f"{name} {what}" for name in ("a", "b", "c") for what in ("begins", "ends")]
    assert heard.index("x begins") < heard.index("a ends")


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "in the moment of its turn"])
@asynchronous
async def test_a_cancelled_waiter_blocks_no_turn(*, given: bool) -> None:
    turns = Turns()
    await turns.take("key")
    gone, waiting = (asyncio.create_task(turns.take("key")) for _ in range(2))
    await asyncio.sleep(0)
    if given:
        turns.give("key")
        gone.cancel()
    else:
        gone.cancel()
        turns.give("key")
    async with asyncio.timeout(10):
        await waiting
    assert gone.cancelled()
    late = asyncio.create_task(turns.take("key"))
    await asyncio.sleep(0)
    assert not late.done(), "the turn is the second one's"
    turns.give("key")
    async with asyncio.timeout(10):
        await late
