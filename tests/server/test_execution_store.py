"""The stored data of executions: the contract of its store, and edits that a reader and `interlock verify` notice."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from interlock.machine.account.commands import Delete
from interlock.machine.errors import LedgerFault, RecordRefused, SurfaceFailed
from interlock.machine.execution.commands import Cancel, Start
from interlock.server.surface.executions import ExecutionStore
from interlock.server.surface.log import TransitionLog
from interlock.server.surface.memory import MemoryExecutions, MemoryLog
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.accounts import AccountStory, personal
from tests.support.asynchronous import asynchronous
from tests.support.executions import ExecutionStory
from tests.support.steps import Story
from tests.support.tampering import shell


class ExecutionStoreContract(ABC):
    """Contract of :class:`interlock.server.surface.executions.ExecutionStore`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[tuple[TransitionLog, ExecutionStore]]:
        """Open the implementation under test, and its log, over ``folder``."""

    @asynchronous
    async def test_the_data_is_found_with_what_its_records_commit_to(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (log, store):
            made, failed, cancelled = (ExecutionStory(intent_id=each) for each in ("i1", "i2", "i3"))
            assert await store.by_id(made.data.execution_id) is None
            for story in (made, failed, cancelled):
                await log.append(story.accept(store.add(story.data)))
                assert await store.by_id(story.data.execution_id) == story.data
                await log.append(story.tell(Start("n1")))
            await log.append(made.succeed('{"id":1}', store.finish(made.data.execution_id, result='{"id":1}')))
            await log.append(failed.fail('"no"', store.finish(failed.data.execution_id, error='"no"')))
            await log.append(cancelled.tell(Cancel("asked")))
            for story in (made, failed, cancelled):
                found = await store.by_id(story.data.execution_id)
                assert found == story.data
                assert found.is_of(story.execution)
            assert (made.data.result, failed.data.error) == ('{"id":1}', '"no"')

    @asynchronous
    async def test_refused_steps_leave_no_data(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (log, store):
            refused, story, session = ExecutionStory(intent_id="i2"), ExecutionStory(), Story()
            await log.append(session.begin("acc_1"))
            with pytest.raises(RecordRefused):
                await log.append([*refused.accept(store.add(refused.data)), *session.bad()])
            assert await store.by_id(refused.data.execution_id) is None
            await log.append(story.accept(store.add(story.data)))
            await log.append(story.tell(Start("n1")))
            before = story.data
            steps = story.succeed("1", store.finish(before.execution_id, result="1"))
            with pytest.raises(RecordRefused):
                await log.append([*steps, *session.bad()])
            assert await store.by_id(before.execution_id) == before

    @asynchronous
    async def test_a_result_other_than_the_recorded_one_is_not_returned(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (log, store):
            story = ExecutionStory()
            await log.append(story.accept(store.add(story.data)))
            await log.append(story.tell(Start("n1")))
            await log.append(story.succeed("1", store.finish(story.data.execution_id, result="2")))
            with pytest.raises(SurfaceFailed, match="not what its records are about"):
                await store.by_id(story.data.execution_id)


class TestMemoryExecutions(ExecutionStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[tuple[TransitionLog, ExecutionStore]]:  # noqa: ARG002  # nothing is stored
        log = MemoryLog()
        yield log, MemoryExecutions(log.store)


def surface_of(folder: Path) -> AbstractAsyncContextManager[Surface]:
    return open_surface(folder, max_waiting=99, on_failure=pytest.fail, supervisor=Supervisor())


class TestSqliteExecutions(ExecutionStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[tuple[TransitionLog, ExecutionStore]]:
        async with surface_of(folder) as surface:
            yield surface.log, surface.executions


def fault(folder: Path) -> str | None:
    """Return what `interlock verify` finds wrong with the log in ``folder``."""
    with open_archive(folder) as archive, suppress(StopIteration):
        try:
            list(archive.verify())
        except LedgerFault as found:
            return found.fault
    return None


@asynchronous
async def test_the_data_is_erased_with_its_account(tmp_path: Path) -> None:
    """What still runs then may end, and leaves no data either. The log verifies."""
    async with surface_of(tmp_path) as surface:
        log, store = surface.log, surface.executions
        ada, bob = AccountStory(), AccountStory(personal("acc_2", None))
        for account in (ada, bob):
            await log.append(account.register(surface.accounts.add(account.data)))
        ended, running, others = ExecutionStory(), ExecutionStory(intent_id="i2"), ExecutionStory("acc_2")
        for story in (ended, running, others):
            await log.append(story.accept(store.add(story.data)))
            await log.append(story.tell(Start("n1")))
        await log.append(ended.succeed("1", store.finish(ended.data.execution_id, result="1")))
        assert fault(tmp_path) is None
        await log.append(ada.tell(Delete(), surface.accounts.erase("acc_1")))
        await log.append(running.succeed("2", store.finish(running.data.execution_id, result="2")))
        for story in (ended, running):
            assert await store.by_id(story.data.execution_id) is None
        assert await store.by_id(others.data.execution_id) == others.data
    with shell(tmp_path) as database:
        assert database.execute("SELECT count(*) FROM execution_data").fetchone() == (1,)
    assert fault(tmp_path) is None


FORGED: Final = {
    "other parameters": ("UPDATE execution_data SET parameters = '{\"a\":2}'", "not what its records are about"),
    "another result": ("UPDATE execution_data SET result = '2' WHERE result = '1'", "not what its records are about"),
    "no result": ("UPDATE execution_data SET result = NULL", "not what its records are about"),
    "another error": ("UPDATE execution_data SET error = '2' WHERE error = '\"no\"'", "not what its records are about"),
    "an error": ("UPDATE execution_data SET error = result, result = NULL", "not what its records are about"),
    "another key": ("UPDATE execution_data SET commitment_key = 'AAAA'", "not what its records are about"),
    "a key that is none": ("UPDATE execution_data SET commitment_key = 'no key'", "not what its records are about"),
    "nothing": ("DELETE FROM execution_data WHERE result IS NOT NULL", "is missing"),
    "no table": ("DROP TABLE execution_data", "is missing"),
    "more": ("INSERT INTO execution_data VALUES ('exe_x', 'AAAA', '{}', NULL, NULL)", "data of 4 executions, of which"),
}


@asynchronous
@pytest.mark.parametrize(("change", "words"), FORGED.values(), ids=FORGED)
async def test_forged_data_of_an_execution_is_a_fault(tmp_path: Path, change: str, words: str) -> None:
    """Whether the execution has ended or not. Nothing of it is served."""
    made, failed, waiting = (ExecutionStory(intent_id=each) for each in ("i1", "i2", "i3"))
    async with surface_of(tmp_path) as surface:
        log, store = surface.log, surface.executions
        for story in (made, failed, waiting):
            await log.append(story.accept(store.add(story.data)))
        for story in (made, failed):
            await log.append(story.tell(Start("n1")))
        await log.append(made.succeed("1", store.finish(made.data.execution_id, result="1")))
        await log.append(failed.fail('"no"', store.finish(failed.data.execution_id, error='"no"')))
    assert fault(tmp_path) is None
    with shell(tmp_path) as database:
        database.execute(change)
    assert words in (fault(tmp_path) or "")
    if change.startswith("UPDATE"):
        async with surface_of(tmp_path) as surface:
            refused = 0
            for story in (made, failed, waiting):
                try:
                    assert await surface.executions.by_id(story.data.execution_id) == story.data
                except SurfaceFailed:
                    refused += 1
        assert refused


@asynchronous
async def test_a_result_forged_with_its_projection_is_not_served(tmp_path: Path) -> None:
    """The forger has the key, and so can commit to any result."""
    story = ExecutionStory()
    async with surface_of(tmp_path) as surface:
        log, store = surface.log, surface.executions
        await log.append(story.accept(store.add(story.data)))
        await log.append(story.tell(Start("n1")))
        await log.append(story.succeed("1", store.finish(story.data.execution_id, result="1")))
    honest = story.data
    story.result("2")
    with shell(tmp_path) as database:
        key = base64.b64encode(honest.key).decode()
        assert database.execute("SELECT commitment_key FROM execution_data").fetchone() == (key,)
        database.execute("UPDATE execution_data SET result = '2'")
        fold = "json_set(fold, '$.result', ?)"
        database.execute(f"UPDATE instances SET fold = {fold}", (story.data.committed_result,))  # noqa: S608  # a text of ours
    assert "differs from its log" in (fault(tmp_path) or "")
    async with surface_of(tmp_path) as surface:
        with pytest.raises(SurfaceFailed, match="differs from its log"):
            await surface.executions.by_id(honest.execution_id)
