"""Changes of a password: who may, and what may happen concurrently."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interlock.machine.account.commands import Disable, Enable
from interlock.machine.errors import (
    CredentialInvalid,
    PasswordRefused,
    PasswordWrong,
    SessionEnded,
    StorageLow,
)
from interlock.server.guard.emails import fold_email
from interlock.server.guard.passwords.hash_queue import Requester
from interlock.server.guard.passwords.hashing import Passwords
from interlock.server.surface.accounts import Owner
from tests.support.asynchronous import asynchronous
from tests.support.logging_in import PLACE, accounts_in, cheap

PASSWORD = "correct horse battery staple"


ANYBODY = Requester("ada@example.org", PLACE)


def asks(email: str) -> Requester:
    return Requester(fold_email(email), PLACE)


@pytest.mark.asvs("6.2.2", "6.2.3")
@asynchronous
async def test_the_current_password_allows_a_change(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        owner = await house.register("ada@example.org", PASSWORD)
        session, late = await house.log_in(owner), house.logins.login(owner)
        with pytest.raises(PasswordWrong, match="current password"):
            await house.change(session, "wrong", "another long password")
        with pytest.raises(PasswordRefused):
            await house.change(session, PASSWORD, "short")
        await house.verify_password(asks("ada@example.org"), PASSWORD)
        changed = await house.change(session, PASSWORD, "another long password")
        with pytest.raises(CredentialInvalid):
            await late.record(None)
        assert await house.verify_password(asks("ada@example.org"), "another long password") == changed
        with pytest.raises(CredentialInvalid):
            await house.verify_password(asks("ada@example.org"), PASSWORD)


@pytest.mark.checks("overtaken_change_refused")
@asynchronous
async def test_one_of_two_concurrent_password_changes_wins(tmp_path: Path) -> None:
    """The loser's session is unchanged."""
    async with accounts_in(tmp_path, cheap(workers=2)) as house:
        owner = await house.register("ada@example.org", PASSWORD)
        sessions = [await house.log_in(owner) for _ in range(2)]
        new = ["the first new password", "the second new password"]
        changes = (house.change(session, PASSWORD, each) for session, each in zip(sessions, new, strict=True))
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        (won,) = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Owner)]
        # Its session is no longer valid.
        assert isinstance(outcomes[1 - won], SessionEnded)
        assert await house.verify_password(asks("ada@example.org"), new[won]) == outcomes[won]
        assert await house.sessions.load(sessions[1 - won].session_id) == sessions[1 - won]


@asynchronous
async def test_a_password_change_succeeds_beside_a_rehashing_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_in(tmp_path) as house:
        await house.register("ada@example.org", PASSWORD)
    stronger = Passwords(memory_kib=16, iterations=2, workers=2, max_waiting=10)
    async with accounts_in(tmp_path, stronger) as house:
        owner = await house.accounts.by_email("ada@example.org")
        assert owner is not None
        session, hashing = await house.log_in(owner), stronger.hash

        async def overtaken(password: str, requester: Requester) -> str:
            monkeypatch.setattr(stronger, "hash", hashing)
            await house.verify_password(asks("ada@example.org"), PASSWORD)
            return await hashing(password, requester)

        monkeypatch.setattr(stronger, "hash", overtaken)
        changed = await house.change(session, PASSWORD, "another long password")
        assert (changed.account.version, changed.account.epoch) == (3, 1)
        assert await house.verify_password(asks("ada@example.org"), "another long password") == changed
        assert await house.accounts.by_id(owner.account_id) == changed


@pytest.mark.parametrize("enabled", [False, True])
@asynchronous
async def test_a_password_change_beside_a_disable_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    enabled: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    passwords = cheap()
    async with accounts_in(tmp_path, passwords) as house:
        owner = await house.register("ada@example.org", PASSWORD)
        session, hashing = await house.log_in(owner), passwords.hash

        async def overtaken(password: str, requester: Requester) -> str:
            await house.accounts.ask(owner.account_id, "admin:eve", Disable())
            if enabled:
                await house.accounts.ask(owner.account_id, "admin:eve", Enable())
            return await hashing(password, requester)

        monkeypatch.setattr(passwords, "hash", overtaken)
        with pytest.raises(SessionEnded):
            await house.change(session, PASSWORD, "another long password")
        assert await house.sessions.load(session.session_id) == session
        account = await house.accounts.load(owner.account_id)
        assert account.password == owner.account.password


@asynchronous
async def test_a_password_can_be_changed_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    """Nobody logs in then, because a login begins something."""
    async with accounts_in(tmp_path) as house:
        session = await house.log_in(await house.register("ada@example.org", PASSWORD))
        house.surface.refuse_growth(True)  # noqa: FBT003  # Surface's signature
        changed = await house.change(session, PASSWORD, "another long password")
        with pytest.raises(StorageLow):
            await house.log_in(changed)


@asynchronous
async def test_an_account_without_a_password_can_not_set_one(tmp_path: Path) -> None:
    async with accounts_in(tmp_path) as house:
        owner = await house.accounts.register("provider:x", issuer="https://id.example", subject="ada")
        session = await house.log_in(owner)
        with pytest.raises(PasswordWrong):
            await house.change(session, "", "another long password")
        assert await house.accounts.load(owner.account_id) == owner.account
