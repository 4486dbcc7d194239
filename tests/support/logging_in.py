"""Registering, logging in and changing passwords, over a log on disk and without HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import pytest

from interlock.machine.session.session import Session
from interlock.server.guard.passwords import hashing as passwords_module
from interlock.server.guard.passwords.hash_queue import Requester
from interlock.server.guard.passwords.hashing import Passwords
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.accounts.logins import Logins
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.accounts import Owner
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.clock import HandClock
from tests.support.steps import POLICY

PLACE = "192.0.2.1"


def cheap(workers: int = 1, max_waiting: int = 10) -> Passwords:
    """Return password hashing at no cost, with threads that take one hash at a time, as at a real cost."""
    with mock.patch.object(passwords_module, "_MOST_AT_A_TIME", 1):
        return Passwords(memory_kib=8, iterations=1, workers=workers, max_waiting=max_waiting)


class House:
    """Logging in over a log on disk, with a manual clock."""

    def __init__(self, surface: Surface, passwords: Passwords) -> None:
        self.surface = surface
        self.clock = clock = HandClock()
        self.feed = feed = Feed(surface.log)
        self.accounts = Accounts(feed, clock, surface.accounts, cache_limit=100)
        self.sessions = Sessions(feed, clock, policy=POLICY, cache_limit=100)
        self.logins = Logins(
            accounts=self.accounts,
            sessions=self.sessions,
            account_sessions=AccountSessions(self.sessions, surface.directory, clock),
            passwords=passwords,
            exchanged_tokens=surface.exchanged_tokens,
            clock=clock,
            register=True,
        )

    async def register(self, email: str, password: str) -> Owner:
        return await self.logins.register(email, password, PLACE)

    async def verify_password(self, requester: Requester, password: str) -> Owner:
        return await self.logins.verify_password(requester, password)

    async def log_in(self, owner: Owner) -> Session:
        return (await self.logins.login(owner).record(None)).instance

    async def change(self, session: Session, current: str, new: str) -> Owner:
        return (await self.logins.change_password(session, current, new, PLACE))[1]


@asynccontextmanager
async def accounts_in(folder: Path, passwords: Passwords | None = None) -> AsyncIterator[House]:
    passwords = passwords or cheap()
    async with open_surface(folder, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        house = House(surface, passwords)
        newest = await surface.log.newest()
        await house.feed.start(newest.position if newest is not None else 0)
        yield house
    passwords.close()
