"""Contract of a log's authority; as in surface_contract.py, which includes it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from interlock.machine.account.commands import Delete, Disable, Enable
from interlock.machine.errors import AuthorityLost
from interlock.machine.ledger import Record
from interlock.machine.machine import Authority
from interlock.machine.session.commands import Reauthenticate, Revoke
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.log import TransitionLog
from tests.support.accounts import AccountStory
from tests.support.asynchronous import asynchronous
from tests.support.steps import POLICY, Story


class AuthorityContract(ABC):
    """What :meth:`interlock.server.surface.log.TransitionLog.append` promises of ``under``."""

    @abstractmethod
    def open(
        self, folder: Path, *, max_waiting: int = 1000, on_failure: Callable[[str], None] = pytest.fail
    ) -> AbstractAsyncContextManager[TransitionLog]:
        """Open the implementation under test over ``folder``."""

    @asynchronous
    async def test_of_two_sessions_ending_each_other_one_stays(self, tmp_path: Path) -> None:
        """Even if both ends are in one batch with others, and before the ends of others."""
        async with self.open(tmp_path) as log:
            one, other = Story(), Story()
            crowd = [Story() for _ in range(5)]
            for story in (one, other, *crowd):
                await log.append(story.begin("ada"))

            def end(story: Story, kept: Story) -> asyncio.Future[list[Record]]:
                return log.append(story.tell(Revoke("replaced")), Authority("session", kept.session_id))

            outcomes = await asyncio.gather(
                *(log.append(story.touch()) for story in crowd),
                end(one, other),
                end(other, one),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes[-2:]] == [list, AuthorityLost]
            loaded = [await log.load(SESSION_MACHINE, story.session_id) for story in (one, other)]
            assert [session is not None and session.ended for session in loaded] == [True, False]
            with pytest.raises(AuthorityLost):
                await end(crowd[0], Story())

    @asynchronous
    async def test_authority_is_judged_at_the_steps_place_in_the_log(self, tmp_path: Path) -> None:
        """It is submitted together with what takes it away: all later steps are refused as a whole."""
        async with self.open(tmp_path) as log:
            own, ended, overdue, targets = Story(), Story(), Story(), [Story() for _ in range(5)]
            for story in (own, ended, *targets):
                await log.append(story.begin("ada"))
            overdue.at_ms -= POLICY.idle_timeout_ms
            await log.append(overdue.begin("ada"))
            (before, another, after, of_ended, of_overdue) = (target.tell(Revoke("revoked")) for target in targets)
            by = Authority("session", own.session_id, own.session.epoch)
            outcomes = await asyncio.gather(
                log.append(before, by),
                log.append(own.tell(Reauthenticate("ada", "password"))),
                log.append(another, Authority("session", own.session_id, own.session.epoch)),
                log.append(after, by),
                log.append(ended.tell(Revoke("logout"))),
                log.append(of_ended, Authority("session", ended.session_id, ended.session.epoch)),
                log.append(of_overdue, Authority("session", overdue.session_id)),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [
                *(list, list, list),
                AuthorityLost,
                list,
                *(AuthorityLost, AuthorityLost),
            ]
            found = [await log.load(SESSION_MACHINE, target.session_id) for target in targets]
            assert [session is not None and session.ended for session in found] == [True, True, False, False, False]

    @asynchronous
    async def test_authority_is_lost_with_what_it_rests_on(self, tmp_path: Path) -> None:
        """Also if that changes in the same batch, or is what the append changes."""
        async with self.open(tmp_path) as log:
            account, own, targets = AccountStory(), Story(), [Story() for _ in range(4)]
            await log.append([*account.register(), *own.begin("acc_1")])
            for story in targets:
                await log.append(story.begin("acc_1"))
            by = Authority("session", own.session_id, 1, Authority("account", "acc_1", 0))
            (before, after, beside, later) = (target.tell(Revoke("revoked")) for target in targets)
            outcomes = await asyncio.gather(
                log.append(before, by),
                log.append(account.tell(Disable())),
                log.append(after, by),
                log.append([*own.touch(), *beside], by),
                log.append(account.tell(Enable())),
                log.append(later, by),
                return_exceptions=True,
            )
            assert [type(each) for each in outcomes] == [list, list, AuthorityLost, AuthorityLost, list, AuthorityLost]
            await log.append(account.tell(Delete()))
