"""Contracts of the surface's interfaces. Subclass one, define how to open an implementation, and run it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from pathlib import Path

import msgspec
import pytest

from interlock.machine.account.commands import Delete, Disable, SetGroups
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.errors import LedgerFault, Overloaded, RecordRefused, StorageLow, VersionConflict
from interlock.machine.ledger import EMPTY, GENESIS, Receipt, Record, chain
from interlock.machine.session.commands import Authenticate, Connect, Create, Disconnect, Revoke, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.log import RecordFilter, Step, TransitionLog
from tests.server.authority_contract import AuthorityContract
from tests.support.accounts import AccountStory
from tests.support.asynchronous import asynchronous
from tests.support.steps import NOW_MS, POLICY, Story


class TransitionLogContract(AuthorityContract):
    """Contract of :class:`interlock.server.surface.log.TransitionLog`."""

    @abstractmethod
    def refuse_growth(self, log: TransitionLog, *, low: bool) -> None:
        """Tell ``log`` whether the disk is nearly full."""

    @asynchronous
    async def test_appended_records_are_loaded_and_read_back(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            records = await log.append(story.begin("ada", "node-1"))
            records += await log.append(story.touch())
            assert [record.position for record in records] == [1, 2, 3, 4]
            assert await log.load(SESSION_MACHINE, story.session_id) == story.session
            assert await log.history("session", story.session_id, 0, 100) == records
            assert SESSION_MACHINE.replay(story.session_id, (record.transition for record in records)) == story.session
            assert log.failure is None

    @asynchronous
    async def test_an_empty_log_has_no_instances(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            assert await log.load(SESSION_MACHINE, "nobody") is None
            assert await log.history("session", "nobody", 0, 10) == []
            assert await log.live_deadlines("session") == []
            assert await log.live_states() == {}
            assert await log.busy(SESSION_MACHINE) == []
            assert await log.latest_at_ms() == 0
            assert await log.newest() is None

    @asynchronous
    async def test_the_latest_records_are_found_by_each_part_of_a_filter(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            account, session = AccountStory(), Story()
            records = await log.append([*account.register(), *session.begin("ada", "node-1"), *session.touch()])
            records += await log.append(account.tell(SetGroups(("ops",)), actor="admin:eve"))
            end = len(records) + 1
            for wanted, found in (
                (RecordFilter(), records),
                (RecordFilter(kind="account"), [records[0], records[-1]]),
                (RecordFilter(event="touch"), [records[-2]]),
                (RecordFilter(source=""), records[:2]),
                (RecordFilter(source="connected", target="connected"), [records[-2]]),
                (RecordFilter(actor="admin:eve"), [records[-1]]),
                (RecordFilter(kind="session", event="set_groups"), []),
            ):
                assert await log.latest(wanted, end, 100, 100) == (found[::-1], 0), wanted
            # An account without personal data was deleted.
            await log.append(account.tell(Delete()))

    @asynchronous
    async def test_the_latest_records_come_in_pages_of_bounded_work(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            records = await log.append(story.begin("ada", "node-1"))
            for _ in range(7):
                records += await log.append(story.touch())
            assert await log.latest(RecordFilter(), 11, 4, 100) == (records[:5:-1], 7)
            assert await log.latest(RecordFilter(), 7, 100, 2) == ([records[5], records[4]], 5)
            # None of the records that are looked at matches, and there are earlier ones.
            assert await log.latest(RecordFilter(event="create"), 11, 4, 6) == ([], 5)
            assert await log.latest(RecordFilter(event="create"), 5, 4, 6) == ([records[0]], 0)
            assert await log.latest(RecordFilter(), 1, 4, 6) == ([], 0)

    @asynchronous
    async def test_records_are_tallied_by_transition(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            one, other = Story(), Story("other")
            await log.append(one.begin("ada", "node-1"))
            await log.append(other.begin("ada", "node-1"))
            await log.append(one.touch())
            assert sorted(await log.tally(1, 6)) == [
                ("session", "authenticate", "created", "authenticated", 2),
                ("session", "connect", "authenticated", "connected", 2),
                ("session", "create", None, "created", 1),
            ]
            assert await log.tally(6, 100) == [("session", "touch", "connected", "connected", 1)]
            assert await log.tally(7, 100) == []

    @asynchronous
    async def test_the_chain_is_computed_again_in_parts(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            records = [*await log.append(story.begin("ada", "node-1")), *await log.append(story.touch())]
            assert await log.check_chain(EMPTY, 3) == records[2].receipt
            assert await log.check_chain(records[2].receipt, 100) == records[3].receipt
            assert await log.check_chain(records[3].receipt, 100) == records[3].receipt
            with pytest.raises(LedgerFault, match="record 2"):
                await log.check_chain(Receipt(1, records[1].receipt.digest), 100)

    @asynchronous
    async def test_steps_of_two_instances_are_recorded_together_or_not_at_all(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            account, session = AccountStory(), Story()
            records = await log.append([*account.register(), *session.begin("acc_1")])
            assert [(each.position, each.transition.kind) for each in records] == [
                (1, "account"),
                (2, "session"),
                (3, "session"),
            ]
            assert await log.load(ACCOUNT_MACHINE, "acc_1") == account.account
            assert await log.load(SESSION_MACHINE, session.session_id) == session.session
            for late in (account, session):
                before, stale_account, stale_session = await log.after(0, 9), account.account, session.session
                steps = [*account.tell(SetGroups(("ops",))), *session.touch()]
                # Another writer was first, for either instance.
                account.account, session.session = stale_account, stale_session
                other = account.tell(Disable()) if late is account else session.touch()
                await log.append(other)
                with pytest.raises(VersionConflict):
                    await log.append(steps)
                assert await log.after(0, 9) == [*before, *await log.after(len(before), 9)]
                assert len(await log.after(len(before), 9)) == 1
            # An account without personal data was deleted.
            await log.append(account.tell(Delete()))

    @asynchronous
    async def test_administrators_records_are_listed_in_order(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            account, session = AccountStory(), Story()
            await log.append(account.register())
            await log.append(session.begin("acc_1"))
            acts = await log.append(account.tell(SetGroups(("ops",)), actor="admin:ada"))
            await log.append(session.touch())
            acts += await log.append(account.tell(Disable("192.0.2.7"), actor="admin:bob"))
            assert await log.audit(0, 10) == acts
            assert await log.audit(0, 1) == acts[:1]
            assert await log.audit(acts[0].position, 10) == acts[1:]
            assert await log.audit(acts[1].position, 10) == []
            await log.append(account.tell(Delete()))

    @asynchronous
    async def test_an_instances_history_is_paged(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            records = await log.append(story.begin("ada"))
            records += await log.append(story.tell(Touch(), Touch(), Touch()))
            await log.append(Story().begin())
            assert await log.history("session", story.session_id, 1, 2) == records[1:3]
            assert await log.history("session", story.session_id, 3, 100) == records[3:]
            assert await log.history("session", story.session_id, 5, 100) == []

    @asynchronous
    async def test_the_whole_log_is_read_in_pages(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            assert await log.after(0, 10) == []
            one, other = Story(), Story()
            records = await log.append(one.begin("ada"))
            records += await log.append(other.begin())
            records += await log.append(one.touch())
            assert await log.after(0, 100) == records
            assert await log.after(1, 2) == records[1:3]
            assert await log.after(4, 100) == []

    @pytest.mark.asvs("2.3.3")
    @asynchronous
    async def test_a_batch_is_written_whole_or_not_at_all(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            (await log.append(story.begin("ada")))
            before = story.session
            good = story.tell(Touch(), Touch())
            with pytest.raises(RecordRefused):
                await log.append([*good, *story.bad()])
            assert await log.load(SESSION_MACHINE, story.session_id) == before
            assert len(await log.history("session", story.session_id, 0, 100)) == before.version
            assert len(await log.append(good)) == 2

    @asynchronous
    async def test_versions_have_no_gaps(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            await log.append(story.begin())
            skipped, step = story.tell(Touch(), Touch())
            with pytest.raises(VersionConflict):
                await log.append([step])
            await log.append([skipped])
            await log.append([step])
            history = await log.history("session", story.session_id, 0, 100)
            assert [record.transition.version for record in history] == [1, 2, 3]

    @pytest.mark.asvs("2.3.4")
    @asynchronous
    async def test_one_of_two_steps_after_the_same_version_wins(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            await log.append(story.begin())
            rival = Story(story.session_id)
            rival.session = story.session
            first, second = log.append(story.touch()), log.append(rival.touch())
            assert len(await first) == 1
            with pytest.raises(VersionConflict) as conflict:
                await second
            assert (conflict.value.instance_id, conflict.value.version) == (story.session_id, 2)
            assert await log.load(SESSION_MACHINE, story.session_id) == story.session

    @asynchronous
    async def test_two_creations_of_one_session_conflict(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            await log.append(Story("one").begin())
            with pytest.raises(VersionConflict):
                await log.append(Story("one").begin())

    @asynchronous
    async def test_a_repeated_command_returns_its_record_and_writes_nothing(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            asked = story.tell(Create(POLICY), Authenticate("ada", "password"), command_id="once")
            first = await log.append(asked)
            await log.append(story.touch())
            assert all(r.transition is step.transition for r, step in zip(first, asked, strict=True)), "just written"
            rewritten = [Step(msgspec.structs.replace(step.transition), step.instance) for step in asked]
            again = await log.append(rewritten)
            assert again == first
            assert all(r.transition is not step.transition for r, step in zip(again, rewritten, strict=True))
            again = await log.append(story.tell(Touch(), command_id="once"))
            assert again == first[:1]
            assert len(await log.history("session", story.session_id, 0, 100)) == 3

    @asynchronous
    async def test_one_bad_row_fails_alone(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            stories = [Story() for _ in range(8)]
            for story in stories:
                await log.append(story.begin("ada"))
            asked = [story.bad() if n % 3 == 1 else story.touch() for n, story in enumerate(stories)]
            outcomes = await asyncio.gather(*map(log.append, asked), return_exceptions=True)
            for n, (story, outcome) in enumerate(zip(stories, outcomes, strict=True)):
                assert isinstance(outcome, RecordRefused) == (n % 3 == 1)
                assert await log.load(SESSION_MACHINE, story.session_id) == story.session

    @asynchronous
    async def test_callbacks_run_in_the_order_of_the_log(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            heard: list[int] = []
            stories = [Story() for _ in range(50)]
            waiting = []
            for story in stories:
                future = log.append(story.begin())
                future.add_done_callback(lambda done: heard.extend(record.position for record in done.result()))
                waiting.append(future)
            for story in stories:
                future = log.append(story.touch())
                future.add_done_callback(lambda done: heard.extend(record.position for record in done.result()))
                waiting.append(future)
            await asyncio.gather(*waiting)
            await asyncio.sleep(0)
            assert heard == list(range(1, 101))

    @asynchronous
    async def test_cancelling_the_caller_does_not_undo_the_write(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            assert log.append(story.begin()).cancel()
            await log.append(Story().begin())
            assert await log.load(SESSION_MACHINE, story.session_id) == story.session

    @pytest.mark.asvs("2.4.1")
    @asynchronous
    async def test_writes_beyond_the_queues_limit_are_refused(self, tmp_path: Path) -> None:
        async with self.open(tmp_path, max_waiting=3) as log:
            stories = [Story() for _ in range(5)]
            outcomes = await asyncio.gather(*(log.append(s.begin()) for s in stories), return_exceptions=True)
            assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False, False, False, True, True]
            assert await log.load(SESSION_MACHINE, stories[4].session_id) is None
            assert len(await log.append(Story().begin())) == 1

    @asynchronous
    async def test_while_the_disk_is_nearly_full_only_ends_are_accepted(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            await log.append(story.begin("ada"))
            self.refuse_growth(log, low=True)
            with pytest.raises(StorageLow):
                await log.append(Story().begin())
            await log.append(story.tell(Revoke("logout")))
            self.refuse_growth(log, low=False)
            await log.append(Story().begin())

    @asynchronous
    async def test_deadlines_of_live_instances_are_read(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            living, ended = Story(), Story()
            await log.append(living.begin())
            await log.append(ended.begin("ada"))
            await log.append(ended.tell(Revoke("revoked")))
            assert await log.live_deadlines("session") == [(NOW_MS + POLICY.idle_timeout_ms, living.session_id)]

    @asynchronous
    async def test_live_instances_are_counted_by_state(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            ended = Story()
            for story, subject, node in (
                (Story(), None, None),
                (Story(), None, None),
                (Story(), "ada", None),
                (Story(), "ada", "node-1"),
                (ended, "bob", "node-1"),
            ):
                await log.append(story.begin(subject, node))
            await log.append(ended.tell(Revoke("revoked")))
            assert await log.live_states() == {
                ("session", "created"): 2,
                ("session", "authenticated"): 1,
                ("session", "connected"): 1,
            }

    @asynchronous
    async def test_the_nearer_deadline_is_stored(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            await log.append(story.begin())
            while story.at_ms < NOW_MS + POLICY.absolute_timeout_ms - POLICY.idle_timeout_ms:
                story.at_ms += POLICY.idle_timeout_ms - 1
                await log.append(story.touch())
            assert await log.live_deadlines("session") == [(NOW_MS + POLICY.absolute_timeout_ms, story.session_id)]

    @asynchronous
    async def test_instances_held_by_a_process_are_found(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            here, twice, gone, idle = Story(), Story(), Story(), Story()
            await log.append(here.begin("ada", "node-1"))
            await log.append(twice.begin("ada", "node-2"))
            await log.append(twice.tell(Connect("con-b", "node-1")))
            await log.append(gone.begin("ada", "node-1"))
            await log.append(gone.tell(Disconnect(gone.session.connections[0].connection_id, 1000)))
            await log.append(idle.begin("ada"))
            found = {session.session_id: session for session in await log.busy(SESSION_MACHINE)}
            assert found == {story.session_id: story.session for story in (here, twice)}

    @asynchronous
    async def test_the_newest_record_and_its_time_are_read(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            story = Story()
            await log.append(story.begin("ada"))
            await log.append(Story().begin())
            story.at_ms = NOW_MS + 7
            (last,) = await log.append(story.touch())
            assert await log.newest() == last
            assert await log.latest_at_ms() == NOW_MS + 7

    @asynchronous
    async def test_the_digest_chain_runs_through_all_batches(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as log:
            stories = [Story() for _ in range(20)]
            batches = await asyncio.gather(*(log.append(story.begin("ada", "node-1")) for story in stories))
            with pytest.raises(RecordRefused):
                await log.append(stories[0].bad())
            batches += await asyncio.gather(*(log.append(story.touch()) for story in stories))
            records: list[Record] = sorted((r for batch in batches for r in batch), key=lambda r: r.position)
            previous = GENESIS
            for position, record in enumerate(records, start=1):
                row = chain(previous, position, record.transition)
                assert (record.position, record.digest) == (position, row.digest)
                previous = record.digest
