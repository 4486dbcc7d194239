"""Contract of the ticket store; as in surface_contract.py."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from interlock.machine.errors import AuthorityLost
from interlock.machine.machine import Authority
from interlock.machine.session.commands import Reauthenticate, Revoke
from interlock.server.surface.log import TransitionLog
from interlock.server.surface.tickets import Ticket, TicketStore
from tests.support.asynchronous import asynchronous
from tests.support.steps import Story


def _buyer(ticket: Ticket) -> Authority:
    return Authority("session", ticket.session_id, ticket.epoch)


class TicketStoreContract(ABC):
    """Contract of :class:`interlock.server.surface.tickets.TicketStore`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[tuple[TransitionLog, TicketStore]]:
        """Open the implementation under test, and its log, over ``folder``."""

    @asynccontextmanager
    async def sold(self, folder: Path) -> AsyncIterator[tuple[TicketStore, Ticket, Story, TransitionLog]]:
        async with self.open(folder) as (log, store):
            story = Story()
            await log.append(story.begin("ada"))
            yield store, Ticket(bytes(range(32)), story.session_id, 1, 9_000, 1_000, "kid"), story, log

    @asynchronous
    async def test_a_ticket_is_redeemed_once(self, tmp_path: Path) -> None:
        async with self.sold(tmp_path) as (store, ticket, *_):
            await store.add(ticket, _buyer(ticket), 0)
            assert await store.take(ticket.ticket_hash) == ticket
            assert await store.take(ticket.ticket_hash) is None

    @pytest.mark.asvs("2.3.4")
    @asynchronous
    async def test_one_of_many_concurrent_redemptions_succeeds(self, tmp_path: Path) -> None:
        async with self.sold(tmp_path) as (store, ticket, *_):
            await store.add(ticket, _buyer(ticket), 0)
            taken = await asyncio.gather(*(store.take(ticket.ticket_hash) for _ in range(20)))
            assert [each for each in taken if each is not None] == [ticket]

    @asynchronous
    async def test_a_made_up_ticket_is_refused(self, tmp_path: Path) -> None:
        async with self.sold(tmp_path) as (store, *_):
            assert await store.take(bytes(32)) is None

    @asynchronous
    async def test_expired_tickets_are_forgotten_and_others_kept(self, tmp_path: Path) -> None:
        async with self.sold(tmp_path) as (store, ticket, *_):
            later = msgspec.structs.replace(ticket, ticket_hash=bytes(32), expires_at_ms=5_000)
            await store.add(ticket, _buyer(ticket), 0)
            await store.add(later, _buyer(later), 1_000)
            assert await store.take(ticket.ticket_hash) is None
            assert await store.take(later.ticket_hash) == later

    @asynchronous
    async def test_no_ticket_is_issued_after_a_login_or_an_end(self, tmp_path: Path) -> None:
        async with self.sold(tmp_path) as (store, ticket, story, log):
            again, ended = story.tell(Reauthenticate("ada", "password")), story.tell(Revoke("logout"))
            newer = msgspec.structs.replace(ticket, epoch=2)
            outcomes = []
            # Each is submitted before the previous one is on disk.
            for then, sold in ((again, ticket), ([], newer), (ended, newer)):
                appended = [log.append(then)] if then else []
                outcomes += await asyncio.gather(*appended, store.add(sold, _buyer(sold), 0), return_exceptions=True)
            assert [repr(each) for each in outcomes if not isinstance(each, list)] == [
                repr(AuthorityLost()),
                "None",
                repr(AuthorityLost()),
            ]
