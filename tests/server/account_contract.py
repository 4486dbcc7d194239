"""What every implementation of the account store does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from interlock.machine.errors import AccountDisabled, AccountExists, CredentialInvalid, PasswordWrong
from interlock.server.surface.accounts import Account, AccountStore
from interlock.server.surface.audit import Act
from tests.support.along import along
from tests.support.asynchronous import asynchronous


def with_password(account: Account, password_hash: str, at_ms: int) -> Account:
    return msgspec.structs.replace(account, password_hash=password_hash, password_changed_at_ms=at_ms)


class AccountStoreContract(ABC):
    """:class:`interlock.server.surface.accounts.AccountStore`."""

    ADA = Account("acc_1", "ada@example.org", "hash-1", 1, 1)

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[AccountStore]:
        """The store of the implementation under test, over ``folder``."""

    @asynchronous
    async def test_an_account_is_found_by_email_and_by_id(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            assert await store.by_email("ada@example.org") is None
            await store.add(self.ADA)
            assert await store.by_email("ada@example.org") == self.ADA
            assert await store.by_id("acc_1") == self.ADA
            assert await store.by_id("acc_2") is None

    @asynchronous
    async def test_accounts_that_somebody_else_proves_need_no_address_and_keep_their_groups(
        self, tmp_path: Path
    ) -> None:
        async with self.open(tmp_path) as store:
            accounts = [Account(f"acc_{n}", None, None, 1, 1, ("ops", "staff"), n or None) for n in range(2)]
            for account in accounts:
                await store.add(account)
                assert await store.by_id(account.account_id) == account

    @asynchronous
    async def test_an_address_is_taken_once(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            rivals = [msgspec.structs.replace(self.ADA, account_id=f"acc_{n}") for n in range(5)]
            outcomes = await asyncio.gather(*map(store.add, rivals), return_exceptions=True)
            assert [isinstance(outcome, AccountExists) for outcome in outcomes].count(False) == 1
            kept = await store.by_email("ada@example.org")
            assert kept == rivals[outcomes.index(None)]

    @asynchronous
    async def test_a_password_is_replaced_if_it_still_is_the_one_that_was_checked(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            await store.add(self.ADA)
            new = [with_password(self.ADA, f"new-{number}", number + 2) for number in range(5)]
            changed = await asyncio.gather(*(along(store, store.new_password(self.ADA, each)) for each in new))
            assert changed == [None, *[PasswordWrong] * 4]
            assert await store.by_id("acc_1") == new[0]
            nobody = msgspec.structs.replace(self.ADA, account_id="nobody")
            assert await along(store, store.new_password(nobody, nobody)) is PasswordWrong

    @asynchronous
    async def test_an_account_still_is_as_it_was_proved_or_not(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            assert await along(store, store.still(self.ADA)) is CredentialInvalid
            await store.add(self.ADA)
            assert await along(store, store.still(self.ADA)) is None
            changed = with_password(self.ADA, "new", 2)
            await along(store, store.new_password(self.ADA, changed))
            assert await along(store, store.still(self.ADA)) is CredentialInvalid
            assert await along(store, store.still(changed)) is None
            await store.set_disabled("acc_1", 9, Act(9, "admin:eve", "account.disable", "acc_1", {}, None))
            assert await along(store, store.still(changed)) is AccountDisabled
            assert await along(store, store.new_password(changed, changed)) is PasswordWrong

    @asynchronous
    async def test_a_hash_is_replaced_by_another_of_the_same_password_once(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            await store.add(self.ADA)
            again = await asyncio.gather(*(store.rehash("acc_1", "hash-1", f"again-{n}") for n in range(5)))
            assert again.count(True) == 1
            kept = msgspec.structs.replace(self.ADA, password_hash=f"again-{again.index(True)}")
            assert await store.by_id("acc_1") == kept
            assert not await store.rehash("nobody", "hash-1", "again")
            # Who checked the password before it was hashed anew has still checked this password.
            changed = with_password(self.ADA, "new", 9)
            assert await along(store, store.new_password(self.ADA, changed)) is None
            assert not await store.rehash("acc_1", kept.password_hash or "", "again")
            account = await store.by_id("acc_1")
            assert account is not None
            assert account.password_hash == "new"

    @asynchronous
    async def test_an_account_without_a_password_gets_none(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as store:
            eve = Account("acc_2", None, None, 1, 1)
            await store.add(eve)
            changed = with_password(eve, "new", 9)
            assert await along(store, store.new_password(eve, changed)) is PasswordWrong
