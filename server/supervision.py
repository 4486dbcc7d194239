"""Background work that has to go on as long as the server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final

import structlog

_log = structlog.get_logger("interlock.server")

Work = Callable[[], Awaitable[None]]

_PAUSE_S: Final = 1.0
"""How long after a failure the work is begun again."""

_FAILING_S: Final = 30.0
"""How long after its last failure work counts as failing: longer than the interval of most readiness probes."""


class Supervisor:
    """Runs background work. Work that raises is logged and begun again; meanwhile the server is not ready."""

    def __init__(self) -> None:
        self._failed_at: dict[str, float] = {}
        self._closing = False

    @property
    def failing(self) -> list[str]:
        """Names of the work that has raised in the last half minute."""
        now = monotonic()
        return sorted(name for name, at in self._failed_at.items() if now < at + _FAILING_S)

    def start(self, name: str, work: Work) -> asyncio.Task[None]:
        """Call ``work`` until it returns, in a task, which it returns. ``work`` can be called again after it raised."""
        return asyncio.create_task(self._keep(name, work), name=f"interlock-{name}")

    @asynccontextmanager
    async def running(self, name: str, work: Work) -> AsyncIterator[None]:
        """As :meth:`start`, and cancel it when the context ends."""
        task = self.start(name, work)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def close(self) -> None:
        """The server stops: work that fails from now on is not begun again."""
        self._closing = True

    async def _keep(self, name: str, work: Work) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  # whatever it is, the work has to go on
                self._failed_at[name] = monotonic()
                _log.critical("background.failed", work=name, exc_info=error)
            else:
                return
            if self._closing:
                return
            await asyncio.sleep(_PAUSE_S)
