"""One thread owns the only writing connection. Callers queue, and waiting work is committed in one transaction.

It knows no records: :mod:`interlock.server.surface.sqlite.log` writes those.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

import msgspec
import sqlite_utils

from interlock.machine.errors import Overloaded, RecordRefused, StorageLow, SurfaceFailed
from interlock.server.surface.sqlite.engine import Connection, Error, IntegrityError, is_busy
from interlock.server.system.workers import Workers

A = TypeVar("A")
T = TypeVar("T")

Run = Callable[[Connection, Sequence[A]], list[T]]
Diagnosis = Callable[[Connection, Exception], T]


def reraise(_connection: Connection, error: Exception) -> NoReturn:
    """Raise RecordRefused: the diagnosis for a unit that no constraint is expected to refuse."""
    raise RecordRefused(str(error)) from error


class Memory(Protocol):
    """In-memory state that follows the database."""

    def begun(self) -> None:
        """Check the state against the database, which the new transaction locks against other writers. Errors are fail-stop."""
        ...

    def undone(self) -> None:
        """Drop what was rolled back."""
        ...


class _Busy(Exception):
    """A transaction could not begin because another program holds the lock."""


class Unit(Generic[A, T]):
    """The work of one caller, committed completely or not at all.

    ``run`` does the work for a list of arguments and returns a result for each. ``diagnose`` is called after a constraint
    refused the work and it was rolled back: it returns a result, or raises the error for the caller. ``submitted_ns`` is when
    the unit was queued, by the monotonic clock; ``context`` holds the caller's context variables at that time.
    """

    __slots__ = ("argument", "context", "diagnose", "future", "run", "submitted_ns")

    def __init__(self, run: Run[A, T], argument: A, diagnose: Diagnosis[T], future: asyncio.Future[T]) -> None:
        self.run = run
        self.argument = argument
        self.diagnose = diagnose
        self.future = future
        self.submitted_ns = time.monotonic_ns()
        self.context = contextvars.copy_context()


class Batch(msgspec.Struct, frozen=True):
    """The units of one commit and, in the same order, their results or exceptions.

    Times are in ns by the monotonic clock: when the commit began and ended, and when the futures were resolved.
    """

    units: list[Unit[Any, Any]]
    outcomes: list[Any]
    began_ns: int
    ended_ns: int
    resolved_ns: int


class Writer:
    """Runs units in the order of submission; all that are waiting share one ``BEGIN IMMEDIATE`` … ``COMMIT``.

    A batch is first run as a whole. If a unit fails, the batch is rolled back and run again with a savepoint around each unit,
    so that only the bad unit fails. The first error of the database itself is fail-stop, because the outcome of the commit is
    unknown (a failed fsync may have dropped pages that SQLite believes are written): everything is refused until a restart
    reads the file again.

    ``memory`` is called in the writer's thread for each transaction that begins and for each rollback. ``on_commit`` is called
    in that thread with the outcomes of a batch, after its commit and before any future resolves. ``deliver`` and ``on_batch``,
    if set before the first write, are called on the event loop: ``deliver`` with a batch's units and outcomes before the
    futures resolve, ``on_batch`` after that. An error in ``deliver`` is fail-stop.
    """

    def __init__(
        self,
        database: sqlite_utils.Database,
        *,
        max_waiting: int,
        max_batch: int,
        memory: Memory,
        on_commit: Callable[[Sequence[object]], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self.failure: str | None = None
        self._unfollowed: str | None = None
        self._storage_low = False
        self._connection: Final[Connection] = database.conn
        self._memory = memory
        self._on_commit = on_commit
        self._on_failure = on_failure
        self.deliver: Callable[[Sequence[Unit[Any, Any]], Sequence[Any]], None] | None = None
        self.on_batch: Callable[[Batch], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._workers = Workers("interlock-writer", self._serve, max_waiting=max_waiting, at_once=max_batch)

    @property
    def waiting(self) -> int:
        """The number of units that are queued or being committed."""
        return self._workers.waiting

    def refuse_growth(self, low: bool) -> None:  # noqa: FBT001  # Surface says what it means
        """While last called with True, refuse units that grow the log. This reserves space for ends and loss of rights."""
        self._storage_low = low

    def start(self) -> None:
        """Start the thread; call once."""
        self._workers.start()

    def submit(
        self, run: Callable[[Connection], T], diagnose: Diagnosis[T], *, grows: bool = False
    ) -> asyncio.Future[T]:
        """Queue a unit that is run on its own. See :meth:`submit_with_others`."""
        return self.submit_with_others(lambda connection, _: [run(connection)], None, diagnose, grows=grows)

    def submit_with_others(
        self, run: Run[A, T], argument: A, diagnose: Diagnosis[T], *, grows: bool
    ) -> asyncio.Future[T]:
        """Queue a unit. Adjacent units with the same ``run`` are run in one call.

        ``grows``: the unit adds rows and ends nothing. The future resolves after the commit is on disk. It raises what ``run``
        or ``diagnose`` raises, SurfaceFailed, StorageLow, or Overloaded if too many units wait.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self.failure is not None:
            future.set_exception(SurfaceFailed(self.failure))
        elif grows and self._storage_low:
            future.set_exception(StorageLow())
        else:
            self._workers.give(Unit(run, argument, diagnose, future))
        return future

    async def close(self) -> None:
        """Commit the waiting units, stop the thread and close the connection."""
        self._workers.stop()
        await asyncio.to_thread(self._workers.join)
        await asyncio.to_thread(self._connection.close)

    def _serve(self, units: list[Unit[Any, Any]]) -> None:
        began_ns = time.monotonic_ns()
        try:
            outcomes = self._commit(units)
            if self.failure is None:
                self._on_commit(outcomes)
        except Exception as error:  # noqa: BLE001  # a dead thread would leave every caller waiting forever
            outcomes = self._fail(error, units)
        times = (began_ns, time.monotonic_ns())
        self._loop.call_soon_threadsafe(self._resolve, units, outcomes, times)

    def _commit(self, units: list[Unit[Any, Any]]) -> list[Any]:
        """Return the result or the exception of each unit."""
        if self.failure is not None:
            return [SurfaceFailed(self.failure) for _ in units]
        try:
            self._begin()
            outcomes: list[Any] = []
            for run, same in itertools.groupby(units, key=attrgetter("run")):
                outcomes += run(self._connection, [unit.argument for unit in same])
            self._connection.execute("COMMIT")
        except _Busy:
            return [Overloaded() for _ in units]
        except IntegrityError:
            return self._commit_apart(units)
        except Error as error:
            return self._fail(error, units)
        except Exception:  # noqa: BLE001  # one unit's own error: running each alone finds it for its caller
            return self._commit_apart(units)
        return outcomes

    def _commit_apart(self, units: list[Unit[Any, Any]]) -> list[Any]:
        outcomes: list[Any] = []
        try:
            self._undo("ROLLBACK")
            self._begin()
            for unit in units:
                self._connection.execute("SAVEPOINT unit")
                outcomes.append(self._run_alone(unit))
                self._connection.execute("RELEASE unit")
            self._connection.execute("COMMIT")
        except _Busy:
            return [Overloaded() for _ in units]
        except Error as error:
            return self._fail(error, units)
        return outcomes

    def _begin(self) -> None:
        """Begin a transaction.

        Raises:
            _Busy: another program holds the file's write lock. Nothing was written, so the outcome is known.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except Error as error:
            if is_busy(error):
                raise _Busy from error
            raise
        self._memory.begun()

    def _run_alone(self, unit: Unit[Any, Any]) -> Any:
        try:
            return unit.run(self._connection, [unit.argument])[0]
        except IntegrityError as error:
            self._undo("ROLLBACK TO unit")
            try:
                return unit.diagnose(self._connection, error)
            except Error:
                raise
            except Exception as diagnosed:  # noqa: BLE001  # the caller gets it, an InterlockError or a bug
                return diagnosed
        except Error:
            raise
        except Exception as error:  # noqa: BLE001  # the unit's caller gets whatever it raises
            self._undo("ROLLBACK TO unit")
            return error

    def _undo(self, statement: str) -> None:
        self._connection.execute(statement)
        self._memory.undone()

    def _fail(self, error: Exception, units: list[Unit[Any, Any]]) -> list[Any]:
        self.failure = f"the log stopped at an I/O error: {error}"
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except Error as second:
                self.failure += f"; then {second}"
        self._loop.call_soon_threadsafe(self._on_failure, self.failure)
        # One exception for each unit: raising it adds the caller's traceback to it.
        return [SurfaceFailed(self.failure) for _ in units]

    def _stop(self, failure: str) -> None:
        """Stop because memory did not follow what is on disk. Call it on the event loop."""
        self._unfollowed = failure
        if self.failure is None:
            self.failure = failure
            self._on_failure(failure)

    def _resolve(self, units: list[Unit[Any, Any]], outcomes: list[Any], times: tuple[int, int]) -> None:
        if self.deliver is not None and self._unfollowed is None:
            try:
                self.deliver(units, outcomes)
            except Exception as error:  # noqa: BLE001  # after any error caches may be stale, so no caller may be answered
                self._stop(f"the log is not followed any more: {error!r}")
        if self._unfollowed is not None:
            # Includes batches that the thread committed before it noticed the failure.
            outcomes = [SurfaceFailed(self._unfollowed) for _ in units]
        self._workers.settle(units, outcomes)
        if self.on_batch is not None:
            self.on_batch(Batch(units, outcomes, *times, time.monotonic_ns()))
