"""The data folder: its lock, which keeps a second server out, and the opened log with everything stored beside it."""

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
from interlock.server.surface.devices import DeviceStore
from interlock.server.surface.directory import Directory
from interlock.server.surface.exchanged_tokens import ExchangedTokenStore
from interlock.server.surface.executions import ExecutionStore
from interlock.server.surface.log import TransitionLog
from interlock.server.surface.sqlite.directory import SqliteDirectory
from interlock.server.surface.sqlite.engine import BUSY_TIMEOUT_MS, Error, finish_rollback, open_reader, open_writer
from interlock.server.surface.sqlite.file_identity import FileIdentity, keep_looking
from interlock.server.surface.sqlite.log import ChainHead, HeadLag, SqliteLog
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.schema import check_projection, migrate, refuse_foreign
from interlock.server.surface.sqlite.stores.accounts import SqliteAccounts, SqliteExchangedTokens
from interlock.server.surface.sqlite.stores.devices import Erased, SqliteDevices
from interlock.server.surface.sqlite.stores.executions import SqliteExecutions
from interlock.server.surface.sqlite.stores.tickets import SqliteTickets
from interlock.server.surface.sqlite.stores.webhooks import SqliteWebhooks
from interlock.server.surface.sqlite.writer import Batch, Writer
from interlock.server.surface.tickets import TicketStore
from interlock.server.surface.webhooks import WebhookStore
from interlock.server.system.permissions import give_to_owner, refuse_writable
from interlock.server.system.supervision import Supervisor

LOG_NAME: Final = "interlock.db"
_LOCK_NAME: Final = "interlock.lock"
_MAX_BATCH: Final = 1024
_ERASURE_WAIT_MS: Final = 100
"""How long all writes wait for current readers of the log: long enough for the server's own reads, and no longer."""

_ERASURE_AGAIN_S: Final = 1.0


class Surface(msgspec.Struct, frozen=True):
    """The opened storage."""

    log: TransitionLog
    accounts: AccountStore
    exchanged_tokens: ExchangedTokenStore
    tickets: TicketStore
    executions: ExecutionStore
    directory: Directory
    webhooks: WebhookStore
    devices: DeviceStore
    on_closed: AsyncExitStack
    """Callbacks that run after the last record is written, while the folder is still locked."""
    refuse_growth: Callable[[bool], None]
    """While last called with True, refuse writes with StorageLow unless they end something or take rights away."""
    head_lag: HeadLag
    """Must be notified of each signed head that is on disk."""
    last: Callable[[], Receipt]
    """Return the receipt of the last record. Call it before the first or after the last write."""
    waiting: Callable[[], int]
    """Return the number of writes that are queued or being committed."""
    reading: Callable[[], int]
    """Return the number of reads that are queued or in progress."""


def _ignore(_outcomes: Sequence[object]) -> None:
    """Do nothing after a commit; the default of ``on_commit``."""


