"""Reads in a separate thread, so that a slow disk never blocks the event loop. Waiting reads are batched."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import sqlite_utils

from interlock.machine.errors import SurfaceFailed
from interlock.server.surface.sqlite.engine import Connection, Error
from interlock.server.system.workers import Workers

A = TypeVar("A")
T = TypeVar("T")

Run = Callable[[Connection, Sequence[A]], Sequence[T]]

_AT_ONCE: Final = 256
_MAX_WAITING: Final = 4096
"""How many reads may wait: about what a busy disk answers within a second or two."""
_KEYS_AT_ONCE: Final = 64
"""The maximum number of keys in one statement. Each number of keys has its own statement, prepared once."""

_rows_decoder: Final = msgspec.json.Decoder(list[list[Any]])


class Lookup(Generic[T]):
    """A query for rows of ``table`` that satisfy ``where``, by ``key``, a unique text column.

    ``make`` converts the values of ``columns`` (numbers, texts, NULL) to the result.
    """

    def __init__(
        self, table: str, columns: str, key: str, make: Callable[[Sequence[Any]], T], *, where: str = "true"
    ) -> None:
        # Fetch all rows as one text: the thread releases the interpreter lock for every column that it fetches.
        self._select = f"SELECT json_group_array(json_array({columns}, {key})) FROM {table} WHERE {where} AND {key} IN "  # noqa: S608  # names of ours
        self._make = make

    def find(self, connection: Connection, keys: Sequence[str]) -> list[T | None]:
        """Return the result for each of ``keys``, None where there is no row."""
        found: dict[str, T] = {}
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[first : first + _KEYS_AT_ONCE]
            (text,) = connection.execute(self._select + _placeholders(len(some)), some).fetchone()
            for *values, key in _rows_decoder.decode(text):
                found[key] = self._make(values)
        return [found.get(key) for key in keys]


class _Read(Generic[A, T]):
    __slots__ = ("argument", "future", "run")

    def __init__(self, run: Run[A, T], argument: A, future: asyncio.Future[T]) -> None:
        self.run = run
        self.argument = argument
        self.future = future


class Reader:
    """Reads for many callers. Waiting reads with the same ``run`` are done in one call.

    Every read raises SurfaceFailed if the database can't be read, and Overloaded if too many reads wait.
    """

    def __init__(self, database: sqlite_utils.Database) -> None:
        self._connection: Final[Connection] = database.conn
        self._loop = asyncio.get_running_loop()
        self._workers = Workers("interlock-reader", self._serve, max_waiting=_MAX_WAITING, at_once=_AT_ONCE)
        self._workers.start()

    @property
    def waiting(self) -> int:
        """The number of reads that are queued or in progress."""
        return self._workers.waiting

    def find(self, lookup: Lookup[T], key: str) -> asyncio.Future[T | None]:
        """Return what ``lookup`` finds by ``key``, or None."""
        return self._read(lookup.find, key)

    def run(self, query: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Return the result of ``query``."""
        return self._read(lambda connection, _: [query(connection)], None)

    async def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a SELECT."""
        return await self.run(lambda connection: connection.execute(statement, parameters).fetchall())

    async def close(self) -> None:
        """Finish the waiting reads and close the connection."""
        self._workers.stop()
        await asyncio.to_thread(self._workers.join)
        self._connection.close()

    def _read(self, run: Run[A, T], argument: A) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._workers.give(_Read(run, argument, future))
        return future

    def _serve(self, reads: list[_Read[Any, Any]]) -> None:
        together: dict[Run[Any, Any] | None, list[_Read[Any, Any]]] = {}
        for read in reads:
            # Skip reads whose caller was cancelled.
            together.setdefault(None if read.future.cancelled() else read.run, []).append(read)
        for run, same in together.items():
            arguments = [read.argument for read in same]
            outcomes = [None] * len(same) if run is None else self._outcomes(run, arguments)
            self._loop.call_soon_threadsafe(self._workers.settle, same, outcomes)

    def _outcomes(self, run: Run[Any, Any], arguments: list[Any]) -> Sequence[Any]:
        """Return the result or the exception for each of ``arguments``."""
        try:
            return run(self._connection, arguments)
        except Exception as error:  # noqa: BLE001  # the caller whose argument causes it gets it
            if len(arguments) > 1:
                return [outcome for argument in arguments for outcome in self._outcomes(run, [argument])]
            if isinstance(error, Error):
                failed = SurfaceFailed(f"the log can't be read: {error}")
                failed.__cause__ = error
                return [failed]
            return [error]


@functools.cache
def _placeholders(count: int) -> str:
    return f"({', '.join('?' * count)})"
