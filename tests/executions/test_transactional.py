"""Transactional effects: what a realm's transaction has committed is recorded, and nothing else, whatever happens."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from interlock.context import Context
from interlock.realm import GRACE_MS, Realm, Store
from interlock.server.runtime.executions import stores
from interlock.store import SqlStore
from tests.support.asynchronous import asynchronous
from tests.support.running import eventually
from tests.support.runtime import Bench, Text, bench


class Ledger:
    """A realm's database, whose code counts its effects. ``before`` and ``after`` are awaited around the commit."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "realm.db"
        self.store = SqlStore(self.connect)
        self.realm = Realm("notes", store=self.store)
        self.before: Callable[[Context], Any] = _nothing
        self.after: Callable[[Context], Any] = _nothing
        self.attempts: list[int] = []
        with closing(self.connect()) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS effects (execution_id TEXT)")
            connection.commit()

        @self.realm.intent("notes.create", effects="transactional", timeout_s=60)
        async def create(context: Context, parameters: Text) -> Text:
            self.attempts.append(context.attempt)
            await self.before(context)
            with closing(self.connect()) as connection:
                connection.execute("INSERT INTO effects VALUES (?)", (context.execution_id,))
                await context.commit(connection, parameters)
            await self.after(context)
            return parameters

    def over(self, store: Store) -> Realm:
        """Return the realm with its outcomes in another ``store``."""
        realm = Realm("notes", store=store)
        handler = self.realm.intents["notes.create"].handler
        realm.intent("notes.create", effects="transactional", timeout_s=60)(handler)
        return realm

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, check_same_thread=False)

    @property
    def effects(self) -> int:
        with closing(self.connect()) as connection:
            return int(connection.execute("SELECT count(*) FROM effects").fetchone()[0])


async def _nothing(_context: Context) -> None:
    pass


async def hang(_context: Context) -> None:
    await asyncio.Event().wait()


async def fail(_context: Context) -> None:
    raise ValueError


async def begun(made: Bench, session: Any) -> str:
    accepted = await made.submit(session)
    await made.reached(accepted.execution.execution_id, "running")
    return accepted.execution.execution_id


@asynchronous
async def test_a_committed_result_is_the_outcome(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    async with bench(tmp_path, ledger.realm) as made:
        ended = await made.run(await made.login())
        assert (ended.state, ledger.effects) == ("succeeded", 1)
        assert (await made.executions.data(ended.execution_id)).result == '{"text":"hello"}'


@asynchronous
async def test_code_that_fails_before_its_commit_has_no_effect(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.before = fail
    async with bench(tmp_path, ledger.realm) as made:
        ended = await made.run(await made.login())
        assert (ended.state, ended.reason, ledger.effects) == ("failed", "error", 0)


@pytest.mark.checks("committed_is_outcome")
@pytest.mark.parametrize("stop", ["asked", "session_ended", "timeout"])
@asynchronous
async def test_a_committed_result_is_never_recorded_as_cancelled(tmp_path: Path, stop: str) -> None:
    """The code is stopped after its commit: the effects are there, and so is the outcome that says so."""
    ledger = Ledger(tmp_path)
    ledger.after = hang
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.effects)
        ended = await stopped(made, session, execution_id, stop)
        assert (ended.state, ended.reason, ledger.effects) == ("succeeded", None, 1)
        assert (await made.executions.data(execution_id)).result == '{"text":"hello"}'
        assert made.late == 0


@pytest.mark.checks("committed_is_outcome")
@pytest.mark.parametrize("stop", ["asked", "session_ended", "timeout"])
@asynchronous
async def test_code_that_goes_on_after_its_end_commits_nothing(tmp_path: Path, stop: str) -> None:
    """The store is closed before the end is recorded."""
    ledger = Ledger(tmp_path)
    go, refused = asyncio.Event(), asyncio.Event()

    async def ignore(_context: Context) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                refused.set()

    ledger.before = ignore
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: made.runner.running)
        stopping = asyncio.create_task(stopped(made, session, execution_id, stop))
        await refused.wait()
        made.clock.advance(GRACE_MS)
        ended = await stopping
        assert ended.reason == stop
        go.set()
        await eventually(lambda: not made.runner.running)
        assert ledger.effects == 0
        assert await made.executions.load(execution_id) == ended


@pytest.mark.checks("committed_is_outcome")
@pytest.mark.parametrize("stop", ["asked", "session_ended", "timeout"])
@asynchronous
async def test_code_that_goes_on_when_it_is_cancelled_commits_nothing(tmp_path: Path, stop: str) -> None:
    """Not even within its grace: the store is closed at once."""
    ledger = Ledger(tmp_path)
    closed = asyncio.Event()

    async def ignore(_context: Context) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await closed.wait()

    ledger.before = ignore
    close = ledger.store.close

    async def tell(execution_id: str, attempt: int) -> bytes | None:
        committed = await close(execution_id, attempt)
        closed.set()
        return committed

    ledger.store.close = tell  # type: ignore[method-assign]  # so that the code can wait for it
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: made.runner.running)
        ended = await stopped(made, session, execution_id, stop)
        assert (ended.reason, ledger.effects) == (stop, 0)


