"""SQLite itself: which library, which version, how a connection is set up.

``pysqlite3`` bundles its own SQLite. The one inside many Pythons is older than 3.51.3 and has the WAL-reset bug, which can
corrupt a database that a reader and a writer share.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

import pysqlite3 as sqlite
import sqlite_utils

from interlock.machine.errors import SurfaceFailed

MINIMUM_VERSION: Final = (3, 51, 3)

BUSY_TIMEOUT_MS: Final = 5000
"""How long a write waits for another program's lock."""

Connection = sqlite.Connection
Error = sqlite.Error
IntegrityError = sqlite.IntegrityError


def is_busy(error: Exception) -> bool:
    """``error`` says only that another connection holds a lock. The low byte of SQLite's extended codes is the kind."""
    return bool(getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite.SQLITE_BUSY)


def library_version() -> str:
    """The version of SQLite that is in use."""
    return ".".join(map(str, sqlite.sqlite_version_info))


def check_version(version: tuple[int, ...] = sqlite.sqlite_version_info) -> None:
    """Refuse an SQLite that may corrupt the log.

    Raises:
        SurfaceFailed: ``version`` is older than 3.51.3.
    """
    if version < MINIMUM_VERSION:
        have, need = (".".join(map(str, v)) for v in (version, MINIMUM_VERSION))
        raise SurfaceFailed(
            f"SQLite {have} has the WAL-reset bug, which can corrupt the log; Interlock needs {need} or newer"
            " (pip install --upgrade pysqlite3)"
        )


def open_writer(path: Path) -> sqlite_utils.Database:
    """The one connection that writes. WAL, and every commit is synced (``synchronous=FULL``) before it returns.

    ``recursive_triggers`` lets the append-only triggers see the deletes inside ``INSERT OR REPLACE``.
    """
    check_version()
    connection = sqlite.connect(str(path), isolation_level=None, check_same_thread=False, cached_statements=256)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "recursive_triggers=ON",
        "foreign_keys=ON",
        "cache_size=-65536",
        "wal_autocheckpoint=4000",
        # After a reader kept the write-ahead log from being reset, it shrinks again.
        "journal_size_limit=67108864",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        # What is deleted is overwritten: personal data that was erased is not left in free pages.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return sqlite_utils.Database(connection, recursive_triggers=True)


def finish_rollback(path: Path) -> None:
    """Let SQLite undo what a process left half-done that died before the file was in WAL mode: only a writer can.

    Without such a leftover (a ``-journal`` beside the file) nothing is opened.
    """
    if path.with_name(f"{path.name}-journal").exists():
        with closing(sqlite.connect(str(path), isolation_level=None)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def open_reader(path: Path) -> sqlite_utils.Database:
    """A connection that can't write.

    Raises:
        SurfaceFailed: there is no readable SQLite database at ``path``.
    """
    check_version()
    if not path.is_file():
        raise SurfaceFailed(f"no log at {path}")
    # Quoted: of a folder named a#1 or a%20b another file would be read, or made, than is written.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        connection = sqlite.connect(uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA cache_size=-32768")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except Error as error:
        raise SurfaceFailed(f"{path} can't be read: {error}") from error
    return sqlite_utils.Database(connection)
