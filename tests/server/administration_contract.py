"""What every implementation of the surface's interfaces for administrators promises: see ``surface_contract.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from interlock.machine.errors import PasswordWrong
from interlock.machine.session.commands import Revoke
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.surface.accounts import Account
from interlock.server.surface.audit import Act
from interlock.server.surface.directory import Place, Wanted
from interlock.server.surface.sqlite.files import Surface
from tests.support.along import along
from tests.support.asynchronous import asynchronous
from tests.support.steps import NOW_MS, POLICY, Story

DISABLE = Act(NOW_MS, "admin:ada", "account.disable", "acc_1", {}, "192.0.2.7")
GROUPS = Act(NOW_MS + 1, "admin:bob", "account.groups", "acc_1", {"groups": ["staff"]}, None)


class AccountStandingContract(ABC):
    """What administrators do to accounts, and the audit trail of it."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[Surface]:
        """The store of the implementation under test, over ``folder``."""

    @asynchronous
    async def test_an_account_is_disabled_and_enabled_and_each_act_is_written(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            store, account = surface.accounts, Account("acc_1", "ada@example.org", "hash", 1, 1)
            await store.add(account)
            disabled = await store.set_disabled("acc_1", 5, DISABLE)
            assert disabled == await store.by_id("acc_1")
            assert disabled is not None
            assert disabled.disabled_at_ms == 5
            again = await store.set_disabled("acc_1", 9, DISABLE)
            assert again == disabled, "it keeps the time of the first"
            assert await store.set_disabled("acc_1", None, DISABLE) == account
            assert await store.set_disabled("acc_1", 9, DISABLE) != disabled
            acts = await surface.audit.after(0, 10)
            assert [act.position for act in acts] == [1, 2, 3, 4]
            assert {act.position: act.act for act in acts} == dict.fromkeys(range(1, 5), DISABLE)

    @asynchronous
    async def test_groups_are_replaced(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            await surface.accounts.add(Account("acc_1", None, None, 1, 1, ("old",)))
            changed = await surface.accounts.set_groups("acc_1", ("on-call", "staff"), GROUPS)
            assert changed == await surface.accounts.by_id("acc_1")
            assert changed is not None
            assert changed.groups == ("on-call", "staff")
            assert [record.act for record in await surface.audit.after(0, 10)] == [GROUPS]

    @asynchronous
    async def test_what_is_done_to_nobody_leaves_no_trace(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            assert await surface.accounts.set_disabled("acc_1", 1, DISABLE) is None
            assert await surface.accounts.set_groups("acc_1", (), GROUPS) is None
            assert await surface.audit.after(0, 10) == []

    @asynchronous
    async def test_the_audit_trail_pages(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            await surface.accounts.add(Account("acc_1", None, None, 1, 1))
            for _ in range(3):
                await surface.accounts.set_groups("acc_1", (), GROUPS)
            assert [record.position for record in await surface.audit.after(1, 1)] == [2]
            assert [record.position for record in await surface.audit.after(1, 9)] == [2, 3]
            assert await surface.audit.after(3, 9) == []

    @asynchronous
    async def test_no_password_is_changed_of_a_disabled_account(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            ada = Account("acc_1", "ada@example.org", "old", 1, 1)
            changed = msgspec.structs.replace(ada, password_hash="new", password_changed_at_ms=2)
            await surface.accounts.add(ada)
            await surface.accounts.set_disabled("acc_1", 1, DISABLE)
            assert await along(surface.accounts, surface.accounts.new_password(ada, changed)) is PasswordWrong
            await surface.accounts.set_disabled("acc_1", None, DISABLE)
            assert await along(surface.accounts, surface.accounts.new_password(ada, changed)) is None

    @asynchronous
    async def test_accounts_page_by_id(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            accounts = [Account(f"acc_{n}", None, None, 1, 1) for n in range(5)]
            for account in reversed(accounts):
                await surface.accounts.add(account)
            assert await surface.accounts.page("", 2) == accounts[:2]
            assert await surface.accounts.page("acc_1", 9) == accounts[2:]
            assert await surface.accounts.page("acc_4", 9) == []

    @asynchronous
    async def test_disabled_accounts_that_still_have_sessions(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            for name in ("acc_1", "acc_2", "acc_3"):
                await surface.accounts.add(Account(name, None, None, 1, 1))
            left, ended, enabled = Story(), Story(), Story()
            for story, name in ((left, "acc_1"), (ended, "acc_2"), (enabled, "acc_3")):
                await surface.log.append(story.begin(name))
            await surface.log.append(ended.tell(Revoke("account_disabled")))
            assert await surface.accounts.disabled_with_sessions() == []
            for name in ("acc_1", "acc_2"):
                await surface.accounts.set_disabled(name, 1, DISABLE)
            assert await surface.accounts.disabled_with_sessions() == ["acc_1"]


class DirectoryContract(ABC):
    """:class:`interlock.server.surface.directory.Directory`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[Surface]:
        """The store of the implementation under test, over ``folder``."""

    @asynchronous
    async def test_any_filters_give_what_they_say_newest_first_page_by_page(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            sessions = await _population(surface)
            for wanted in filters():
                expected = _expected(sessions, wanted)
                found: list[Session] = []
                before: Place | None = None
                while page := await surface.directory.page(SESSION_MACHINE, wanted, before, 3):
                    found += page
                    before = wanted.place_of(page[-1])
                assert found == expected, wanted
                assert await surface.directory.page(SESSION_MACHINE, wanted, None, 100) == expected

    @asynchronous
    async def test_a_place_beyond_the_range_begins_at_the_range(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as surface:
            sessions = await _population(surface)
            wanted = Wanted(created_to_ms=NOW_MS + 8)
            late = Place(NOW_MS + 1000, "z")
            assert await surface.directory.page(SESSION_MACHINE, wanted, late, 100) == _expected(sessions, wanted)


def filters() -> list[Wanted]:
    """Every combination of filters that can be asked for."""
    ranges: list[tuple[int | None, int | None]] = [
        (None, None),
        (NOW_MS + 4, None),
        (None, NOW_MS + 9),
        (NOW_MS + 4, NOW_MS + 9),
    ]
    every = [
        Wanted(state, subject, reason, *created, *updated)
        for state in (None, "created", "authenticated", "expired")
        for subject in (None, "ada", "nobody")
        for reason in (None, "logout")
        for created in ranges
        for updated in ranges
    ]
    every += [
        Wanted(state, "ada", created_from_ms=low, created_to_ms=high, alive_at_ms=at_ms)
        for state in (None, "authenticated", "expired")
        for low, high in ranges
        for at_ms in (NOW_MS, NOW_MS + POLICY.idle_timeout_ms + 7)
    ]
    return [wanted for wanted in every if not (wanted.of_creation and wanted.by_update)]


async def _population(surface: Surface) -> list[Session]:
    stories = [Story(f"s{n:02}", at_ms=NOW_MS + n // 2) for n in range(24)]
    for n, story in enumerate(stories):
        await surface.log.append(story.begin([None, "ada", "bob"][n % 3]))
    for n, story in enumerate(stories):
        story.at_ms = NOW_MS + 20 - n
        if n % 4 == 0:
            await surface.log.append(story.touch())
        if n % 5 == 0:
            await surface.log.append(story.tell(Revoke("logout" if n % 2 else "revoked")))
    return [story.session for story in stories]


def _expected(sessions: list[Session], wanted: Wanted) -> list[Session]:
    def within(at_ms: int, low: int | None, high: int | None) -> bool:
        return (low is None or at_ms >= low) and (high is None or at_ms < high)

    chosen = [
        session
        for session in sessions
        if wanted.state in {None, session.state}
        and wanted.owner in {None, session.subject}
        and wanted.reason in {None, session.reason}
        and (wanted.alive_at_ms is None or (not session.ended and wanted.alive_at_ms < session.deadline_ms))
        and within(session.created_at_ms, wanted.created_from_ms, wanted.created_to_ms)
        and within(session.updated_at_ms, wanted.updated_from_ms, wanted.updated_to_ms)
    ]
    return sorted(chosen, key=wanted.place_of, reverse=True)
