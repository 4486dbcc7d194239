"""A transactional intent: its effects and its outcome commit together, or not at all, in whatever order things happen."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import Context, Outcome, Realm, testing
from interlock.machine.errors import AttemptClosed, RealmInvalid
from interlock.store import SqlStore, in_thread
from tests.support.asynchronous import asynchronous

SUCCEEDED = Outcome(state="succeeded", result={"text": "x"})


class Keep(msgspec.Struct):
    text: str
    then: str = ""


class Kept(msgspec.Struct):
    text: str


def _connections(path: Path) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT NOT NULL)")
        return connection

    return connect


def _notes(path: Path) -> list[str]:
    with closing(_connections(path)()) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]


def _rows(path: Path) -> int:
    """Return how many attempts have committed or are closed."""
    with closing(_connections(path)()) as connection:
        return int(connection.execute("SELECT count(*) FROM interlock_outcomes").fetchone()[0])


def _realm(path: Path) -> Realm:
    """A realm that keeps a text, then raises, waits or commits again, before or after the commit, as it is asked."""
    connect = _connections(path)
    realm = Realm("notes", store=SqlStore(connect))

    @realm.intent("notes.keep", effects="transactional")
    async def keep(context: Context, parameters: Keep) -> Kept:
        with closing(connect()) as connection:
            connection.execute("INSERT INTO notes VALUES (?)", (parameters.text,))
            if parameters.then == "wait before" and context.attempt == 1:
                await context.emit("written")
                await asyncio.Event().wait()
            if parameters.then == "defy":
                await context.emit("written")
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                # The store is closed meanwhile.
                while await in_thread(lambda: _rows(path)) == 0:
                    connection.rollback()
                connection.execute("INSERT INTO notes VALUES (?)", (parameters.text,))
            if parameters.then == "forget":
                return Kept(parameters.text)
            await context.commit(connection, Kept(parameters.text))
            if parameters.then == "again":
                await context.commit(connection, Kept("again"))
            if parameters.then == "raise after":
                raise ValueError(parameters.then)
            if parameters.then == "wait after":
                await context.emit("committed")
                await asyncio.Event().wait()
            return Kept("what counts is what was committed")

    return realm


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def _prepared(path: Path) -> tuple[SqlStore, Callable[[], sqlite3.Connection]]:
    connect = _connections(path)
    store = SqlStore(connect)
    asyncio.run(store.prepare())
    return store, connect


async def _commit(store: SqlStore, connection: sqlite3.Connection, attempt: int) -> None:
    connection.execute("INSERT INTO notes VALUES (?)", (f"attempt {attempt}",))
    await store.commit(connection, "exe_1", attempt, b'"attempt %d"' % attempt)


def test_the_committed_result_is_the_outcome(path: Path) -> None:
    assert asyncio.run(testing.realm(_realm(path)).run("notes.keep", {"text": "x"})) == SUCCEEDED
    assert _notes(path) == ["x"]


def test_an_error_after_the_commit_changes_no_outcome(path: Path) -> None:
    for number, then in enumerate(("raise after", "again"), 1):
        outcome = asyncio.run(
            testing.realm(_realm(path)).run("notes.keep", {"text": "x", "then": then}, intent_id=then)
        )
        assert outcome == SUCCEEDED
        assert _notes(path) == ["x"] * number


def test_code_that_returns_without_a_commit_fails_and_has_no_effect(path: Path) -> None:
    outcome = asyncio.run(testing.realm(_realm(path)).run("notes.keep", {"text": "x", "then": "forget"}))
    assert (outcome.state, outcome.error) == (
        "failed",
        "notes.keep is transactional, and returned without context.commit()",
    )
    assert _notes(path) == []


@pytest.mark.parametrize("stop", ["cancel", "crash"])
@asynchronous
async def test_what_was_committed_survives_a_crash_or_a_cancel(path: Path, stop: str) -> None:
    run = await testing.realm(_realm(path)).submit("notes.keep", {"text": "x", "then": "wait after"})
    await run.emitted()
    getattr(run, stop)()
    assert await run.outcome() == SUCCEEDED
    assert (_notes(path), run.attempt) == (["x"], 1)


@asynchronous
async def test_after_a_crash_before_the_commit_it_runs_again(path: Path) -> None:
    run = await testing.realm(_realm(path)).submit("notes.keep", {"text": "x", "then": "wait before"})
    await run.emitted()
    run.crash()
    assert await run.outcome() == SUCCEEDED
    assert (_notes(path), run.attempt) == (["x"], 2)


@asynchronous
async def test_a_cancel_before_the_commit_leaves_nothing(path: Path) -> None:
    run = await testing.realm(_realm(path)).submit("notes.keep", {"text": "x", "then": "wait before"})
    await run.emitted()
    run.cancel()
    assert await run.outcome() == Outcome(state="cancelled", reason="asked")
    assert _notes(path) == []


@asynchronous
async def test_code_that_goes_on_after_a_cancel_can_not_commit(path: Path) -> None:
    run = await testing.realm(_realm(path)).submit("notes.keep", {"text": "x", "then": "defy"})
    await run.emitted()
    run.cancel()
    assert await run.outcome() == Outcome(state="cancelled", reason="asked")
    assert isinstance(run.exception, AttemptClosed)
    assert _notes(path) == []


def test_a_closed_attempt_can_not_commit_and_the_next_one_can(path: Path) -> None:
    store, connect = _prepared(path)
    with closing(connect()) as connection:
        assert asyncio.run(store.close("exe_1", 1)) is None
        with pytest.raises(AttemptClosed):
            asyncio.run(_commit(store, connection, 1))
        assert not connection.in_transaction
        asyncio.run(_commit(store, connection, 2))
    assert _notes(path) == ["attempt 2"]
    assert asyncio.run(store.close("exe_1", 1)) == asyncio.run(store.close("exe_1", 9)) == b'"attempt 2"'


@given(
    st.lists(st.tuples(st.sampled_from(["close", "commit"]), st.integers(min_value=1, max_value=3)), max_size=8),
)
@settings(max_examples=50)
def test_at_most_one_attempt_commits_in_any_order(calls: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.db"
        store, connect = _prepared(path)
        closed, result = 0, None
        for call, attempt in calls:
            if call == "close":
                assert asyncio.run(store.close("exe_1", attempt)) == result
                closed = max(closed, attempt)
                continue
            with closing(connect()) as connection:
                if result is None and attempt > closed:
                    asyncio.run(_commit(store, connection, attempt))
                    result = b'"attempt %d"' % attempt
                else:
                    with pytest.raises(AttemptClosed):
                        asyncio.run(_commit(store, connection, attempt))
        assert _notes(path) == ([] if result is None else [result.decode().strip('"')])


def test_a_close_and_a_commit_at_once_agree(path: Path) -> None:
    store, connect = _prepared(path)
    for number in range(20):
        name = f"exe_{number}"

        async def at_once(name: str = name) -> tuple[bytes | None, BaseException | None]:
            with closing(connect()) as connection:
                closed, committed = await asyncio.gather(
                    store.close(name, 1), store.commit(connection, name, 1, b"1"), return_exceptions=True
                )
            assert not isinstance(closed, BaseException)
            return closed, committed

        closed, committed = asyncio.run(at_once())
        assert (closed == b"1") == (committed is None)


@asynchronous
async def test_a_cancelled_commit_has_ended_before_its_code_goes_on(path: Path) -> None:
    store = SqlStore(_connections(path))
    asked, go_on = threading.Event(), threading.Event()
    connection = _Slow(_connections(path)(), asked, go_on)
    await store.prepare()
    try:
        commit = asyncio.create_task(store.commit(connection, "exe_1", 1, b"1"))
        await asyncio.to_thread(asked.wait)
        commit.cancel()
        done, _ = await asyncio.wait({commit}, timeout=0.05)
        assert not done
    finally:
        go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await commit
    connection.close()
    assert await store.close("exe_1", 1) == b"1"


def test_a_connection_that_commits_each_statement_is_refused(path: Path) -> None:
    store, _ = _prepared(path)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        with pytest.raises(RealmInvalid, match="autocommit mode"):
            asyncio.run(_commit(store, connection, 1))
        connection.execute("BEGIN")
        asyncio.run(_commit(store, connection, 1))
    assert asyncio.run(store.close("exe_1", 1)) == b'"attempt 1"'


def test_a_table_name_is_a_plain_name(path: Path) -> None:
    with pytest.raises(RealmInvalid, match="is not a name of lower-case letters"):
        SqlStore(_connections(path), table="notes; DROP TABLE notes")


def test_commit_is_for_transactional_intents() -> None:
    realm = Realm("notes")

    @realm.intent("notes.keep")
    async def keep(context: Context, parameters: Keep) -> Kept:
        await context.commit(None, Kept(parameters.text))
        raise AssertionError

    outcome = asyncio.run(testing.realm(realm).run("notes.keep", {"text": "x"}))
    assert outcome.error == "notes.keep: commit() is for intents with effects='transactional'"


class _Slow:
    """A connection whose commit waits."""

    def __init__(self, connection: sqlite3.Connection, asked: threading.Event, go_on: threading.Event) -> None:
        self._connection = connection
        self._asked = asked
        self._go_on = go_on

    def cursor(self) -> sqlite3.Cursor:
        return self._connection.cursor()

    def commit(self) -> None:
        self._asked.set()
        self._go_on.wait()
        self._connection.commit()

    def close(self) -> None:
        self._connection.close()
