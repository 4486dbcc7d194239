"""Internals: the tail's memory, ends that wait for a busy log, counted refusals, and checks of files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import Record
from interlock.server.runtime import tail as tail_module
from interlock.server.runtime.tail import Tail
from interlock.server.surface.memory import MemoryLog
from interlock.server.surface.sqlite.file_identity import FileIdentity
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.asynchronous import asynchronous
from tests.support.steps import Story


class Followed:
    """A tail over a log in memory. ``read``: the positions from which it read the log."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.read: list[int] = []
        self.tail = Tail(self._after, 0)

    async def _after(self, position: int, limit: int) -> list[Record]:
        self.read.append(position)
        return await self.log.after(position, limit)

    async def grow(self) -> None:
        story = Story()
        for record in await self.log.append(story.begin()):
            self.tail.observe(record, story.session)


async def positions(tail: Tail, after: int, limit: int) -> list[int]:
    return [record.position for record in await tail.after(after, limit)]


@asynchronous
async def test_the_tail_reads_new_records_from_memory_and_old_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "_KEPT", 4)
    followed = Followed()
    for _ in range(6):
        await followed.grow()
    assert await positions(followed.tail, 2, 2) == [3, 4]
    assert await positions(followed.tail, 2, 9) == [3, 4, 5, 6]
    assert await positions(followed.tail, 5, 9) == [6]
    assert await positions(followed.tail, 6, 9) == []
    assert followed.read == []
    assert await positions(followed.tail, 1, 3) == [2, 3, 4]
    assert followed.read == [1]


@asynchronous
async def test_a_tail_wait_ends_with_a_record_or_a_wake_up() -> None:
    followed = Followed()
    waiting = asyncio.create_task(followed.tail.wait(0, 60))
    await asyncio.sleep(0)
    await followed.grow()
    assert await waiting < 60
    assert await followed.tail.wait(0, 60) == 0
    waiting = asyncio.create_task(followed.tail.wait(1, 60))
    await asyncio.sleep(0)
    followed.tail.wake()
    assert await waiting < 60
    gone = asyncio.create_task(followed.tail.wait(1, 60))
    await asyncio.sleep(0)
    gone.cancel()
    followed.tail.wake()
    assert await followed.tail.wait(1, 0.01) > 0


_GONE = re.compile("is gone|is another file now")

GONE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "exchanged": lambda path: path.with_suffix(".new").write_bytes(b"") or path.with_suffix(".new").replace(path),
}


@pytest.mark.parametrize("name", ["interlock.db", "interlock.db-wal"])
@pytest.mark.parametrize("how", GONE.values(), ids=GONE)
@asynchronous
async def test_nothing_is_acknowledged_once_a_database_file_is_gone(
    tmp_path: Path, name: str, how: Callable[[Path], object]
) -> None:
    failures: list[str] = []
    async with open_surface(tmp_path, max_waiting=10, on_failure=failures.append, supervisor=Supervisor()) as surface:
        await surface.log.append(Story().begin())
        file_identity = FileIdentity(tmp_path / "interlock.db")
        file_identity.check()
        how(tmp_path / name)
        with pytest.raises(SurfaceFailed, match=_GONE):
            file_identity.check()
        with pytest.raises(SurfaceFailed, match=_GONE):
            await surface.log.append(Story().begin())
        with pytest.raises(SurfaceFailed):
            await surface.log.append(Story().begin())
        assert len(failures) == 1