async def stopped(made: Bench, session: Any, execution_id: str, stop: str) -> Any:
    match stop:
        case "asked":
            return await made.cancel(session, execution_id)
        case "session_ended":
            await made.end(session)
        case "timeout":
            made.clock.advance(60_000)
    return await made.runner.outcome(execution_id)


@pytest.mark.checks("committed_is_outcome")
@asynchronous
async def test_an_attempt_that_a_crash_took_after_its_commit_has_succeeded(tmp_path: Path) -> None:
    """Even if its session has ended since. The code does not run again, and the attempt is the one that committed."""
    ledger = Ledger(tmp_path)
    ledger.after = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.effects)
    async with bench(tmp_path, clock=made.clock, node="other") as made:
        await made.end(session)
    async with bench(tmp_path, ledger.realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.attempt, ledger.effects, ledger.attempts) == ("succeeded", 1, 1, [1])
        assert await made.events(execution_id) == ["accept", "start", "succeed"]


@asynchronous
async def test_an_attempt_that_a_crash_took_before_its_commit_is_repeated(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.before = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        execution_id = await begun(made, await made.login())
        await eventually(lambda: ledger.attempts)
    ledger.before = _nothing
    async with bench(tmp_path, ledger.realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (made.interrupted, ended.state, ended.attempt) == (1, "succeeded", 2)
        assert (ledger.effects, ledger.attempts) == (1, [1, 2])


@pytest.mark.checks("committed_is_outcome")
@asynchronous
async def test_a_stale_commit_can_not_follow_the_end_of_an_interrupted_attempt(tmp_path: Path) -> None:
    """A commit of the dead process may arrive late: after the interruption it is refused."""
    ledger = Ledger(tmp_path)
    ledger.before = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.attempts)
    async with bench(tmp_path, clock=made.clock, node="other") as made:
        await made.end(session)
    async with bench(tmp_path, ledger.realm, clock=made.clock) as made:
        ended = await made.runner.outcome(execution_id)
        assert (ended.state, ended.reason) == ("cancelled", "session_ended")
        with closing(ledger.connect()) as connection:
            connection.execute("INSERT INTO effects VALUES ('stale')")
            with pytest.raises(Exception, match="may not commit"):
                await ledger.store.commit(connection, execution_id, 1, b"{}")
        assert ledger.effects == 0


class Stuck:
    """A store that hangs or fails until ``works`` is set."""

    def __init__(self, store: SqlStore, *, hangs: bool) -> None:
        self._store = store
        self._hangs = hangs
        self.works = asyncio.Event()
        self.asked = 0

    async def prepare(self) -> None:
        await self._store.prepare()

    async def commit(self, connection: Any, execution_id: str, attempt: int, result: bytes) -> None:
        await self._store.commit(connection, execution_id, attempt, result)

    async def close(self, execution_id: str, attempt: int) -> bytes | None:
        self.asked += 1
        if not self.works.is_set():
            if not self._hangs:
                raise ConnectionError("password=secret")
            await asyncio.Event().wait()
        return await self._store.close(execution_id, attempt)


@pytest.mark.parametrize("fault", ["hangs", "fails"])
@asynchronous
async def test_a_store_that_does_not_answer_holds_up_its_execution_alone(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its result is committed is unknown: no outcome is recorded until the store answers."""
    monkeypatch.setattr(stores, "ANSWER_S", 0.05)
    ledger = Ledger(tmp_path)
    stuck = Stuck(ledger.store, hangs=fault == "hangs")
    ledger.after = hang
    async with bench(tmp_path, ledger.over(stuck)) as made:
        session, other = await made.login(), await made.login("acc_2")
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.effects)
        await made.end(session)
        await eventually(lambda: stuck.asked > 2)
        assert (await made.executions.load(execution_id)).state == "running"
        ledger.after = _nothing
        assert (await made.run(other)).state == "succeeded"
        stuck.works.set()
        assert (await made.runner.outcome(execution_id)).state == "succeeded"
        assert (ledger.effects, ledger.attempts) == (2, [1, 1])


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
@asynchronous
async def test_a_connect_that_would_end_the_process_is_a_failure(tmp_path: Path, end: type[BaseException]) -> None:
    """A realm may want to exit because a setting is missing. The server goes on, and asks again."""
    ledger = Ledger(tmp_path)
    ends = [end("no DATABASE_URL")]

    def connect() -> sqlite3.Connection:
        if ends:
            raise ends.pop()
        return ledger.connect()

    realm = Realm("notes", store=SqlStore(connect))
    intent = ledger.realm.intents["notes.create"]
    realm.intent("notes.create", effects="transactional", timeout_s=60)(intent.handler)
    async with bench(tmp_path, realm) as made:
        assert (await made.run(await made.login())).state == "succeeded"
        assert (ends, ledger.effects) == ([], 1)


@asynchronous
async def test_executions_that_wait_for_one_store_take_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends at its time. What can't be stopped is the call that hangs: another would hang beside it."""
    monkeypatch.setattr(stores, "ANSWER_S", 0.05)
    ledger = Ledger(tmp_path)
    works = threading.Event()
    connects: list[threading.Thread] = []

    def connect() -> sqlite3.Connection:
        connects.append(threading.current_thread())
        works.wait()
        return ledger.connect()

    realm = Realm("notes", store=SqlStore(connect))
    intent = ledger.realm.intents["notes.create"]
    realm.intent("notes.create", effects="transactional", timeout_s=60)(intent.handler)
    try:
        async with bench(tmp_path, realm) as made:
            session = await made.login()
            for number in range(3):
                accepted = [await made.submit(session, intent_id=f"{number}-{each}") for each in range(3)]
                await eventually(lambda: connects)
                await asyncio.sleep(0.1)
                made.clock.advance(60_000)
                for each in accepted:
                    ended = await made.runner.outcome(each.execution.execution_id)
                    assert (ended.state, ended.reason) == ("failed", "timeout")
            assert len(connects) == 1
            works.set()
            assert (await made.run(session)).state == "succeeded"
    finally:
        works.set()


@asynchronous
async def test_a_start_and_a_stop_do_not_wait_for_a_store_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.server.runtime.executions.runner.ANSWER_S", 0.05)
    ledger = Ledger(tmp_path)
    ledger.after = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        execution_id = await begun(made, await made.login())
        await eventually(lambda: ledger.effects)
    stuck = Stuck(ledger.store, hangs=True)
    async with bench(tmp_path, ledger.over(stuck), clock=made.clock) as made:
        assert (await made.executions.load(execution_id)).state == "running"
        assert stuck.asked == 1
    async with bench(tmp_path, ledger.realm, clock=made.clock) as made:
        assert (await made.runner.outcome(execution_id)).state == "succeeded"
        assert ledger.attempts == [1]


class Locked:
    """The connections to a realm's database, which is locked while ``locked``: a thread that asks then waits."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._free = threading.Event()
        self._free.set()
        self.locked = False
        self.asked = 0

    def connect(self) -> sqlite3.Connection:
        if self.locked:
            self.asked += 1
            self._free.wait()
        return self._ledger.connect()

    def lock(self) -> None:
        self.locked = True
        self._free.clear()

    def unlock(self) -> None:
        self.locked = False
        self._free.set()


@asynchronous
async def test_the_log_tells_of_a_call_in_a_thread_that_does_not_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't be cancelled: the operator hears of it while it lasts, and no second call is made beside it."""
    monkeypatch.setattr(stores, "ANSWER_S", 0.05)
    monkeypatch.setattr(stores, "_AGAIN_S", (0.05,))
    ledger = Ledger(tmp_path)
    database = Locked(ledger)
    ledger.after = hang
    with capture_logs() as logged:
        async with bench(tmp_path, ledger.over(SqlStore(database.connect))) as made:
            session = await made.login()
            execution_id = await begun(made, session)
            await eventually(lambda: ledger.effects)
            database.lock()
            try:
                await made.end(session)
                await eventually(
                    lambda: len([each for each in logged if each["event"] == "execution.store_failed"]) > 2
                )
                assert database.asked == 1
                assert (await made.executions.load(execution_id)).state == "running"
            finally:
                database.unlock()
            assert (await made.runner.outcome(execution_id)).state == "succeeded"
    failed = [each for each in logged if each["event"] == "execution.store_failed"]
    assert {each["execution_id"] for each in failed} == {execution_id}


@asynchronous
async def test_a_cancel_of_what_another_process_runs_does_not_wait_for_a_store_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.server.runtime.executions.runner.ANSWER_S", 0.05)
    monkeypatch.setattr("interlock.server.runtime.executions.runner.GRACE_MS", 50)
    ledger = Ledger(tmp_path)
    ledger.after = hang
    async with bench(tmp_path, ledger.realm, ends="crashes") as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.effects)
    stuck = Stuck(ledger.store, hangs=True)
    async with bench(tmp_path, ledger.over(stuck), clock=made.clock, node="n2") as made:
        async with asyncio.timeout(60):
            assert (await made.cancel(session, execution_id)).state == "running"
        assert stuck.asked
        stuck.works.set()
        assert (await made.runner.outcome(execution_id)).state == "succeeded"


@pytest.mark.parametrize("ends", ["cancelled", "closed"])
@asynchronous
async def test_what_cut_off_code_raises_is_no_fault_of_the_server(tmp_path: Path, ends: str) -> None:
    ledger = Ledger(tmp_path)
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))

    async def raise_when_cancelled(_context: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError from None

    ledger.before = raise_when_cancelled
    async with bench(tmp_path, ledger.realm) as made:
        session = await made.login()
        execution_id = await begun(made, session)
        await eventually(lambda: ledger.attempts)
        if ends == "cancelled":
            assert (await made.cancel(session, execution_id)).state == "cancelled"
    del made
    gc.collect()
    assert faults == []
