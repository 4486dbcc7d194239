"""What memory knows of accounts: bounded, and exact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from interlock.machine.errors import AccountExists
from interlock.server.guard.known_accounts import Identity, KnownAccounts
from interlock.server.surface.accounts import Account, AccountStore
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.server.test_surface import TestSqliteAccounts as SqliteAccountsContract
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually

STAFF: Final = Account("ada", None, None, 1, 1, ("staff",))


class TestKnownAccounts(SqliteAccountsContract):
    """It is an account store like the one behind it."""

    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[AccountStore]:
        async with super().open(folder) as store:
            yield KnownAccounts(store)


@asynchronous
async def test_known_accounts_are_bounded_and_exact(tmp_path: Path) -> None:
    async with open_surface(tmp_path, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        accounts = KnownAccounts(surface.accounts, limit=2)
        for name in ("a", "b", "c"):
            assert await accounts.load(name) == Identity(name)
        assert [accounts.known(name) is None for name in ("a", "b", "c")] == [True, False, False]
        await accounts.add(Account("c", None, None, 1, 1, ("staff",)))
        assert accounts.known("c") is None
        assert await accounts.load("c") == Identity("c", ("staff",), password_changed_at_ms=1)
        with pytest.raises(AccountExists):
            await accounts.add(Account("c", None, None, 1, 1))
        assert await accounts.load("c") == Identity("c", ("staff",), password_changed_at_ms=1)


class Slow(msgspec.Struct):
    """A store whose reads wait for ``read`` and whose changes wait for ``changed``."""

    read: asyncio.Event
    changed: asyncio.Event
    account: Account | None = None

    async def by_id(self, _account_id: str) -> Account | None:
        account = self.account
        await self.read.wait()
        return account

    async def add(self, account: Account) -> None:
        await self.changed.wait()
        self.account = account


@asynchronous
async def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    store: Any = Slow(asyncio.Event(), asyncio.Event())
    accounts = KnownAccounts(store)
    reading = asyncio.create_task(accounts.load("ada"))
    await asyncio.sleep(0)
    store.changed.set()
    await accounts.add(STAFF)
    store.read.set()
    assert await reading == Identity("ada"), "asked before, and answered with what was"
    assert accounts.known("ada") is None
    assert await accounts.load("ada") == Identity("ada", ("staff",), password_changed_at_ms=1)


@asynchronous
async def test_a_change_whose_caller_has_gone_is_noticed_all_the_same() -> None:
    store: Any = Slow(asyncio.Event(), asyncio.Event())
    store.read.set()
    accounts = KnownAccounts(store)
    adding = asyncio.create_task(accounts.add(STAFF))
    await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    store.changed.set()

    async def noticed() -> bool:
        return await accounts.load("ada") == Identity("ada", ("staff",), password_changed_at_ms=1)

    await eventually(noticed)
