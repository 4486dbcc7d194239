"""Outcomes of transactional intents in the realm's own SQL database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from contextvars import copy_context
from threading import Thread
from typing import Any, Final, Literal, TypeVar

from interlock.machine.errors import AttemptClosed, RealmInvalid

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return the result of ``call``, made in a thread of its own. A cancellation takes effect after the call has returned.

    With :func:`asyncio.to_thread`, cancelled code would close its connection while the thread still uses it. And its few
    threads could all wait for a lock of the database whose holder waits for a thread to commit in.
    """
    answered: Future[T] = Future()

    def work() -> None:
        try:
            answered.set_result(call())
        except BaseException as error:  # noqa: BLE001  # the caller gets it
            answered.set_exception(error)

    Thread(target=copy_context().run, args=(work,), daemon=True).start()
    running = asyncio.wrap_future(answered)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


class SqlStore:
    """A :class:`~interlock.realm.Store` over DB-API connections (PEP 249) to SQLite or PostgreSQL.

    ``connect`` returns a new connection; it is called in other threads. ``placeholder`` is what the driver uses in SQL: ``?``
    in sqlite3, ``%s`` in psycopg. ``table`` is created if it is missing. It holds one row for each transactional execution.

    ``context.commit`` uses its connection in another thread. So open it with ``check_same_thread=False`` in sqlite3, and not in
    autocommit mode.
    """

    def __init__(
        self, connect: Callable[[], Any], *, placeholder: Literal["?", "%s"] = "?", table: str = "interlock_outcomes"
    ) -> None:
        if not _TABLE.fullmatch(table):
            raise RealmInvalid(f"SqlStore: {table!r} is not a name of lower-case letters, digits and _")
        self._connect = connect
        self._create = (
            f"CREATE TABLE IF NOT EXISTS {table}"
            " (execution_id TEXT NOT NULL PRIMARY KEY, attempt INTEGER NOT NULL, result TEXT)"
        )
        values = ", ".join([placeholder] * 3)
        # The row changes only while it has no result, and only for a later attempt than the one that it names.
        self._write = (
            f"INSERT INTO {table} (execution_id, attempt, result) VALUES ({values}) ON CONFLICT (execution_id) DO UPDATE"  # noqa: S608  # no value is put in
            " SET attempt = excluded.attempt, result = excluded.result"
            f" WHERE {table}.result IS NULL AND {table}.attempt < excluded.attempt"
        )
        self._read = f"SELECT result FROM {table} WHERE execution_id = {placeholder}"  # noqa: S608  # no value is put in

    async def prepare(self) -> None:
        """Create the table if it is missing."""
        await in_thread(self._prepare)

    async def commit(self, connection: Any, execution_id: str, attempt: int, result: bytes) -> None:
        """Add the outcome to the transaction on ``connection``, and commit that.

        Raises:
            AttemptClosed: an attempt has committed already, or this one is closed. The transaction is rolled back.
            RealmInvalid: no transaction is open: the connection commits each statement by itself.
        """
        await in_thread(lambda: self._commit(connection, execution_id, attempt, result.decode()))

    async def close(self, execution_id: str, attempt: int) -> bytes | None:
        """Close all attempts up to ``attempt``. Return the committed result, or None."""
        return await in_thread(lambda: self._close(execution_id, attempt))

    def _prepare(self) -> None:
        with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(self._create)
            connection.commit()

    def _commit(self, connection: Any, execution_id: str, attempt: int, result: str) -> None:
        if _commits_each_statement(connection):
            raise RealmInvalid(
                "SqlStore: the connection is in autocommit mode, so the effects would commit by themselves"
            )
        with closing(connection.cursor()) as cursor:
            cursor.execute(self._write, (execution_id, attempt, result))
            if cursor.rowcount != 1:
                connection.rollback()
                raise AttemptClosed
        connection.commit()

    def _close(self, execution_id: str, attempt: int) -> bytes | None:
        with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(self._write, (execution_id, attempt, None))
            connection.commit()
            cursor.execute(self._read, (execution_id,))
            (result,) = cursor.fetchone()
            return None if result is None else str(result).encode()


def _commits_each_statement(connection: Any) -> bool:
    # sqlite3 before `autocommit` (Python 3.12) has this mode as isolation_level=None, until the realm says BEGIN.
    old_mode = getattr(connection, "isolation_level", "") is None and not getattr(connection, "in_transaction", True)
    return getattr(connection, "autocommit", False) is True or old_mode


_TABLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
