"""Contract of the transition log for followers, and for several writers."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from interlock.machine.errors import AuthorityLost, RecordRefused, SurfaceFailed
from interlock.machine.machine import Authority
from interlock.machine.session.commands import Reauthenticate, Revoke
from interlock.server.surface.log import Followed, Step, TransitionLog
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.steps import Story


class FollowContract(ABC):
    """Contract of :meth:`interlock.server.surface.log.TransitionLog.follow`."""

    @abstractmethod
    def open(
        self, folder: Path, *, max_waiting: int = 1000, on_failure: Callable[[str], None] = pytest.fail
    ) -> AbstractAsyncContextManager[TransitionLog]:
        """Open the implementation under test over ``folder``."""

    @asynchronous
    async def test_a_follower_gets_old_and_new_records_once_each(self, tmp_path: Path) -> None:
        """Records written during the initial read included."""
        async with self.open(tmp_path, max_waiting=5000) as log:
            appended = [log.append(Story().begin()) for _ in range(1500)]
            await log.append(Story().begin())
            heard: list[int] = []
            following = asyncio.gather(log.follow(700, lambda told: heard.extend(r.position for r, _ in told)))
            for _ in range(300):
                appended.append(log.append(Story().begin("ada")))
                await asyncio.sleep(0)
            await log.append(Story().begin())
            await asyncio.gather(following, *appended)
            await log.append(Story().begin("ada"))
            assert heard == list(range(701, 2105))

    @asynchronous
    async def test_a_follower_gets_records_before_their_writer_is_answered(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            heard: list[Followed] = []
            await log.follow(0, heard.extend)
            seen: list[bool] = []

            async def begin() -> None:
                steps = Story().begin("ada")
                records = await log.append(steps)
                mine = [each for each in heard if each.record in records]
                seen.append([each.record for each in mine] == records)
                assert [each.instance for each in mine] == [step.instance for step in steps]

            await asyncio.gather(*(begin() for _ in range(100)))
            assert seen == [True] * 100
            assert [each.record.position for each in heard] == list(range(1, 201))

    @asynchronous
    async def test_a_follower_gets_no_unwritten_step(self, tmp_path: Path) -> None:
        """Neither a repeat nor a refused step, alone or beside others."""
        async with self.open(tmp_path) as log:
            heard: list[int] = []
            await log.follow(0, lambda told: heard.extend(r.position for r, _ in told))
            story, other = Story(), Story()
            first = story.begin()
            await log.append(first)
            again = [Step(msgspec.structs.replace(step.transition), step.instance) for step in first]
            outcomes = await asyncio.gather(
                log.append(again), log.append(story.bad()), log.append(other.begin()), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [list, RecordRefused, list]
            assert heard == [1, 2]

    @asynchronous
    async def test_a_failing_follower_stops_the_log(self, tmp_path: Path) -> None:
        """Its memory may be older than the log: neither this writer nor a later one is answered."""
        stops: list[str] = []
        async with self.open(tmp_path, on_failure=stops.append) as log:

            def fail(_followed: object) -> None:
                raise ZeroDivisionError

            await log.follow(0, fail)
            outcomes = await asyncio.gather(*(log.append(Story().begin()) for _ in range(3)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [SurfaceFailed] * 3
            with pytest.raises(SurfaceFailed):
                await log.append(Story().begin())
            assert log.failure is not None
            assert "followed" in log.failure
            assert stops == [log.failure]

    @asynchronous
    async def test_a_failed_follower_is_not_called_again(self, tmp_path: Path) -> None:
        """Whatever is committed meanwhile: its memory would have a gap."""
        calls: list[int] = []

        def fail(followed: Sequence[Followed]) -> None:
            calls.append(len(followed))
            # What was submitted after the first commit began may still reach the disk before the fault is noticed.
            time.sleep(0.2)
            raise ZeroDivisionError

        async with self.open(tmp_path, on_failure=lambda _: None) as log:
            await log.follow(0, fail)
            appended = []
            for _ in range(4):
                appended.append(log.append(Story().begin()))
                await asyncio.sleep(0)
            outcomes = await asyncio.gather(*appended, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [SurfaceFailed] * 4
            assert len(calls) == 1


class SharedLogContract(ABC):
    """Contract of a log that several processes write to."""

    @abstractmethod
    def open_two(self, folder: Path) -> AbstractAsyncContextManager[tuple[TransitionLog, TransitionLog]]:
        """Open two handles on one log."""

    @asynchronous
    async def test_followers_of_both_writers_get_one_order(self, tmp_path: Path) -> None:
        async with self.open_two(tmp_path) as logs:
            heard: tuple[list[Followed], list[Followed]] = ([], [])
            for log, told in zip(logs, heard, strict=True):
                await log.follow(0, told.extend)
            await asyncio.gather(*(logs[n % 2].append(Story().begin("ada")) for n in range(100)))
            await eventually(lambda: [len(told) for told in heard] == [200, 200])
            assert [r for r, _ in heard[0]] == [r for r, _ in heard[1]]
            assert [r.position for r, _ in heard[0]] == list(range(1, 201))
            for (_, mine), (_, others) in zip(*heard, strict=True):
                assert (mine is None) != (others is None), "only whoever wrote a record has the instance at hand"

    @asynchronous
    async def test_one_of_two_writers_of_a_version_wins(self, tmp_path: Path) -> None:
        async with self.open_two(tmp_path) as logs:
            story = Story()
            await logs[0].append(story.begin("ada"))
            rival = Story(story.session_id)
            rival.session = story.session
            outcomes = await asyncio.gather(
                logs[0].append(story.touch()), logs[1].append(rival.touch()), return_exceptions=True
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["VersionConflict", "list"]

    @asynchronous
    async def test_authority_removed_by_another_writer_is_lost(self, tmp_path: Path) -> None:
        async with self.open_two(tmp_path) as logs:
            own, target = Story(), Story()
            for story in (own, target):
                await logs[0].append(story.begin("ada"))
            by = Authority("session", own.session_id, own.session.epoch)
            await logs[0].append(own.tell(Reauthenticate("ada", "password")))
            with pytest.raises(AuthorityLost):
                await logs[1].append(target.tell(Revoke("revoked")), by)

    @asynchronous
    async def test_a_repeat_at_another_writer_returns_the_recorded_result(self, tmp_path: Path) -> None:
        async with self.open_two(tmp_path) as logs:
            steps = Story().begin("ada")
            records = await logs[0].append(steps)
            assert await logs[1].append(steps) == records
