"""Every implementation of the surface against its contract; and tests of SQLite only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from interlock.machine.errors import AccountExists, CredentialInvalid, Overloaded, RecordRefused, SurfaceFailed
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Reauthenticate
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.surface.log import Along, Step, TransitionLog
from interlock.server.surface.memory import MemoryLog, MemoryStore, MemoryTickets
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.engine import Error, IntegrityError
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.surface.sqlite.log import SqliteLog
from interlock.server.surface.sqlite.writer import Writer, reraise
from interlock.server.surface.tickets import TicketStore
from interlock.server.system.supervision import Supervisor
from tests.server.account_contract import AccountStoreContract, ExchangedTokenStoreContract
from tests.server.follow_contract import FollowContract, SharedLogContract
from tests.server.surface_contract import TransitionLogContract
from tests.server.ticket_contract import TicketStoreContract
from tests.support.accounts import AccountStory, personal
from tests.support.asynchronous import asynchronous
from tests.support.steps import Story


def opened(
    folder: Path, max_waiting: int = 1000, on_failure: Callable[[str], None] = pytest.fail
) -> AbstractAsyncContextManager[Surface]:
    return open_surface(folder, max_waiting=max_waiting, on_failure=on_failure, supervisor=Supervisor())


class TestMemoryLog(TransitionLogContract, FollowContract):
    @asynccontextmanager
    async def open(
        self,
        folder: Path,  # noqa: ARG002  # nothing is stored
        *,
        max_waiting: int = 1000,
        on_failure: Callable[[str], None] = pytest.fail,
    ) -> AsyncIterator[TransitionLog]:
        yield MemoryLog(max_waiting=max_waiting, on_failure=on_failure)

    def refuse_growth(self, log: TransitionLog, *, low: bool) -> None:
        assert isinstance(log, MemoryLog)
        log.refuse_growth(low)


class TestSharedMemoryLog(SharedLogContract):
    @asynccontextmanager
    async def open_two(self, folder: Path) -> AsyncIterator[tuple[TransitionLog, TransitionLog]]:  # noqa: ARG002  # it keeps nothing
        store = MemoryStore()
        yield MemoryLog(store), MemoryLog(store)


class TestMemoryTickets(TicketStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[tuple[TransitionLog, TicketStore]]:  # noqa: ARG002  # nothing is stored
        log = MemoryLog()
        yield log, MemoryTickets(log.store)


class TestSqliteLog(TransitionLogContract, FollowContract):
    @asynccontextmanager
    async def open(
        self, folder: Path, *, max_waiting: int = 1000, on_failure: Callable[[str], None] = pytest.fail
    ) -> AsyncIterator[TransitionLog]:
        async with opened(folder, max_waiting, on_failure) as surface:
            yield surface.log
        with open_archive(folder) as archive:
            assert list(archive.verify()), "whatever a test of the contract did, the log verifies"

    def refuse_growth(self, log: TransitionLog, *, low: bool) -> None:
        assert isinstance(log, SqliteLog)
        log._writer.refuse_growth(low)


@asynccontextmanager
async def verified(folder: Path) -> AsyncIterator[Surface]:
    async with opened(folder) as surface:
        yield surface
    with open_archive(folder) as archive:
        assert list(archive.verify())


class TestSqliteAccounts(AccountStoreContract):
    open = staticmethod(verified)


class TestSqliteExchangedTokens(ExchangedTokenStoreContract):
    open = staticmethod(verified)


class TestSqliteTickets(TicketStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[tuple[TransitionLog, TicketStore]]:
        async with opened(folder) as surface:
            yield surface.log, surface.tickets


@asynchronous
async def test_closing_the_log_commits_waiting_writes(tmp_path: Path) -> None:
    stories = [Story() for _ in range(30)]
    async with opened(tmp_path) as surface:
        waiting = [surface.log.append(story.begin("ada", "node-1")) for story in stories]
    assert all(future.done() and len(future.result()) == 3 for future in waiting)
    async with opened(tmp_path) as surface:
        for story in stories:
            assert await surface.log.load(SESSION_MACHINE, story.session_id) == story.session
        (record,) = await surface.log.append(Story().begin())
        assert record.position == 91, "the chain goes on where it ended"


@asynchronous
async def test_writes_of_different_kinds_are_executed_in_order(tmp_path: Path) -> None:
    """All of them wait together. What accompanies a step sees the changes of the steps before it."""
    async with opened(tmp_path) as surface:
        accounts, tokens = surface.accounts, surface.exchanged_tokens
        ada, rival = AccountStory(), AccountStory(personal("acc_2"))
        stories, others = [Story() for _ in range(3)], [Story() for _ in range(200)]
        story, late, refused = stories
        for each in stories:
            await surface.log.append(each.begin("ada"))
        at_first = late.session

        def step(told: Story, along: Along) -> list[Step]:
            (first,) = told.tell(Reauthenticate("ada", "password"))
            return [Step(first.transition, first.instance, along)]

        async def append(steps: list[Step]) -> list[Record]:
            return await surface.log.append(steps)

        outcomes = await asyncio.gather(
            *(append(other.begin("bob")) for other in others[:100]),
            append(ada.register(accounts.add(ada.data))),
            append(rival.register(accounts.add(rival.data))),
            append(step(story, tokens.use_up(bytes(32), 10, 1))),
            append(step(late, tokens.use_up(bytes(32), 10, 1))),
            *(append(other.begin("bob")) for other in others[100:]),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes[100:104]] == [list, AccountExists, list, CredentialInvalid]
        assert await accounts.by_email("ada@example.org") == ada.data
        records = [record for outcome in outcomes if isinstance(outcome, list) for record in outcome]
        assert sorted(record.position for record in records) == list(range(7, 409))
        for told in (story, refused, *others):
            assert await surface.log.load(SESSION_MACHINE, told.session_id) == told.session
        assert await surface.log.load(SESSION_MACHINE, late.session_id) == at_first, (
            "a step whose company is refused is not there"
        )


@asynchronous
async def test_an_unencodable_step_fails_only_its_caller(tmp_path: Path) -> None:
    async with opened(tmp_path) as surface:
        before, after, broken = Story(), Story(), Story()
        (step,) = broken.begin()
        nonsense = Step(msgspec.structs.replace(step.transition, actor="\ud800"), step.instance)
        outcomes = await asyncio.gather(
            surface.log.append(before.begin()),
            surface.log.append([nonsense]),
            surface.log.append(after.begin()),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], UnicodeEncodeError)
        assert await surface.log.load(SESSION_MACHINE, before.session_id) == before.session
        assert await surface.log.load(SESSION_MACHINE, after.session_id) == after.session
        assert await surface.log.load(SESSION_MACHINE, broken.session_id) is None
        assert surface.log.failure is None


@asynchronous
async def test_a_failing_read_raises_an_error(tmp_path: Path) -> None:
    async with opened(tmp_path) as surface:
        assert isinstance(surface.log, SqliteLog)
        surface.log._reader._connection.close()
        with pytest.raises(SurfaceFailed, match="the log can't be read"):
            await surface.log.load(SESSION_MACHINE, "nobody")


@asynchronous
async def test_verify_sees_one_moment_while_a_server_writes(tmp_path: Path) -> None:
    async with opened(tmp_path, max_waiting=2000) as surface:
        story = Story()
        await surface.log.append(story.begin("ada"))
        await asyncio.gather(*(surface.log.append(Story().begin()) for _ in range(1500)))
        with open_archive(tmp_path) as archive:
            verifying = archive.verify()
            assert next(verifying) == 1000
            await surface.log.append(story.touch())
            await surface.log.append(Story().begin("bob"))
            assert list(verifying) == [1502]
        with open_archive(tmp_path) as archive:
            assert list(archive.verify())[-1] == 1505


class FailingDisk:
    """A connection whose disk fails at one statement, and from then on."""

    def __init__(self, at: str, *, rollback: bool) -> None:
        self.at = at
        self.failed = False
        self.in_transaction = False
        self.rollback = rollback

    def execute(self, statement: str) -> None:
        self.failed = self.failed or statement == self.at
        if self.failed and (statement != "ROLLBACK" or not self.rollback):
            raise Error(f"disk I/O error at {statement}")
        self.in_transaction = statement not in {"COMMIT", "ROLLBACK"}

    def close(self) -> None:
        pass


class BusyFile:
    """A connection whose file is locked at the ``number``th attempt to begin a transaction."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.in_transaction = False

    def execute(self, statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            self.left -= 1
            if self.left == 0:
                busy = Error("database is locked")
                busy.sqlite_errorcode = 5
                raise busy

    def close(self) -> None:
        pass


@pytest.mark.parametrize("number", [1, 2])
@asynchronous
async def test_a_lock_by_another_program_does_not_stop_the_log(number: int) -> None:
    """Even when a bad row undid the batch, which begins again. Each caller gets its own error."""

    def refuse(_connection: Any) -> None:
        raise IntegrityError("a bad row")

    writer = Writer(
        SimpleNamespace(conn=BusyFile(number)),  # type: ignore[arg-type]  # it uses only a database's connection
        max_waiting=10,
        max_batch=3,
        memory=Mock(),
        on_commit=lambda _outcomes: None,
        on_failure=pytest.fail,
    )
    waiting = [writer.submit(refuse, reraise) for _ in range(3)]
    writer.start()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Overloaded] * 3
    assert len(set(map(id, outcomes))) == 3
    assert writer.failure is None
    await writer.submit(lambda _connection: None, reraise)
    await writer.close()


