"""Running scenarios: every one has a time limit, and none relies on sleeping."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import uvloop

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_S = 300.0
"""A hanging test fails. One that is slow because the machine is busy does not."""
PATIENCE_S = float(os.environ.get("TEST_LIMIT_S", LIMIT_S))
"""Longest wait for one condition: short in the trial of a mutant, where what never comes true is expected."""


def run(main: Coroutine[Any, Any, T], within_s: float = LIMIT_S) -> T:
    """Run ``main`` on a new event loop, with the time limit."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, within_s))


def scenario(within_s: float = LIMIT_S) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """Make an ``async`` test one that pytest can call, with a time limit."""

    def decorate(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def call(*arguments: P.args, **keywords: P.kwargs) -> None:
            run(test(*arguments, **keywords), within_s)

        return call

    return decorate


def until(condition: Callable[[], T], within_s: float = 30) -> T:
    """Wait until ``condition()`` is true and return its value; for tests without an event loop."""
    deadline = time.monotonic() + min(within_s, PATIENCE_S)
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
    return found


async def eventually(condition: Callable[[], Any | Awaitable[Any]], within_s: float = 30) -> Any:
    """Wait until ``condition()`` is true and return its value."""
    async with asyncio.timeout(min(within_s, PATIENCE_S)):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)
