"""A start on something else than its database: it is refused and left unchanged."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pysqlite3
import pytest

from interlock.machine.errors import SurfaceFailed
from interlock.machine.machines import MACHINES
from interlock.server.surface.sqlite.engine import open_writer
from interlock.server.surface.sqlite.schema import migrate
from tests.support.asynchronous import asynchronous
from tests.support.log import open_and_close


@asynchronous
async def test_another_programs_database_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "interlock.db"
    with closing(pysqlite3.connect(str(path))) as other:
        other.execute("CREATE TABLE notes (body TEXT)")
        other.commit()
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(SurfaceFailed):
        await open_and_close(tmp_path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (before, 0o644)


@asynchronous
async def test_another_programs_database_with_the_same_migrations_is_refused(tmp_path: Path) -> None:
    with closing(pysqlite3.connect(str(tmp_path / "interlock.db"))) as other:
        other.execute("CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT)")
        other.execute("CREATE TABLE accounts (name TEXT)")
        other.commit()
    with pytest.raises(SurfaceFailed):
        await open_and_close(tmp_path)


@asynchronous
async def test_a_first_start_killed_anywhere_leaves_a_usable_folder(tmp_path: Path) -> None:
    database = open_writer(tmp_path / "interlock.db")
    left: dict[tuple[bytes, bytes], Path] = {}

    def look(_statement: str) -> None:
        files = [tmp_path / name for name in ("interlock.db", "interlock.db-wal")]
        contents = (files[0].read_bytes(), files[1].read_bytes() if files[1].exists() else b"")
        if contents not in left:
            left[contents] = folder = tmp_path / f"{len(left)}"
            folder.mkdir(mode=0o700)
            for file, content in zip(files, contents, strict=True):
                (folder / file.name).write_bytes(content)

    database.conn.set_trace_callback(look)
    migrate(database, MACHINES)
    look("")
    database.conn.close()
    assert len(left) > 1
    for folder in left.values():
        await open_and_close(folder)


@asynchronous
async def test_a_database_with_tables_of_the_same_names_is_refused(tmp_path: Path) -> None:
    with closing(pysqlite3.connect(str(tmp_path / "interlock.db"))) as other:
        other.execute("CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT)")
        other.execute("CREATE TABLE transitions (body TEXT)")
        other.commit()
    with pytest.raises(SurfaceFailed, match="can't be read"):
        await open_and_close(tmp_path)


@asynchronous
async def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "interlock.db").write_bytes(os.urandom(8192))
    with pytest.raises(SurfaceFailed):
        await open_and_close(tmp_path)


@asynchronous
async def test_a_folder_in_place_of_the_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "interlock.db").mkdir()
    with pytest.raises(SurfaceFailed, match=r"interlock\.db"):
        await open_and_close(tmp_path)