@asynccontextmanager
async def open_surface(  # noqa: PLR0913  # each by name
    data: Path,
    *,
    max_waiting: int,
    on_failure: Callable[[str], None],
    supervisor: Supervisor,
    machines: Machines = MACHINES,
    on_commit: Callable[[Sequence[object]], None] = _ignore,
    on_batch: Callable[[Batch], None] | None = None,
) -> AsyncIterator[Surface]:
    """Open or create the log of ``machines`` in folder ``data`` for this process alone, until the context ends.

    ``max_waiting`` is how many writes may wait before callers get Overloaded. ``on_failure`` is called once, on the event
    loop, if an I/O error stops the log. ``on_commit`` is called in the writer's thread with the outcomes of each committed
    batch. ``on_batch`` is called on the event loop, after the futures of a batch have resolved. ``supervisor`` runs the check
    of the files while nothing is written.

    Raises:
        SurfaceLocked: another server has the log open.
        SurfaceFailed: the log can't be opened, is not a log, or is of a newer version.
        SettingsError: other users may write to the folder or its files.
    """
    lock = _lock(data)
    try:
        database = _prepare(data / LOG_NAME, machines)
        head = ChainHead(database.conn)
        lag = HeadLag()
        file_identity = FileIdentity(data / LOG_NAME)

        erasure = Erasure(database, machines)

        def committed(outcomes: Sequence[object]) -> None:
            # An error in this function stops the log, and the batch is not acknowledged.
            file_identity.check()
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
        async with AsyncExitStack() as on_closed:
            try:
                async with supervisor.running("files", partial(keep_looking, writer)):
                    yield Surface(
                        log,
                        SqliteAccounts(reader),
                        SqliteExchangedTokens(reader),
                        SqliteTickets(writer, reader),
                        SqliteExecutions(reader),
                        SqliteDirectory(reader),
                        SqliteWebhooks(writer, reader),
                        SqliteDevices(writer, reader),
                        on_closed,
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
    """Removes erased data from the write-ahead log, which keeps old pages until it is truncated.

    It truncates the log after an erasure, and after the end of an instance of a lasting lifecycle (an account), which is one.
    While another program reads the log, truncation fails and is retried at a commit, at most once a second; there is a commit
    every second. A start truncates, too, because what the last process left is unknown. ``now_s`` is a monotonic clock.
    """

    def __init__(
        self, database: sqlite_utils.Database, machines: Machines, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = database.conn
        self._final = {(machine.kind, state) for machine in machines if machine.lasting for state in machine.final}
        self._now_s = now_s
        self._due_s: float | None = now_s()

    def committed(self, outcomes: Sequence[object]) -> None:
        """Process a committed batch. Call it in the writer's thread, before anything of the batch is acknowledged."""
        if any(self._erases(outcome) for outcome in outcomes):
            self._due_s = self._now_s()
        if self._due_s is not None and self._now_s() >= self._due_s:
            self._due_s = None if self._begin_anew() else self._now_s() + _ERASURE_AGAIN_S

    def _erases(self, outcome: object) -> bool:
        return isinstance(outcome, Erased) or (
            isinstance(outcome, list)
            and any(
                isinstance(each, Record) and (each.transition.kind, each.transition.target) in self._final
                for each in outcome
            )
        )

    def _begin_anew(self) -> bool:
        self._connection.execute(f"PRAGMA busy_timeout={_ERASURE_WAIT_MS}")
        try:
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        return not busy


@contextmanager
def exclusive_access(data: Path) -> Iterator[None]:
    """Lock folder ``data`` against servers until the context ends.

    Raises:
        SurfaceLocked: a server has the folder open.
        SurfaceFailed: the folder can't be used.
        SettingsError: other users may write to it.
    """
    lock = _lock(data)
    try:
        yield
    finally:
        os.close(lock)


def _prepare(path: Path, machines: Machines) -> sqlite_utils.Database:
    try:
        if path.exists() and path.stat().st_size:
            # Leave another program's file unchanged: do not switch it to WAL or change its permissions.
            finish_rollback(path)
            existing = open_reader(path)
            with closing(existing.conn):
                refuse_foreign(existing)
        database = open_writer(path)
        path.chmod(0o600)
        migrate(database, machines)
        check_projection(database, machines)
        # Write what the last process wrote once more, to the database itself: after a failed fsync the kernel may still serve
        # the write-ahead log from memory although it is not on disk. The model's `start_without_checkpoint` shows why.
        database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except Error as error:
        raise SurfaceFailed(f"{path} can't be opened: {error}") from error
    return database


def refuse_written_by_others(data: Path) -> None:
    """Check that only its owner may write to folder ``data`` and the log's files.

    Raises:
        SettingsError: others may.
        OSError: one can't be checked.
    """
    # SQLite trusts an existing journal as if this server had written it.
    beside = [f"{LOG_NAME}-{suffix}" for suffix in ("wal", "shm", "journal")]
    for path in (data, *(data / name for name in (LOG_NAME, *beside, _LOCK_NAME))):
        with suppress(FileNotFoundError):
            refuse_writable(path)


def server_of(data: Path) -> int | None:
    """Return the process id of the server that has folder ``data`` open, or None. Nothing is written.

    For a moment this holds a shared lock; a server that starts in just that moment would be refused.

    Raises:
        OSError: the lock file can't be read.
        ValueError: somebody else has written to it.
    """
    try:
        descriptor = os.open(data / _LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0))
    else:
        return None
    finally:
        os.close(descriptor)


def _lock(data: Path) -> int:
    """Lock the folder's lock file and return its descriptor. The kernel releases the lock when this process ends."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_written_by_others(data)
        descriptor = os.open(data / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_to_owner(data / _LOCK_NAME)
    except FileExistsError as error:
        raise SurfaceFailed(f"{data} is a file, not a folder") from error
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