@pytest.mark.parametrize(
    ("at", "rollback", "said"),
    [
        ("BEGIN IMMEDIATE", True, "the log stopped at an I/O error: disk I/O error at BEGIN IMMEDIATE"),
        ("COMMIT", True, "the log stopped at an I/O error: disk I/O error at COMMIT"),
        ("COMMIT", False, "disk I/O error at COMMIT; then disk I/O error at ROLLBACK"),
        ("SAVEPOINT unit", True, "disk I/O error at SAVEPOINT unit"),
        ("ROLLBACK TO unit", True, "disk I/O error at ROLLBACK TO unit"),
        ("RELEASE unit", True, "disk I/O error at RELEASE unit"),
        ("the second unit", True, "disk I/O error at the second unit"),
    ],
)
def test_the_first_disk_error_stops_the_log_for_good(at: str, said: str, *, rollback: bool) -> None:
    async def scenario() -> None:
        stops: list[str] = []
        connection = FailingDisk(at, rollback=rollback)
        writer = Writer(
            SimpleNamespace(conn=connection),  # type: ignore[arg-type]  # it uses only a database's connection
            max_waiting=10,
            max_batch=2,
            memory=Mock(),
            on_commit=lambda _outcomes: None,
            on_failure=stops.append,
        )

        def refuse(_connection: Any) -> None:
            raise IntegrityError("a bad row")

        def work(connection: Any) -> None:
            connection.execute("the second unit")

        first = work if at in {"BEGIN IMMEDIATE", "COMMIT"} else refuse
        waiting = [writer.submit(first if n == 0 else work, reraise) for n in range(5)]
        writer.start()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, SurfaceFailed) for outcome in outcomes), "nobody is told that it worked"
        assert len(set(map(id, outcomes))) == len(outcomes), "each caller adds a traceback to an error of its own"
        assert writer.failure is not None
        assert said in writer.failure
        connection.failed = False
        connection.at = ""
        with pytest.raises(SurfaceFailed):
            await writer.submit(work, reraise)
        await writer.close()
        assert stops == [writer.failure]

    asyncio.run(scenario())


