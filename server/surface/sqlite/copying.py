"""A consistent copy of the log's database, made while a server writes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import sqlite_utils

from interlock.machine.errors import SurfaceFailed
from interlock.server.surface.sqlite.engine import Error, open_reader
from interlock.server.surface.sqlite.files import LOG_NAME
from interlock.server.surface.sqlite.schema import refuse_foreign
from interlock.server.system.permissions import create_private, sync_folder

_LOOK_S: Final = 0.1


def copy_log(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the log in folder ``source`` to the new file ``interlock.db`` of mode 0600 in folder ``target``, and sync it.

    The copy holds what had been committed when it began. ``progress`` is called with the bytes written so far and the size of
    the copy. ``VACUUM INTO`` reads one snapshot; SQLite's backup API would begin again at each commit of the server.

    Raises:
        SurfaceFailed: the log can't be read, or the copy can't be written.
        OSError: there is not enough space, or the file exists.
    """
    database = open_reader(source / LOG_NAME)
    copy = target / LOG_NAME
    with closing(database.conn) as connection, ThreadPoolExecutor(1, thread_name_prefix="interlock-copy") as executor:
        try:
            refuse_foreign(database)
            size = copy_bytes(database)
            free = os.statvfs(target)
            if size > free.f_bavail * free.f_frsize:
                raise SurfaceFailed(
                    f"{target.parent} has {free.f_bavail * free.f_frsize >> 20} MiB free, and the copy needs {size >> 20}"
                )
            create_private(copy, b"")
            # What is forbidden is any write, also to a file of its own. The connection itself is read-only all the same.
            connection.execute("PRAGMA query_only=OFF")
            copying = executor.submit(connection.execute, "VACUUM INTO ?", (str(copy),))
            try:
                while not _done(copying):
                    progress(copy.stat().st_size, size)
                copying.result()
            finally:
                connection.interrupt()
        except Error as error:
            raise SurfaceFailed(f"{source / LOG_NAME} can't be copied: {error}") from error
    with copy.open("rb+") as file:
        os.fsync(file.fileno())
    sync_folder(target)
    progress(size, size)


def copy_bytes(database: sqlite_utils.Database) -> int:
    """Return about how many bytes a copy of ``database`` has."""
    pages, unused, page_bytes = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - unused) * page_bytes


def _done(copying: Future[Any]) -> bool:
    try:
        copying.exception(timeout=_LOOK_S)
    except TimeoutError:
        return False
    return True
