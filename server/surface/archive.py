"""Reading a log as it lies on disk, for the command line: no server needed, and none disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Final

import sqlite_utils

from machine.errors import LedgerFault, SurfaceFailed
from machine.ledger import Receipt, Record, StoredRow, parse
from machine.session import FINAL_STATES, Session
from machine.verifier import Verifier
from server.surface.engine import Error, open_reader
from server.surface.files import LOG_NAME
from server.surface.rows import TRANSITION_COLUMNS, session_from, stored_row
from server.surface.sqlite import HISTORY, SESSION

_PAGE: Final = 1000
_ALL: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions ORDER BY position"  # noqa: S608  # column names of ours
_RECEIPT_AT: Final = "SELECT position, lower(hex(digest)) FROM transitions WHERE position = ?"
_ROW_AT: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE position = ?"  # noqa: S608  # column names of ours


class Archive:
    """One log, opened for reading."""

    def __init__(self, database: sqlite_utils.Database) -> None:
        self._database = database

    def record_count(self) -> int:
        """How many records the log holds, as its last position says."""
        return int(self._database.execute("SELECT coalesce(max(position), 0) FROM transitions").fetchone()[0])

    def rows(self) -> Iterator[StoredRow]:
        """Every record as stored, in order of position, unchecked."""
        yield from starmap(StoredRow, self._database.execute(_ALL))

    def history(self, session_id: str) -> list[Record]:
        """All records of a session, oldest first; empty when there is no such session."""
        rows = self._database.execute(HISTORY, (session_id, 0, -1)).fetchall()
        return [parse(stored_row(row)) for row in rows]

    def row_at(self, position: int) -> StoredRow | None:
        """The record at ``position`` as stored, unchecked; None when there is none."""
        row = self._database.execute(_ROW_AT, (position,)).fetchone()
        return stored_row(row) if row else None

    def receipt_at(self, position: int) -> Receipt | None:
        """What the log, unchecked, has in the place of a receipt of ``position``; None when there is nothing."""
        row = self._database.execute(_RECEIPT_AT, (position,)).fetchone()
        return Receipt(*row) if row else None

    def verify(self) -> Iterator[int]:
        """Check the whole log in one pass, yielding the position reached every thousand records and at the end.

        Raises:
            LedgerFault: the first fault: in the chain, in a record, or between the log and the projection.
        """
        verifier = Verifier()
        try:
            for fields in self._database.execute(_ALL):
                session = verifier.feed_fields(fields)
                if session.state in FINAL_STATES:
                    self._check_projection(session, verifier.position)
                if verifier.position % _PAGE == 0:
                    yield verifier.position
        except TypeError:
            # The server's tables are STRICT: somebody has put others in their place.
            raise LedgerFault(verifier.position + 1, "a column holds a value of another type") from None
        for session in verifier.live.values():
            self._check_projection(session, verifier.position)
        projected = self._database.execute("SELECT count(*) FROM sessions").fetchone()[0]
        if projected != verifier.session_count:
            raise LedgerFault(
                verifier.position, f"the projection has {projected} sessions, the log {verifier.session_count}"
            )
        yield verifier.position

    def _check_projection(self, session: Session, position: int) -> None:
        row = self._database.execute(SESSION, (session.session_id,)).fetchone()
        if row is None:
            raise LedgerFault(position, f"session {session.session_id} is missing from the projection")
        try:
            projected: Session | None = session_from(row)
        except SurfaceFailed:
            projected = None
        if projected != session:
            raise LedgerFault(position, f"the projection of session {session.session_id} differs from its log")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the log at ``path``: the database file, or the data folder that holds it.

    Raises:
        SurfaceFailed: there is none, or it can't be read.
    """
    database = open_reader(path / LOG_NAME if path.is_dir() else path)
    try:
        # One snapshot for everything that is read, also while a server goes on writing.
        database.execute("BEGIN")
        yield Archive(database)
    except Error as error:
        raise SurfaceFailed(f"{path} can't be read: {error}") from error
    finally:
        database.conn.close()