@asynchronous
async def test_a_failure_after_a_commit_stops_the_log_once() -> None:
    """What was queued before the stop is refused too, and neither committed nor examined."""
    stops: list[str] = []
    looked: list[Sequence[object]] = []

    def gone(outcomes: Sequence[object]) -> None:
        looked.append(outcomes)
        raise OSError("it is gone")

    connection = FailingDisk("nowhere", rollback=True)
    writer = Writer(
        SimpleNamespace(conn=connection),  # type: ignore[arg-type]  # it uses only a database's connection
        max_waiting=10,
        max_batch=1,
        memory=Mock(),
        on_commit=gone,
        on_failure=stops.append,
    )
    waiting = [writer.submit(lambda _connection: "written", reraise) for _ in range(3)]
    writer.start()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await writer.close()
    assert all(isinstance(outcome, SurfaceFailed) for outcome in outcomes)
    assert looked == [["written"]]
    assert stops == ["the log stopped at an I/O error: it is gone"]


@asynchronous
async def test_a_fault_in_the_writer_stops_the_log_and_answers_every_caller(tmp_path: Path) -> None:
    async with opened(tmp_path) as surface:
        assert isinstance(surface.log, SqliteLog)

        def forget() -> None:
            raise ZeroDivisionError

        writer = surface.log._writer
        writer._memory = Mock(undone=forget)
        writer._on_failure = lambda _failure: None
        waiting = [writer.submit(lambda _connection: 1 // 0, reraise) for _ in range(3)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, SurfaceFailed) for outcome in outcomes)
        assert surface.log.failure is not None


@asynchronous
async def test_an_error_of_a_write_fails_only_its_caller(tmp_path: Path) -> None:
    async with opened(tmp_path) as surface:
        assert isinstance(surface.log, SqliteLog)

        def refuse(_connection: Any) -> None:
            raise IntegrityError("a bad row")

        def clumsy(_connection: Any) -> None:
            raise ZeroDivisionError

        writer = surface.log._writer
        with pytest.raises(RecordRefused, match="a bad row"):
            await writer.submit(refuse, reraise)
        with pytest.raises(ZeroDivisionError):
            await writer.submit(clumsy, reraise)
        with pytest.raises(ZeroDivisionError):
            await writer.submit(refuse, lambda _connection, _error: 1 // 0)
        assert len(await surface.log.append(Story().begin())) == 1


def test_a_logs_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    async def look() -> dict[str, int]:
        async with opened(folder) as surface:
            await surface.log.append(Story().begin())
            return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}

    modes = asyncio.run(look())
    assert set(modes.values()) == {0o600}
    assert {"interlock.db", "interlock.db-wal", "interlock.lock"} <= set(modes)
    assert folder.stat().st_mode & 0o777 == 0o700
