"""Opening the data folder: the lock that keeps a second server out, and the log with all that is stored beside it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import sqlite_utils

from interlock.machine.errors import SurfaceFailed, SurfaceLocked
from interlock.machine.ledger import Receipt, Record
from interlock.machine.machine import Machines
from interlock.machine.machines import MACHINES
from interlock.server.surface.accounts import AccountStore
from interlock.server.surface.directory import Directory
from interlock.server.surface.exchanged_tokens import ExchangedTokenStore
from interlock.server.surface.log import TransitionLog
from interlock.server.surface.sqlite.accounts import SqliteAccounts, SqliteExchangedTokens
from interlock.server.surface.sqlite.directory import SqliteDirectory
from interlock.server.surface.sqlite.engine import BUSY_TIMEOUT_MS, Error, finish_rollback, open_reader, open_writer
from interlock.server.surface.sqlite.log import ChainHead, HeadLag, SqliteLog
from interlock.server.surface.sqlite.presence import Presence, keep_looking
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.schema import check_projection, migrate, refuse_foreign
from interlock.server.surface.sqlite.tickets import SqliteTickets
from interlock.server.surface.sqlite.writer import Batch, Writer
from interlock.server.surface.tickets import TicketStore
from interlock.server.system.permissions import refuse_writable
from interlock.server.system.supervision import Supervisor

LOG_NAME: Final = "interlock.db"
_LOCK_NAME: Final = "interlock.lock"
_MAX_BATCH: Final = 1024
_ERASURE_WAIT_MS: Final = 100
"""How long all writes wait for those who read the log just then: for what a server's own reads take, and no longer."""

_ERASURE_AGAIN_S: Final = 1.0


class Surface(msgspec.Struct, frozen=True):
    """Everything that is stored, opened."""

    log: TransitionLog
    accounts: AccountStore
    exchanged_tokens: ExchangedTokenStore
    tickets: TicketStore
    directory: Directory
    afterwards: AsyncExitStack
    """What to do once the last record is written and the folder is still locked."""
    refuse_growth: Callable[[bool], None]
    """While last called with True, only what ends or takes rights away is written; other callers get StorageLow."""
    head_lag: HeadLag
    """To be told of each signed head that is on disk."""
    last: Callable[[], Receipt]
    """Where the log ends. Ask before the first or after the last write."""
    waiting: Callable[[], int]
    """How many writes are queued or being committed."""
    reading: Callable[[], int]
    """How many reads are queued or under way."""


def _nobody_cares(_outcomes: Sequence[object]) -> None:
    """What is called after a commit when the caller gives nothing."""


@asynccontextmanager
async def open_surface(  # noqa: PLR0913  # each by name
    data: Path,
    *,
    max_waiting: int,
    on_failure: Callable[[str], None],
    supervisor: Supervisor,
    machines: Machines = MACHINES,
    on_commit: Callable[[Sequence[object]], None] = _nobody_cares,
    on_batch: Callable[[Batch], None] | None = None,
) -> AsyncIterator[Surface]:
    """Open (or make) the log of ``machines`` in folder ``data`` for this process alone, until the context ends.

    ``max_waiting``: how many writes may wait before callers are told Overloaded. ``on_failure`` is called once, on the
    event loop, should the log stop at an I/O error; ``on_commit`` in the writer's thread with the outcomes of each batch that
    was committed; ``on_batch`` on the event loop, once the callers of a batch are woken. ``supervisor`` runs what looks at the
    files while nothing is written.

    Raises:
        SurfaceLocked: another server has it open.
        SurfaceFailed: it can't be opened, is not a log, or is of a newer version.
        SettingsError: others may write to the folder or to its files.
    """
    lock = _lock(data)
    try:
        database = _prepare(data / LOG_NAME, machines)
        head = ChainHead(database.conn)
        lag = HeadLag()
        presence = Presence(data / LOG_NAME)

        erasure = Erasure(database, machines)

        def committed(outcomes: Sequence[object]) -> None:
            # An error in here stops the log, and the batch is not acknowledged.
            presence.check()
            on_commit(outcomes)
            erasure.committed(outcomes)

        writer = Writer(
            database,
            max_waiting=max_waiting,
            max_batch=_MAX_BATCH,
            memory=head,
            on_commit=committed,
            on_failure=on_failure,
        )
        writer.on_batch = on_batch
        writer.start()
        reader = Reader(open_reader(data / LOG_NAME))
        log = SqliteLog(machines, writer, reader, head, lag)
        writer.deliver = log.deliver
        async with AsyncExitStack() as afterwards:
            try:
                async with supervisor.running("files", partial(keep_looking, writer)):
                    yield Surface(
                        log,
                        SqliteAccounts(reader),
                        SqliteExchangedTokens(reader),
                        SqliteTickets(writer, reader),
                        SqliteDirectory(reader),
                        afterwards,
                        writer.refuse_growth,
                        lag,
                        lambda: head.receipt,
                        lambda: writer.waiting,
                        lambda: reader.waiting,
                    )
            finally:
                await reader.close()
                await writer.close()
    finally:
        os.close(lock)


