"""``interlock serve`` without its transition log: the same app except for durability.

``python -m tests.bench.memory_server serve …`` takes the flags of ``interlock``. Accounts and tickets stay in the file;
``POST /api/session`` touches neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from interlock.machine.ledger import GENESIS, Record
from interlock.machine.machine import Authority
from interlock.server import opened_storage as opening
from interlock.server.cli.main import main
from interlock.server.surface.log import Followed, Step
from interlock.server.surface.memory import MemoryLog
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.surface.sqlite.writer import Batch
from interlock.server.system.supervision import Supervisor
from interlock.server.system.workers import settle


class _NoLog(MemoryLog):
    """Acknowledges at once, and chains and stores nothing: what remains is the application without its log."""

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:  # noqa: ARG002  # nothing is kept to compare
        """See :class:`interlock.server.surface.log.TransitionLog`. New sessions are found in the door's own cache."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Record]] = loop.create_future()
        # In the loop's next turn: requests that never wait would let one connection starve the others.
        loop.call_soon(self._answer, future, steps)
        return future

    def _answer(self, future: asyncio.Future[list[Record]], steps: Sequence[Step]) -> None:
        first = self._delivered + 1
        records = [Record(first + n, step.transition, GENESIS) for n, step in enumerate(steps)]
        if self._follower is not None:
            self._follower([Followed(record, step.instance) for record, step in zip(records, steps, strict=True)])
        self._delivered = records[-1].position
        settle([future], [records])


@asynccontextmanager
async def _in_memory(
    data: Path,
    *,
    max_waiting: int,
    on_failure: Callable[[str], None],
    on_commit: Callable[[Sequence[object]], None],
    on_batch: Callable[[Batch], None],
    supervisor: Supervisor,
) -> AsyncIterator[Surface]:
    async with open_surface(
        data,
        max_waiting=max_waiting,
        on_failure=on_failure,
        on_commit=on_commit,
        on_batch=on_batch,
        supervisor=supervisor,
    ) as surface:
        yield msgspec.structs.replace(surface, log=_NoLog())


if __name__ == "__main__":
    opening.open_surface = _in_memory  # type: ignore[attr-defined, assignment]  # the app has no seam for it
    main()
