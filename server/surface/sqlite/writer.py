"""One thread owns the only connection that writes; callers queue, and what waits together is committed together."""

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


def raise_again(_connection: Connection, error: Exception) -> NoReturn:
    """The diagnosis of a unit that no constraint can refuse."""
    raise RecordRefused(str(error)) from error


class Memory(Protocol):
    """What memory holds of the database besides the reader."""

    def begun(self) -> None:
        """Compare it: the transaction that begins keeps other programs from writing. What this raises is fail-stop."""
        ...

    def undone(self) -> None:
        """Drop what was rolled back."""
        ...


class _Busy(Exception):
    """A transaction could not begin."""


class Unit(Generic[A, T]):
    """One caller's work: all of it is committed, or none.

    ``run`` does it for a list of arguments and returns a result for each. ``diagnose`` is asked, after the work was undone,
    what a constraint's refusal means: it returns a result after all, or raises the error that the caller gets.
    ``submitted_ns`` is when it was queued, by the monotonic clock, and ``context`` the caller's context variables then.
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
    """What was committed together: the units and, in the same order, their results or exceptions.

    Times in ns by the monotonic clock: the commit began and ended, and the callers were woken.
    """

    units: list[Unit[Any, Any]]
    outcomes: list[Any]
    began_ns: int
    ended_ns: int
    resolved_ns: int


class Writer:
    """Runs units in the order of submission, as many as are waiting in one ``BEGIN IMMEDIATE`` … ``COMMIT``.

    A batch is first tried whole; when a unit in it fails, the batch is undone and run again with a savepoint around each
    unit, so that the bad one fails alone. The first error of the database itself is fail-stop: after it the outcome of a
    commit is not knowable (a failed fsync may have dropped pages that SQLite believes are written), so everything is
    refused until a restart reads the file again.

    ``memory`` is told, in the writer's thread, of each transaction that begins and of everything that is rolled back;
    ``on_commit`` with the outcomes of a batch, likewise, after its commit and before any future resolves. ``deliver`` and
    ``on_batch``, if they are set before the first write, are called on the event loop: the one with the units of a batch and
    their outcomes before the futures resolve, the other after they have. What ``deliver`` raises is fail-stop.
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
        """How many units are queued or being committed."""
        return self._workers.waiting

    def refuse_growth(self, low: bool) -> None:  # noqa: FBT001  # Surface says what it means
        """While last called with True, refuse what grows, so that what ends or takes rights away can still be written."""
        self._storage_low = low

    def start(self) -> None:
        """Begin to work; call once."""
        self._workers.start()

    def submit(
        self, run: Callable[[Connection], T], diagnose: Diagnosis[T], *, grows: bool = False
    ) -> asyncio.Future[T]:
        """Queue a unit that is run by itself. See :meth:`submit_with_others`."""
        return self.submit_with_others(lambda connection, _: [run(connection)], None, diagnose, grows=grows)

    def submit_with_others(
        self, run: Run[A, T], argument: A, diagnose: Diagnosis[T], *, grows: bool
    ) -> asyncio.Future[T]:
        """Queue a unit. Those next to each other with the same ``run`` are run in one call.

        ``grows``: it adds rows, and ends nothing. The future resolves after the commit is on disk. It raises whatever ``run``
        or ``diagnose`` raises, SurfaceFailed, StorageLow, or Overloaded when too many wait.
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
        """Commit what waits, stop the thread and close the connection."""
        self._workers.stop()
        await asyncio.to_thread(self._workers.join)
        await asyncio.to_thread(self._connection.close)

    def _serve(self, units: list[Unit[Any, Any]]) -> None:
        began_ns = time.monotonic_ns()
        try:
            outcomes = self._commit(units)
            if self.failure is None:
                self._on_commit(outcomes)
        except Exception as error:  # noqa: BLE001  # a dead thread would leave every caller waiting for ever
            outcomes = self._fail(error, units)
        times = (began_ns, time.monotonic_ns())
        self._loop.call_soon_threadsafe(self._resolve, units, outcomes, times)

    def _commit(self, units: list[Unit[Any, Any]]) -> list[Any]:
        """The result or the exception of each unit."""
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
        except Exception:  # noqa: BLE001  # a unit's own error: found again, and given to its caller, one by one
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
            _Busy: another program holds the file's write lock. Nothing was written, so nothing is unknown.
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
            except Exception as diagnosed:  # noqa: BLE001  # an InterlockError, or a fault of ours: its caller's either way
                return diagnosed
        except Error:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the unit raises belongs to its caller
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
        # One for each: an exception takes on the traceback of whoever raises it.
        return [SurfaceFailed(self.failure) for _ in units]

    def _stop(self, failure: str) -> None:
        """Fail-stop: memory did not follow what is on disk. Call it on the event loop."""
        self._unfollowed = failure
        if self.failure is None:
            self.failure = failure
            self._on_failure(failure)

    def _resolve(self, units: list[Unit[Any, Any]], outcomes: list[Any], times: tuple[int, int]) -> None:
        if self.deliver is not None and self._unfollowed is None:
            try:
                self.deliver(units, outcomes)
            except Exception as error:  # noqa: BLE001  # whatever it is, nobody may be answered from what memory holds now
                self._stop(f"the log is not followed any more: {error!r}")
        if self._unfollowed is not None:
            # Also what was committed before the thread heard of it.
            outcomes = [SurfaceFailed(self._unfollowed) for _ in units]
        self._workers.settle(units, outcomes)
        if self.on_batch is not None:
            self.on_batch(Batch(units, outcomes, *times, time.monotonic_ns()))
