"""What every implementation of the identity store promises; as in surface_contract.py."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path

import msgspec
import pytest

from interlock.machine.errors import CredentialInvalid, IdentityRefused
from interlock.server.surface.accounts import Account, AccountStore
from interlock.server.surface.identities import Arrival, IdentityStore
from tests.support.asynchronous import asynchronous

_numbers = count(1)


def arrival(
    subject: str = "ada", groups: tuple[str, ...] | None = ("ops",), issuer: str = "https://id.example"
) -> Arrival:
    """Somebody arrives with a token that nobody has shown before, good until 10,000."""
    return Arrival(issuer, subject, groups, next(_numbers).to_bytes(32, "big"), 10_000)


class IdentityStoreContract(ABC):
    """:class:`interlock.server.surface.identities.IdentityStore`, and the accounts that it makes."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[tuple[IdentityStore, AccountStore]]:
        """The store of the implementation under test, over ``folder``."""

    @abstractmethod
    async def disable(self, account_id: str, at_ms: int) -> None:
        """Disable an account in the store that is open."""

    @asynchronous
    async def test_the_first_arrival_makes_the_account_and_the_next_ones_find_it(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, accounts):
            assert await store.admit(arrival(), "acc_1", 7) == "acc_1"
            assert await accounts.by_id("acc_1") == Account("acc_1", None, None, 7, 7, ("ops",))
            assert await store.admit(arrival(), "acc_2", 8) == "acc_1"
            assert await store.admit(arrival(), None, 9) == "acc_1"
            assert await accounts.by_id("acc_2") is None

    @asynchronous
    async def test_of_many_first_arrivals_at_once_one_makes_the_account(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, _):
            found = await asyncio.gather(*(store.admit(arrival(), f"acc_{n}", 1) for n in range(10)))
            assert len(set(found)) == 1

    @pytest.mark.asvs("10.3.3")
    @asynchronous
    async def test_a_subject_is_somebody_else_at_another_issuer(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, _):
            assert await store.admit(arrival(), "acc_1", 1) == "acc_1"
            assert await store.admit(arrival(issuer="https://other.example"), "acc_2", 1) == "acc_2"
            assert await store.admit(arrival("bob"), "acc_3", 1) == "acc_3"

    @asynchronous
    async def test_groups_are_what_the_last_arrival_said_if_it_said_any(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, accounts):
            for groups, kept in ((None, ()), (("a", "b"), ("a", "b")), (None, ("a", "b")), ((), ())):
                await store.admit(arrival(groups=groups), "acc_1", 1)
                account = await accounts.by_id("acc_1")
                assert account is not None
                assert account.groups == kept

    @pytest.mark.asvs("2.3.4")
    @asynchronous
    async def test_a_token_is_used_up_by_whoever_shows_it_first(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, accounts):
            one = arrival()
            outcomes = await asyncio.gather(
                *(store.admit(one, f"acc_{n}", 1) for n in range(10)), return_exceptions=True
            )
            assert [isinstance(outcome, CredentialInvalid) for outcome in outcomes].count(True) == 9
            other = msgspec.structs.replace(one, subject="bob", groups=("admins",))
            with pytest.raises(CredentialInvalid, match="already exchanged"):
                await store.admit(other, "acc_bob", 9_999)
            assert await accounts.by_id("acc_bob") is None

    @asynchronous
    async def test_a_used_token_is_forgotten_when_it_is_too_old_anyway(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, _):
            one = arrival()
            await store.admit(one, "acc_1", 1)
            with pytest.raises(CredentialInvalid):
                await store.admit(one, "acc_1", 9_999)
            await store.admit(arrival(), "acc_1", 10_000)
            assert await store.admit(one, "acc_1", 10_000) == "acc_1"

    @pytest.mark.asvs("2.3.3")
    @asynchronous
    async def test_without_a_new_account_only_those_known_are_admitted(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, _):
            stranger = arrival("stranger")
            with pytest.raises(IdentityRefused):
                await store.admit(stranger, None, 1)
            assert await store.admit(stranger, "acc_1", 2) == "acc_1", "the refusal left the token as it was"

    @pytest.mark.asvs("7.4.2")
    @asynchronous
    async def test_a_disabled_account_is_refused_and_stays_as_it_is(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as (store, accounts):
            await store.admit(arrival(), "acc_1", 1)
            await self.disable("acc_1", 5)
            with pytest.raises(IdentityRefused):
                await store.admit(arrival(groups=("admins",)), "acc_2", 6)
            assert await accounts.by_id("acc_1") == Account("acc_1", None, None, 1, 1, ("ops",), 5)
