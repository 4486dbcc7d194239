"""Asynchronous tests without a plug-in: each runs in a fresh event loop, asyncio's or, like the server, uvloop's."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import uvloop

from tests.support import running

P = ParamSpec("P")

LIMIT_S = running.PATIENCE_S
"""A hanging test fails, and soon if that is expected."""


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Wrap ``test`` as a function that pytest can call."""

    @functools.wraps(test)
    def run(*arguments: P.args, **keywords: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **keywords), LIMIT_S))

    return run


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Wrap as :func:`asynchronous`, in the event loop of the server."""

    @functools.wraps(test)
    def run(*arguments: P.args, **keywords: P.kwargs) -> None:
        uvloop.run(asyncio.wait_for(test(*arguments, **keywords), LIMIT_S))

    return run
