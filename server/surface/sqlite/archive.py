"""Read access to a log on disk, for the command line. It needs no server and does not disturb a running one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Any, Final

import sqlite_utils

from interlock.machine.errors import FileDamaged, LedgerFault, SurfaceFailed
from interlock.machine.events.deliveries import Pending
from interlock.machine.execution.execution import Execution
from interlock.machine.ledger import EMPTY, Receipt, Record, StoredRow, parse
from interlock.machine.machine import InstanceT, Machine, Machines, id_of
from interlock.machine.machines import MACHINES
from interlock.machine.verifier import Verifier
from interlock.server.surface.sqlite.engine import Error, open_reader
from interlock.server.surface.sqlite.files import LOG_NAME
from interlock.server.surface.sqlite.log import HISTORY, INSTANCE, LATEST_AT
from interlock.server.surface.sqlite.rows import TRANSITION_COLUMNS, instance_from, stored_row
from interlock.server.surface.sqlite.schema import refuse_foreign
from interlock.server.surface.sqlite.stores.accounts import PERSONAL_COLUMNS, fault_of_personal_data
from interlock.server.surface.sqlite.stores.executions import DataCheck
from interlock.server.surface.sqlite.stores.webhooks import DEAD_LETTERS, WEBHOOK_STATES
from interlock.server.surface.webhooks import WebhookState

_PAGE: Final = 1000
_ALL: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions ORDER BY position"  # noqa: S608  # column names of ours
_RECEIPT_AT: Final = "SELECT position, lower(hex(digest)) FROM transitions WHERE position = ?"
_NEXT: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE position > ? ORDER BY position LIMIT 1"  # noqa: S608  # column names of ours
_ROW_AT: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE position = ?"  # noqa: S608  # column names of ours
_BEGUN: Final = "SELECT 1 FROM transitions WHERE (kind, instance_id, version) = (?, ?, 1) AND position < ?"
_PERSONAL: Final = f"SELECT {PERSONAL_COLUMNS} FROM personal_data"  # noqa: S608  # column names of ours
_CORRUPT: Final = 11
"""SQLITE_CORRUPT, the low byte of SQLite's extended error codes."""
_UNDECODED: Final = "Could not decode to UTF-8"
"""The start of the driver's message for text that is not UTF-8; the driver has no error code for it."""


