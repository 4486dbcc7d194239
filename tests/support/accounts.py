"""Accounts for tests: an account's steps decided by the machine, and accounts of a server."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Final

import msgspec
import pytest

from interlock.machine.account.account import Account
from interlock.machine.account.commands import Data, Register, Rehash
from interlock.machine.account.commitments import commit
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.machine import Command
from interlock.server.runtime.door import commands
from interlock.server.services import Services
from interlock.server.surface.accounts import Owner, PersonalData
from interlock.server.surface.log import Along, Step
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.steps import NOW_MS

KEY: Final = bytes(range(32))

_numbers = itertools.count(1)


def personal(account_id: str = "acc_1", email: str | None = "ada@example.org") -> PersonalData:
    """Return personal data: with a password, or, without an email address, of a provider's user named by the account's id."""
    if email is None:
        return PersonalData(account_id, KEY, issuer="https://id.example", subject=account_id)
    return PersonalData(account_id, KEY, email, "hash-1")


def registration(data: PersonalData, *groups: str) -> Register:
    return Register(data.committed_email, data.committed_password, data.committed_identity, groups)


class AccountStory:
    """Builds one account step by step. ``account`` is its current state."""

    def __init__(self, data: PersonalData | None = None, *, at_ms: int = NOW_MS) -> None:
        self.data = data or personal()
        self.account = Account(self.data.account_id)
        self.at_ms = at_ms

    @property
    def owner(self) -> Owner:
        return Owner(self.account, self.data)

    def tell(self, data: Data, along: Along | None = None, actor: str = "server") -> list[Step]:
        transition = ACCOUNT_MACHINE.decide(self.account, Command(f"cmd-a{next(_numbers)}", actor, data), self.at_ms)
        self.account = ACCOUNT_MACHINE.evolve(self.account, transition)
        return [Step(transition, self.account, along)]

    def register(self, along: Along | None = None, *groups: str) -> list[Step]:
        return self.tell(registration(self.data, *groups), along, "anonymous")

    def hashes(self, password_hash: str) -> tuple[str, str]:
        """Return commitments to the current hash and to ``password_hash``, which replaces it."""
        current = self.data.committed_password or ""
        self.data = msgspec.structs.replace(self.data, password_hash=password_hash)
        return current, commit(KEY, "password_hash", password_hash)

    def rehash(self, password_hash: str, along: Along | None = None) -> list[Step]:
        return self.tell(Rehash(*self.hashes(password_hash)), along)


def owner(account_id: str = "acc_1", email: str | None = "ada@example.org", *, at_ms: int = 1) -> Owner:
    """Return an owner whose account was registered at ``at_ms``."""
    story = AccountStory(personal(account_id, email), at_ms=at_ms)
    story.register()
    return story.owner


async def registered(services: Services, account_id: str, *groups: str) -> Account:
    """Register an account with ``services``."""
    data = personal(account_id, f"{account_id}@registered.example")
    along = services.accounts._store.add(data)
    asked = commands("anonymous", registration(data, *groups))
    return (await services.accounts.submit(account_id, *asked, along=along)).instance


async def died_after(folder: Path, account_id: str, data: Data) -> None:
    """Append ``data`` to the account in the log at ``folder``, like a server that died right after it."""
    async with open_surface(folder, max_waiting=1, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        account = await surface.log.load(ACCOUNT_MACHINE, account_id)
        assert account is not None
        story = AccountStory(personal(account_id), at_ms=time.time_ns() // 1_000_000)
        story.account = account
        await surface.log.append(story.tell(data, actor="admin:ada"))
