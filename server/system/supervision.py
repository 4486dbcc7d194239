"""Supervision of background work that runs as long as the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from time import monotonic
from typing import Final

import msgspec
import structlog

_log = structlog.get_logger("interlock.server")

Work = Callable[[], Awaitable[None]]

_PAUSE_S: Final = 1.0
"""Delay before failed work restarts, and interval at which its progress is checked."""

_FAILING_S: Final = 30.0
"""How long work counts as failing after its last failure: longer than the interval of most readiness probes.

Also how long work may make no progress, counted in checks: while the process is stopped (a paused machine, SIGSTOP) nothing
can progress, which is no fault of the work."""


class WorkEnded(Exception):
    """Background work returned or was cancelled before the server stops."""


class _State(msgspec.Struct):
    silent_looks: int = 0
    failed_at: float | None = None
    stuck: bool = False


_own_state: ContextVar[_State | None] = ContextVar("supervised", default=None)


def progressed() -> None:
    """Note progress of the calling background work. Each round of supervised work calls it once."""
    state = _own_state.get()
    if state is not None:
        state.silent_looks = 0


class Supervisor:
    """Runs background work. Work that ends is logged and restarted; meanwhile the server is not ready.

    Nor is it while work makes no progress. Such work is logged and left alone, because what it waits for may be half done.
    """

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._closing = False

    @property
    def failing(self) -> list[str]:
        """Names of the work that ended in the last half minute, or makes no progress."""
        now = monotonic()
        return sorted(name for name, state in self._states.items() if state.stuck or _is_recent(state.failed_at, now))

    def start(self, name: str, work: Work) -> asyncio.Task[None]:
        """Return a task that calls ``work`` until it returns. ``work`` can be called again after it raised."""
        return asyncio.create_task(self._keep(name, work, may_return=True), name=f"interlock-{name}")

    @asynccontextmanager
    async def running(self, name: str, work: Work) -> AsyncIterator[None]:
        """Call ``work``, which never returns, until the context ends. ``work`` can be called again after it ended."""
        task = asyncio.create_task(self._keep(name, work, may_return=False), name=f"interlock-{name}")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def close(self) -> None:
        """Stop restarting work, because the server stops."""
        self._closing = True

    async def _keep(self, name: str, work: Work, *, may_return: bool) -> None:
        state = self._states[name] = _State()
        _own_state.set(state)
        while True:
            error = await self._run(name, work, state)
            if error is None and may_return:
                return
            state.failed_at = monotonic()
            _log.critical("background.failed", work=name, exc_info=error or WorkEnded("it returned"))
            if self._closing:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _run(self, name: str, work: Work, state: _State) -> Exception | None:
        """Call ``work`` once and watch its progress. Return how it failed, or None if it returned."""

        async def call() -> None:
            await work()

        state.silent_looks = 0
        # In a task of its own, to tell a cancellation of the work from one of the supervisor.
        task = asyncio.create_task(call(), name=f"interlock-{name}-work")
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_PAUSE_S)
                _look(name, state)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        if task.cancelled():
            return WorkEnded("it was cancelled")
        error = task.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        return error


def _is_recent(failed_at: float | None, now: float) -> bool:
    return failed_at is not None and now < failed_at + _FAILING_S


def _look(name: str, state: _State) -> None:
    """Log once if work ``name`` has made no progress for too long. Call it every ``_PAUSE_S`` seconds."""
    state.silent_looks += 1
    silent_s = state.silent_looks * _PAUSE_S
    if (silent_s >= _FAILING_S) == state.stuck:
        return
    state.stuck = not state.stuck
    if state.stuck:
        _log.critical("background.stuck", work=name, silent_s=round(silent_s))
