"""What is asked of accounts again and again, in memory: by forward-auth at every request of every application behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from interlock.server.surface.accounts import Account, AccountStore
from interlock.server.surface.audit import Act
from interlock.server.surface.log import Along

T = TypeVar("T")

_LIMIT: Final = 50_000


class Identity(msgspec.Struct, frozen=True):
    """What memory keeps of an account. ``closed``: an administrator has disabled it.

    ``password_changed_at_ms`` is None where there is no account.
    """

    subject: str
    groups: tuple[str, ...] = ()
    closed: bool = False
    password_changed_at_ms: int | None = None


class KnownAccounts(AccountStore):
    """The account store, and what memory knows of it. Exact, since every change of an account passes through here.

    ``limit``: how many are kept; the others are one read away. What changes an account goes through :meth:`change`.
    """

    def __init__(self, store: AccountStore, *, limit: int = _LIMIT) -> None:
        self._store = store
        self._limit = limit
        self._known: dict[str, Identity] = {}
        self._changes = 0

    def known(self, subject: str) -> Identity | None:
        """What memory holds of ``subject``, or None."""
        return self._known.get(subject)

    async def load(self, subject: str) -> Identity:
        """What is known of ``subject``. Somebody without an account here is in no group."""
        identity = self._known.get(subject)
        if identity is not None:
            return identity
        changes = self._changes
        account = await self._store.by_id(subject)
        identity = Identity(subject)
        if account is not None:
            identity = Identity(
                subject, account.groups, account.disabled_at_ms is not None, account.password_changed_at_ms
            )
        # What was read while something changed may be older than the change.
        if self._changes == changes:
            self._known[subject] = identity
            if len(self._known) > self._limit:
                del self._known[next(iter(self._known))]
        return identity

    async def add(self, account: Account) -> None:
        """See :meth:`AccountStore.add`."""
        await self.change(self._store.add(account), lambda _: account.account_id)

    async def by_email(self, email: str) -> Account | None:
        """See :meth:`AccountStore.by_email`."""
        return await self._store.by_email(email)

    async def by_id(self, account_id: str) -> Account | None:
        """See :meth:`AccountStore.by_id`."""
        return await self._store.by_id(account_id)

    def still(self, account: Account) -> Along:
        """See :meth:`AccountStore.still`."""
        return self._store.still(account)

    def new_password(self, account: Account, changed: Account) -> Along:
        """See :meth:`AccountStore.new_password`. What appends it goes through :meth:`change`."""
        return self._store.new_password(account, changed)

    async def sessions_of_old_passwords(self) -> list[str]:
        """See :meth:`AccountStore.sessions_of_old_passwords`."""
        return await self._store.sessions_of_old_passwords()

    async def rehash(self, account_id: str, old_hash: str, new_hash: str) -> bool:
        """See :meth:`AccountStore.rehash`."""
        return await self._store.rehash(account_id, old_hash, new_hash)

    async def page(self, after: str, limit: int) -> list[Account]:
        """See :meth:`AccountStore.page`."""
        return await self._store.page(after, limit)

    async def set_disabled(self, account_id: str, at_ms: int | None, act: Act) -> Account | None:
        """See :meth:`AccountStore.set_disabled`."""
        return await self.change(self._store.set_disabled(account_id, at_ms, act), lambda _: account_id)

    async def set_groups(self, account_id: str, groups: tuple[str, ...], act: Act) -> Account | None:
        """See :meth:`AccountStore.set_groups`."""
        return await self.change(self._store.set_groups(account_id, groups, act), lambda _: account_id)

    async def disabled_with_sessions(self) -> list[str]:
        """See :meth:`AccountStore.disabled_with_sessions`."""
        return await self._store.disabled_with_sessions()

    async def change(self, change: Coroutine[Any, Any, T], account_of: Callable[[T], str]) -> T:
        """Wait for ``change`` and forget what was known before, also when the caller no longer waits.

        ``account_of`` tells from its result whose account it changed. A change that failed has changed nothing.
        """

        def forget(task: asyncio.Task[T]) -> None:
            self._changes += 1
            if not task.cancelled() and task.exception() is None:
                self._known.pop(account_of(task.result()), None)

        task = asyncio.create_task(change)
        task.add_done_callback(forget)
        # Done callbacks run in the order they were added, and shield's own comes after ours: whoever hears of the change
        # finds nothing older.
        return await asyncio.shield(task)
