"""Lists, acts and the audit trail over SQLite: the contracts, the plans of the searches, and what the file itself refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pysqlite3
import pytest

from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.accounts import Account
from interlock.server.surface.directory import Place
from interlock.server.surface.sqlite.accounts import _ACTS_AFTER, _DISABLED_WITH_SESSIONS, _PAGE
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.directory import searches
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.system.supervision import Supervisor
from tests.server.administration_contract import (
    DISABLE,
    AccountStandingContract,
    DirectoryContract,
    filters,
)
from tests.support.steps import NOW_MS, Story


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Surface]:
    async with open_surface(folder, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        yield surface
    with open_archive(folder) as archive:
        assert list(archive.verify()) or not archive.record_count()


class TestSqliteAccountStanding(AccountStandingContract):
    open = staticmethod(opened)


class TestSqliteDirectory(DirectoryContract):
    open = staticmethod(opened)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Any]:
    """The file with one session and one act in it, opened by somebody with a shell."""

    async def make() -> None:
        async with open_surface(tmp_path, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            await surface.log.append(Story().begin("acc_1"))
            await surface.accounts.add(Account("acc_1", None, None, 1, 1))
            await surface.accounts.set_disabled("acc_1", 1, DISABLE)

    asyncio.run(make())
    with closing(pysqlite3.connect(str(tmp_path / "interlock.db"), isolation_level=None)) as connection:
        yield connection


def plan(shell: Any, statement: str, parameters: list[Any]) -> str:
    return "\n".join(row[3] for row in shell.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())


def test_no_list_scans_a_table_or_sorts(shell: Any) -> None:
    """What makes a page as fast at a million sessions as at a hundred."""
    pages = [
        search
        for wanted in filters()
        for at in (None, Place(NOW_MS, "s"))
        for search in searches(SESSION_MACHINE, wanted, at, 10)
    ]
    assert len(pages) > 100
    pages += [(_PAGE, ["acc", 10]), (_ACTS_AFTER, [0, 10])]
    for statement, parameters in pages:
        told = plan(shell, statement, parameters)
        assert told.startswith("SEARCH"), statement
        assert "SCAN" not in told, statement
        assert "TEMP B-TREE" not in told, statement


def test_a_search_begins_where_the_page_before_ended(shell: Any) -> None:
    """The place bounds the search itself: it is not looked for row by row from the newest on."""
    for wanted in filters():
        for statement, parameters in searches(SESSION_MACHINE, wanted, Place(NOW_MS - 1, "s"), 10):
            told = plan(shell, statement, parameters)
            assert re.search(r"_at_ms<\?|\(\w+_at_ms,instance_id\)<\(\?,\?\)", told), told


def test_a_start_looks_at_disabled_accounts_only(shell: Any) -> None:
    told = plan(shell, _DISABLED_WITH_SESSIONS, [])
    assert "accounts USING" in told
    assert "accounts_disabled" in told
    assert "SCAN instances" not in told


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'admin:bob'",
        "UPDATE audit SET position = 7",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit VALUES (1, 1, 'admin:bob', 'a', 'o', '{}', NULL)",
        "INSERT INTO audit VALUES (1, 1, 'x', 'a', 'o', '{}', NULL) ON CONFLICT DO UPDATE SET actor = 'x'",
        "INSERT INTO audit VALUES (3, 1, 'admin:bob', 'a', 'o', '{}', NULL)",
        "INSERT INTO audit VALUES (0, 1, 'admin:bob', 'a', 'o', '{}', NULL)",
        "INSERT INTO audit (at_ms, actor, action, object, detail) VALUES (1, 'admin:bob', 'a', 'o', '{}')",
    ],
)
def test_what_is_in_the_audit_trail_stays_as_it_is(shell: Any, statement: str) -> None:
    before = shell.execute("SELECT * FROM audit").fetchall()
    with pytest.raises(pysqlite3.IntegrityError, match="audit: "):
        shell.execute(statement)
    assert shell.execute("SELECT * FROM audit").fetchall() == before
    assert len(before) == 1
