"""Reads of a log while a server writes it, for commands that show it: lists, counts, and new records as they come.

Each read is a short transaction of its own. During a long one, the server could not truncate its write-ahead log, and erased
data would stay in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import sqlite_utils

from interlock.machine.account.account import Account
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import Record, parse
from interlock.machine.machine import InstanceT, Machine, Machines
from interlock.machine.machines import MACHINES
from interlock.server.surface.accounts import checked_emails
from interlock.server.surface.devices import SessionDevice
from interlock.server.surface.directory import Cursor, InstanceFilter
from interlock.server.surface.sqlite.directory import read_page
from interlock.server.surface.sqlite.engine import Error, open_reader
from interlock.server.surface.sqlite.file_identity import identity
from interlock.server.surface.sqlite.files import LOG_NAME
from interlock.server.surface.sqlite.rows import TRANSITION_COLUMNS, reading, stored_row
from interlock.server.surface.sqlite.schema import refuse_foreign
from interlock.server.surface.sqlite.stores.accounts import read_by_email, read_personal_data
from interlock.server.surface.sqlite.stores.devices import read_devices

_AFTER: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608  # column names of ours
_COUNTS: Final = (
    "SELECT kind, state, count(*) FROM instances INDEXED BY instances_of_state_created GROUP BY kind, state"
)
_SOCKETS: Final = """
    SELECT coalesce(sum(json_array_length(fold, '$.connections')), 0) FROM instances INDEXED BY instances_busy
    WHERE kind = 'session' AND busy = 1
"""


class Observer:
    """One log, read again and again. Every method raises SurfaceFailed if the log can't be read or is another file now."""

    def __init__(self, file: Path, database: sqlite_utils.Database, machines: Machines) -> None:
        self._file = file
        self._identity = identity(file)
        self._connection = database.conn
        self._machines = machines

    def end(self) -> int:
        """Return the position of the last record; 0 if there is none."""
        with self._errors():
            return int(self._connection.execute("SELECT coalesce(max(position), 0) FROM transitions").fetchone()[0])

    def after(self, position: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records that follow ``position``, in order."""
        with self._errors():
            rows = self._connection.execute(_AFTER, (position, limit)).fetchall()
        return [parse(stored_row(row), self._machines) for row in rows]

    def page(
        self, machine: Machine[InstanceT], wanted: InstanceFilter, before: Cursor | None, limit: int
    ) -> list[InstanceT]:
        """Return at most ``limit`` instances of ``machine``, newest first, that come after ``before`` in that order."""
        with self._errors():
            return read_page(self._connection, machine, wanted, before, limit)

    def emails(self, accounts: Sequence[Account]) -> dict[str, str]:
        """Return the email addresses of those ``accounts`` that have one, by account id."""
        with self._errors():
            return checked_emails(accounts, read_personal_data(self._connection, [a.account_id for a in accounts]))

    def devices(self, session_ids: Sequence[str]) -> dict[str, SessionDevice]:
        """Return what is stored of the devices of these sessions, by session id."""
        with self._errors():
            return read_devices(self._connection, session_ids)

    def account_of(self, email: str) -> Account | None:
        """Return the account with this normalised email address, or None."""
        columns, read = reading(ACCOUNT_MACHINE)
        with self._errors():
            found = read_by_email(self._connection, email)
            if found is None:
                return None
            query = f"SELECT {columns} FROM instances WHERE kind = 'account' AND instance_id = ?"  # noqa: S608  # column names of ours
            row = self._connection.execute(query, (found.account_id,)).fetchone()
            return read(ACCOUNT_MACHINE, row) if row else None

    def counts(self) -> tuple[int, dict[tuple[str, str], int]]:
        """Return how many instances there are by kind and state, and the position of the last record then.

        This reads a whole index.
        """
        with self._errors():
            self._connection.execute("BEGIN")
            try:
                return self.end(), {(kind, state): count for kind, state, count in self._connection.execute(_COUNTS)}
            finally:
                self._connection.execute("COMMIT")

    def sockets(self) -> int:
        """Return how many open WebSockets the log knows of."""
        with self._errors():
            return int(self._connection.execute(_SOCKETS).fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            if identity(self._file) != self._identity:
                raise SurfaceFailed(f"{self._file} is another file now")
            yield
        except (Error, OSError) as error:
            raise SurfaceFailed(f"{self._file} can't be read: {error}") from error


@contextmanager
def open_observer(path: Path, machines: Machines = MACHINES) -> Iterator[Observer]:
    """Open the log of ``machines`` at ``path``, which is the database file or the data folder.

    Raises:
        SurfaceFailed: there is no log, or it can't be read.
    """
    file = path / LOG_NAME if path.is_dir() else path
    database = open_reader(file)
    with closing(database.conn):
        try:
            refuse_foreign(database)
        except Error as error:
            raise SurfaceFailed(f"{file} can't be read: {error}") from error
        yield Observer(file, database, machines)
