"""SQLite itself: the library, its minimum version, and the setup of connections.

``pysqlite3`` bundles its own SQLite. Many Python builds contain one older than 3.51.3. It has the WAL-reset bug, which can
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
    """Return whether ``error`` means that another connection holds a lock. The low byte of extended codes is the kind."""
    return bool(getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite.SQLITE_BUSY)


def library_version() -> str:
    """Return the version of SQLite in use."""
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
    """Return the only connection that writes. It uses WAL and syncs every commit (``synchronous=FULL``) before it returns.

    With ``recursive_triggers`` the append-only triggers see the deletes inside ``INSERT OR REPLACE``.
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
        # Shrink the write-ahead log again after a long reader has let it grow.
        "journal_size_limit=67108864",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        # Overwrite deleted content, so that erased personal data does not stay in free pages.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return sqlite_utils.Database(connection, recursive_triggers=True)


def finish_rollback(path: Path) -> None:
    """Let SQLite roll back what a process left that died before the file was in WAL mode. Only a writer can do this.

    Nothing is opened if there is no rollback journal (a ``-journal`` file beside ``path``).
    """
    if path.with_name(f"{path.name}-journal").exists():
        with closing(sqlite.connect(str(path), isolation_level=None)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def open_reader(path: Path) -> sqlite_utils.Database:
    """Return a read-only connection.

    Raises:
        SurfaceFailed: there is no readable SQLite database at ``path``.
    """
    check_version()
    if not path.is_file():
        raise SurfaceFailed(f"no log at {path}")
    # as_uri() quotes the path. Unquoted, a folder named a#1 or a%20b would open another file than the writer's.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        connection = sqlite.connect(uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA cache_size=-32768")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except Error as error:
        raise SurfaceFailed(f"{path} can't be read: {error}") from error
    return sqlite_utils.Database(connection)