class Archive:
    """One log, opened for reading."""

    def __init__(self, file: Path, database: sqlite_utils.Database, machines: Machines) -> None:
        self.file: Final = file
        self._database = database
        self._machines = machines

    def record_count(self) -> int:
        """Return the number of records, taken from the last position.

        Raises:
            FileDamaged: the end of the log can't be read.
        """
        with _damage_in_words():
            return int(self._database.execute("SELECT coalesce(max(position), 0) FROM transitions").fetchone()[0])

    def latest_at_ms(self) -> int:
        """Return the time of the newest record, in ms since the Unix epoch; 0 if there is none.

        Raises:
            FileDamaged: the end of the log can't be read.
        """
        with _damage_in_words():
            row = self._database.execute(LATEST_AT).fetchone()
        return int(row[0]) if row else 0

    def webhook_states(self) -> dict[str, tuple[WebhookState, str | None, int, int]]:
        """Return by name how each webhook does.

        That is its state, why the last attempt failed (None after a success), and how many messages are put aside and are dead
        letters.

        Raises:
            FileDamaged: they can't be read.
        """
        with _damage_in_words():
            rows = self._database.execute(WEBHOOK_STATES).fetchall() if self._database["webhooks"].exists() else []
        return {row[0]: (WebhookState(*row[:-3]), *row[-3:]) for row in rows}

    def dead_letters(self, webhook: str) -> Iterator[Pending]:
        """Yield the dead letters of ``webhook``, by position."""
        yield from (Pending(*row) for row in self._database.execute(DEAD_LETTERS, (webhook, 0, -1)))

    def rows(self) -> Iterator[StoredRow]:
        """Yield every record as stored, in order of position, unchecked."""
        yield from starmap(StoredRow, self._in_order())

    def history(self, kind: str, instance_id: str) -> list[Record]:
        """Return all records of an instance, oldest first; empty if there is none."""
        # What is not UTF-8 on the command line names no instance.
        known = instance_id.encode(errors="replace").decode()
        rows = self._database.execute(HISTORY, (kind, known, 0, -1)).fetchall()
        return [parse(stored_row(row), self._machines) for row in rows]

    def row_at(self, position: int) -> StoredRow | None:
        """Return the record at ``position`` as stored, unchecked; None if there is none."""
        row = self._database.execute(_ROW_AT, (position,)).fetchone()
        return stored_row(row) if row else None

    def receipt_at(self, position: int) -> Receipt | None:
        """Return the receipt of the record at ``position``, unchecked; EMPTY at 0, None if there is no record.

        Raises:
            FileDamaged: the record can't be read.
        """
        if position == EMPTY.position:
            return EMPTY
        with _damage_in_words():
            row = self._database.execute(_RECEIPT_AT, (position,)).fetchone()
        return Receipt(*row) if row else None

    def verify(self) -> Iterator[int]:
        """Check the whole log in one pass. Yield the position reached after every thousand records and at the end.

        Raises:
            LedgerFault: the first fault: in the chain, a record, or between the log and the projection or the data beside it.
        """
        verifier = Verifier(self._machines, self._begun)
        data = DataCheck(self._database.conn)
        try:
            with _damage_in_words():
                for fields in self._in_order():
                    machine, instance = verifier.feed_fields(fields)
                    if instance.state in machine.final:
                        self._check_instance(machine, instance, verifier.position, data)
                    if verifier.position % _PAGE == 0:
                        yield verifier.position
        except TypeError:
            # The server's tables are STRICT, so something else has replaced them.
            raise LedgerFault(verifier.position + 1, "a column holds a value of another type") from None
        except FileDamaged as damaged:
            raise LedgerFault(verifier.position + 1, str(damaged)) from None
        self._check_beside(verifier, data)
        yield verifier.position

    def _in_order(self) -> Iterator[tuple[Any, ...]]:
        reached = 0
        try:
            for fields in self._database.execute(_ALL):
                reached = fields[0]
                yield fields
        except Error as error:
            if _damage(error) is None:
                raise
            # The driver reads one row ahead. If that fails, it has not yet returned the row before, which may be intact.
            while row := self._database.execute(_NEXT, (reached,)).fetchone():
                reached = row[0]
                yield row
            raise

    def _begun(self, kind: str, instance_id: str, before: int) -> bool:
        return self._database.execute(_BEGUN, (kind, instance_id, before)).fetchone() is not None

    def _check_beside(self, verifier: Verifier, data: DataCheck) -> None:
        """Compare the projection and the data beside the log with what ``verifier`` has read of the log.

        Raises:
            LedgerFault: the projection or the data differs from the log.
        """
        for (kind, _), instance in verifier.live.items():
            self._check_instance(self._machines.of(verifier.position, kind), instance, verifier.position, data)
        try:
            with _damage_in_words():
                projected = self._database.execute("SELECT count(*) FROM instances").fetchone()[0]
        except FileDamaged as damaged:
            raise LedgerFault(verifier.position, f"the projection can't be read: {damaged}") from None
        if projected != verifier.instance_count:
            raise LedgerFault(
                verifier.position, f"the projection has {projected} instances, the log {verifier.instance_count}"
            )
        try:
            with _damage_in_words():
                surplus = data.surplus()
        except FileDamaged as damaged:
            raise LedgerFault(verifier.position, f"the data of executions can't be read: {damaged}") from None
        if surplus is not None:
            raise LedgerFault(verifier.position, surplus)
        accounts = {instance_id: each for (kind, instance_id), each in verifier.live.items() if kind == "account"}
        try:
            with _damage_in_words():
                fault = fault_of_personal_data(self._database.execute(_PERSONAL), accounts)
        except FileDamaged as damaged:
            raise LedgerFault(verifier.position, f"the personal data can't be read: {damaged}") from None
        if fault is not None:
            raise LedgerFault(verifier.position, fault)

    def _check_instance(self, machine: Machine[Any], instance: Any, position: int, data: DataCheck) -> None:
        """Compare the projection of ``instance``, which has no later record, and the data of an execution, with its records."""
        self._check_projection(machine, instance, position)
        if not isinstance(instance, Execution):
            return
        try:
            with _damage_in_words():
                fault = data.fault_of(instance)
        except FileDamaged as damaged:
            fault = f"the data of execution {instance.execution_id} can't be read: {damaged}"
        if fault is not None:
            raise LedgerFault(position, fault)

    def _check_projection(self, machine: Machine[InstanceT], instance: InstanceT, position: int) -> None:
        kind, instance_id = machine.kind, id_of(instance)
        try:
            with _damage_in_words():
                row = self._database.execute(INSTANCE, (kind, instance_id)).fetchone()
        except FileDamaged as damaged:
            fault = f"the projection of {kind} {instance_id} can't be read: {damaged}"
            raise LedgerFault(position, fault) from None
        if row is None:
            raise LedgerFault(position, f"{kind} {instance_id} is missing from the projection")
        try:
            projected: InstanceT | None = instance_from(machine, row)
        except SurfaceFailed:
            projected = None
        if projected != instance:
            raise LedgerFault(position, f"the projection of {kind} {instance_id} differs from its log")


