"""Asynchronous tests without a plug-in: each runs in a fresh event loop."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

LIMIT_S = float(os.environ.get("TEST_LIMIT_S", "60"))
"""A test that hangs fails instead."""


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """``test`` as a function that pytest can call."""

    @functools.wraps(test)
    def run(*arguments: P.args, **keywords: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **keywords), LIMIT_S))

    return run