class Erasure:
    """Has what was erased leave the write-ahead log, too, which keeps old pages until it begins anew.

    It does so after the end of an instance of a lasting lifecycle, an account, which erases something.

    While another program reads the log it can't; then it is tried again once a second, as long as there are commits, and there
    is one every second. A start is such an end: what the last process had to do is not known. ``now_s``: a monotonic clock.
    """

    def __init__(
        self, database: sqlite_utils.Database, machines: Machines, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = database.conn
        self._final = {(machine.kind, state) for machine in machines if machine.lasting for state in machine.final}
        self._now_s = now_s
        self._due_s: float | None = now_s()

    def committed(self, outcomes: Sequence[object]) -> None:
        """A batch was committed. Call it in the writer's thread, before anything of it is acknowledged."""
        records = (each for outcome in outcomes if isinstance(outcome, list) for each in outcome)
        if any(
            isinstance(each, Record) and (each.transition.kind, each.transition.target) in self._final
            for each in records
        ):
            self._due_s = self._now_s()
        if self._due_s is not None and self._now_s() >= self._due_s:
            self._due_s = None if self._begin_anew() else self._now_s() + _ERASURE_AGAIN_S

    def _begin_anew(self) -> bool:
        self._connection.execute(f"PRAGMA busy_timeout={_ERASURE_WAIT_MS}")
        try:
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        return not busy


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Keep servers out of folder ``data`` until the context ends.

    Raises:
        SurfaceLocked: one has it open.
        SurfaceFailed: the folder can't be used.
        SettingsError: others may write to it.
    """
    lock = _lock(data)
    try:
        yield
    finally:
        os.close(lock)


def _prepare(path: Path, machines: Machines) -> sqlite_utils.Database:
    try:
        if path.exists() and path.stat().st_size:
            # Another program's file is left as it is: not switched to WAL, not made private.
            finish_rollback(path)
            existing = open_reader(path)
            with closing(existing.conn):
                refuse_foreign(existing)
        database = open_writer(path)
        path.chmod(0o600)
        migrate(database, machines)
        check_projection(database, machines)
        # What the last process wrote is written once more, to the database itself: after a failed fsync the write-ahead log
        # may read well, from the kernel's memory, and not be on the disk. The model's `start_without_checkpoint` shows why.
        database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except Error as error:
        raise SurfaceFailed(f"{path} can't be opened: {error}") from error
    return database


def _lock(data: Path) -> int:
    """Hold the folder's lock file; the kernel releases it when this process ends, however it ends."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A journal is read as if this server had begun to write it.
        beside = [f"{LOG_NAME}-{suffix}" for suffix in ("wal", "shm", "journal")]
        for path in (data, *(data / name for name in (LOG_NAME, *beside, _LOCK_NAME))):
            with suppress(FileNotFoundError):
                refuse_writable(path)
        descriptor = os.open(data / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SurfaceFailed(f"{data} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise SurfaceLocked(
            f"another server{f' (process {holder})' if holder else ''} has {data / LOG_NAME} open; stop it first, or choose"
            " another folder with --data"
        ) from None
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