@contextmanager
def open_archive(path: Path, machines: Machines = MACHINES) -> Iterator[Archive]:
    """Open the log of ``machines`` at ``path``, which is the database file or the data folder.

    Raises:
        SurfaceFailed: there is no log, or it can't be read.
    """
    file = _file(path)
    database = _open(file)
    try:
        # One snapshot for all reads, even while a server is writing.
        database.execute("BEGIN")
        refuse_foreign(database)
        yield Archive(file, database, machines)
    except (Error, FileDamaged) as error:
        raise SurfaceFailed(f"{path} can't be read: {error}") from error
    finally:
        database.conn.close()


@contextmanager
def integrity_check(path: Path) -> Iterator[Future[list[str]]]:
    """Run SQLite's own check of the file at ``path``: pages, indexes, constraints. The future returns the list of faults.

    The check runs in its own thread and with its own connection, in parallel with the caller's reads. It is interrupted if the
    context ends first.

    Raises:
        SurfaceFailed: there is no readable database at ``path``.
    """
    database = _open(_file(path))
    # Names in a damaged schema may not be valid UTF-8.
    database.conn.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="interlock-integrity") as executor:
            checking = executor.submit(_integrity, database)
            try:
                yield checking
            finally:
                if not checking.done():
                    database.conn.interrupt()
    finally:
        database.conn.close()


def _integrity(database: sqlite_utils.Database) -> list[str]:
    try:
        with _damage_in_words():
            found = [str(line) for (line,) in database.execute("PRAGMA integrity_check")]
    except FileDamaged as damaged:
        return [str(damaged)]
    return [] if found == ["ok"] else found


def _file(path: Path) -> Path:
    return path / LOG_NAME if path.is_dir() else path


def _open(file: Path) -> sqlite_utils.Database:
    try:
        return open_reader(file)
    except UnicodeDecodeError:
        # SQLite quotes the unreadable bytes in its message, and the driver decodes messages as UTF-8.
        raise SurfaceFailed(f"{file} can't be read: malformed database schema") from None


def _damage(error: Error) -> str | None:
    """Return what ``error`` says about damage to the file, or None if it is another kind of error."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == _CORRUPT:
        return f"the database file is damaged there ({error})"
    if str(error).startswith(_UNDECODED):
        return "a column holds a text that is not valid UTF-8"
    return None


@contextmanager
def _damage_in_words() -> Iterator[None]:
    """Convert database errors that mean a damaged file to FileDamaged; let all others pass.

    Raises:
        FileDamaged: the file is not what was written.
    """
    try:
        yield
    except Error as error:
        words = _damage(error)
        if words is None:
            raise
        raise FileDamaged(words) from None
