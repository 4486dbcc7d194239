"""Lists over SQLite: the contract, and the query plans."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pysqlite3
import pytest

from interlock.machine.account.commands import Disable
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.directory import Cursor, InstanceFilter
from interlock.server.surface.memory import MemoryDirectory, MemoryLog
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.directory import searches
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.surface.sqlite.log import _AUDIT
from interlock.server.surface.sqlite.stores.accounts import _SUPERSEDED
from interlock.server.system.supervision import Supervisor
from tests.server.administration_contract import (
    DirectoryContract,
    filters,
)
from tests.support.accounts import AccountStory
from tests.support.steps import NOW_MS, Story


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Surface]:
    async with open_surface(folder, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        yield surface
    with open_archive(folder) as archive:
        assert list(archive.verify()) or not archive.record_count()


class TestSqliteDirectory(DirectoryContract):
    open = staticmethod(opened)


class TestMemoryDirectory(DirectoryContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[Any]:  # noqa: ARG002  # nothing is stored
        log = MemoryLog()
        yield SimpleNamespace(log=log, directory=MemoryDirectory(log.store))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Any]:
    """Open the file, which holds one session and one audit record, in a shell."""

    async def make() -> None:
        async with open_surface(tmp_path, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            ada = AccountStory()
            await surface.log.append(ada.register(surface.accounts.add(ada.data)))
            await surface.log.append(Story().begin("acc_1"))
            await surface.log.append(ada.tell(Disable(), actor="admin:ada"))

    asyncio.run(make())
    with closing(pysqlite3.connect(str(tmp_path / "interlock.db"), isolation_level=None)) as connection:
        yield connection


def plan(shell: Any, statement: str, parameters: list[Any]) -> str:
    return "\n".join(row[3] for row in shell.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())


def test_no_list_scans_a_table_or_sorts(shell: Any) -> None:
    """So a page is as fast with a million sessions as with a hundred."""
    pages = [
        search
        for wanted in filters()
        for at in (None, Cursor(NOW_MS, "s"))
        for search in searches(SESSION_MACHINE, wanted, at, 10)
    ]
    assert len(pages) > 100
    pages += searches(ACCOUNT_MACHINE, InstanceFilter("disabled"), None, 10)
    pages += [(_AUDIT, [0, 10])]
    for statement, parameters in pages:
        told = plan(shell, statement, parameters)
        assert told.startswith("SEARCH"), statement
        assert "SCAN" not in told.replace("SCAN (subquery-1)", ""), statement
        assert "TEMP B-TREE" not in told, statement


def test_a_list_query_starts_at_its_cursor(shell: Any) -> None:
    """The cursor bounds the search itself; rows are not scanned from the newest."""
    for wanted in filters():
        for statement, parameters in searches(SESSION_MACHINE, wanted, Cursor(NOW_MS - 1, "s"), 10):
            told = plan(shell, statement, parameters)
            assert re.search(r"_at_ms<\?|\(\w+_at_ms,instance_id\)<\(\?,\?\)", told), told


def test_a_start_reads_only_live_sessions_of_accounts(shell: Any) -> None:
    told = plan(shell, _SUPERSEDED, [])
    assert "SEARCH s USING INDEX instances_live_of_owner" in told
    assert "SCAN" not in told
