"""Contract of the stores beside the log: personal data, and exchanged tokens."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from interlock.machine.account.commands import ChangePassword, Delete, Disable, Enable, SetGroups
from interlock.machine.errors import AccountExists, CredentialInvalid, RecordRefused
from interlock.machine.session.commands import Authenticate, Create, Revoke
from interlock.server.surface.accounts import PersonalData
from interlock.server.surface.log import Step
from interlock.server.surface.sqlite.files import Surface
from tests.support.accounts import AccountStory, personal
from tests.support.asynchronous import asynchronous
from tests.support.steps import POLICY, Story

TOKEN = bytes(32)


class AccountStoreContract(ABC):
    """Contract of :class:`interlock.server.surface.accounts.AccountStore`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[Surface]:
        """Open the implementation under test over ``folder``."""

    @asynchronous
    async def test_an_owner_is_found_by_email_by_id_and_by_identity(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            store = surface.accounts
            ada, bob = AccountStory(), AccountStory(personal("acc_2", None))
            assert await store.by_email("ada@example.org") is None
            for story in (ada, bob):
                await surface.log.append(story.register(store.add(story.data), "ops", "staff"))
            assert (await store.by_email("ada@example.org"), await store.by_id("acc_1")) == (ada.data, ada.owner)
            by_identity = await store.by_identity("https://id.example", "acc_2")
            assert (by_identity, await store.by_id("acc_2")) == (bob.data, bob.owner)
            assert await store.by_identity("https://id.example", "acc_1") is None
            assert await store.by_identity("https://other.example", "acc_2") is None
            assert await store.by_id("acc_3") is None
            assert sorted(await store.of_accounts(["acc_1", "acc_2", "acc_3"]), key=str) == sorted(
                [ada.data, bob.data], key=str
            )
            assert await store.of_accounts([]) == []

    @pytest.mark.parametrize("email", ["ada@example.org", None])
    @asynchronous
    async def test_an_email_address_or_identity_can_be_registered_once(self, tmp_path: Path, email: str | None) -> None:
        """The second one is not registered."""
        async with self.open(tmp_path) as surface:
            rivals = [AccountStory(_rival(f"acc_{n}", email)) for n in range(5)]
            steps = [rival.register(surface.accounts.add(rival.data)) for rival in rivals]
            outcomes = await asyncio.gather(*map(surface.log.append, steps), return_exceptions=True)
            assert [isinstance(outcome, AccountExists) for outcome in outcomes] == [False, *[True] * 4]
            assert len(await surface.log.after(0, 10)) == 1
            assert await surface.accounts.by_id("acc_0") == rivals[0].owner

    @asynchronous
    async def test_a_password_hash_is_replaced_together_with_its_record(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            store, story = surface.accounts, AccountStory()
            await surface.log.append(story.register(store.add(story.data)))
            await surface.log.append(story.rehash("again", store.replace_hash("acc_1", "again")))
            assert await store.by_id("acc_1") == story.owner
            change = ChangePassword(*story.hashes("new"))
            await surface.log.append(story.tell(change, store.replace_hash("acc_1", "new")))
            found = await store.by_id("acc_1")
            assert found is not None
            assert (found, found.data.password_hash, found.account.epoch) == (story.owner, "new", 1)

    @pytest.mark.asvs("2.3.3")
    @asynchronous
    async def test_refused_steps_leave_no_accompanying_data(self, tmp_path: Path) -> None:
        """Even if another instance's step is the refused one."""
        async with self.open(tmp_path) as surface:
            store, ada, session = surface.accounts, AccountStory(), Story()
            await surface.log.append(ada.register(store.add(ada.data)))
            await surface.log.append(session.begin("acc_1"))
            before = ada.owner
            with pytest.raises(RecordRefused):
                await surface.log.append([*ada.rehash("again", store.replace_hash("acc_1", "again")), *session.bad()])
            assert await store.by_id("acc_1") == before
            ada.account, ada.data = before.account, before.data
            (created,) = Story().begin()
            using = surface.exchanged_tokens.use_up(TOKEN, 10_000, 1)
            steps = [*ada.tell(SetGroups(("x",))), Step(created.transition, created.instance, using), *session.bad()]
            with pytest.raises(RecordRefused):
                await surface.log.append(steps)
            await surface.exchanged_tokens.ensure_new(TOKEN)
            assert await store.by_id("acc_1") == before

    @asynchronous
    async def test_erased_personal_data_is_gone_and_its_address_is_free(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            store, story = surface.accounts, AccountStory()
            await surface.log.append(story.register(store.add(story.data)))
            await surface.log.append(story.tell(Delete(), store.erase("acc_1")))
            assert await store.by_id("acc_1") is None
            assert await store.by_email("ada@example.org") is None
            another = AccountStory(personal("acc_2"))
            await surface.log.append(another.register(store.add(another.data)))
            assert await store.by_email("ada@example.org") == another.data

    @asynchronous
    async def test_superseded_sessions_are_found(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            store, log = surface.accounts, surface.log
            accounts = [AccountStory(personal(f"acc_{n}", f"{n}@example.org")) for n in range(5)]
            for each in accounts:
                await log.append(each.register(store.add(each.data)))
            kept, disabled, enabled, changed, deleted = accounts

            async def session_of(account: AccountStory) -> Story:
                story = Story()
                login = Authenticate(account.data.account_id, "password", account_epoch=account.account.epoch)
                await log.append(story.tell(Create(POLICY), login))
                return story

            await session_of(kept)
            await log.append(Story().begin())
            stale = [await session_of(each) for each in (disabled, enabled, changed, deleted)]
            ended = await session_of(disabled)
            await log.append(ended.tell(Revoke("revoked")))
            assert await store.superseded_sessions() == []
            for each in (disabled, enabled):
                await log.append(each.tell(Disable()))
            await log.append(enabled.tell(Enable()))
            await log.append(changed.tell(ChangePassword(*changed.hashes("new")), store.replace_hash("acc_3", "new")))
            await log.append(deleted.tell(Delete(), store.erase("acc_4")))
            for each in (enabled, changed):
                await session_of(each)
            assert sorted(await store.superseded_sessions()) == sorted(each.session_id for each in stale)


class ExchangedTokenStoreContract(ABC):
    """Contract of :class:`interlock.server.surface.exchanged_tokens.ExchangedTokenStore`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[Surface]:
        """Open the implementation under test over ``folder``."""

    @pytest.mark.asvs("2.3.4")
    @asynchronous
    async def test_an_exchanged_token_is_used_up_by_its_first_use(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            store = surface.exchanged_tokens
            await store.ensure_new(TOKEN)
            outcomes = await asyncio.gather(
                *(_log_in(surface, TOKEN, now_ms=1) for _ in range(10)), return_exceptions=True
            )
            assert [isinstance(outcome, CredentialInvalid) for outcome in outcomes] == [False, *[True] * 9]
            assert len(await surface.log.after(0, 10)) == 2, "nothing is recorded of the others"
            with pytest.raises(CredentialInvalid, match="already exchanged"):
                await store.ensure_new(TOKEN)
            await store.ensure_new(b"x" * 32)

    @asynchronous
    async def test_a_used_token_is_forgotten_once_it_is_too_old(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            await _log_in(surface, TOKEN, now_ms=1)
            with pytest.raises(CredentialInvalid):
                await _log_in(surface, TOKEN, now_ms=9_999)
            await _log_in(surface, b"x" * 32, now_ms=10_000)
            await surface.exchanged_tokens.ensure_new(TOKEN)


def _rival(account_id: str, email: str | None) -> PersonalData:
    data = personal(account_id, email)
    return data if email else msgspec.structs.replace(data, subject="ada")


async def _log_in(surface: Surface, token: bytes, *, now_ms: int) -> None:
    story = Story()
    created, authenticated = story.begin("ada")
    along = surface.exchanged_tokens.use_up(token, 10_000, now_ms)
    await surface.log.append([created, Step(authenticated.transition, authenticated.instance, along)])
