"""Stores that hang or fail: only the executions that need their answer wait, and the log tells of it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from interlock.realm import Realm
from interlock.server.runtime.executions import stores
from interlock.store import SqlStore
from tests.support.asynchronous import asynchronous
from tests.support.ledger import Ledger, begun, hang, nothing
from tests.support.running import eventually
from tests.support.runtime import bench


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
        ledger.after = nothing
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
