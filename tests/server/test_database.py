"""The database file itself: it refuses rows typed in by hand, and keeps what an older version wrote."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pysqlite3
import pytest

from interlock.machine.errors import LedgerFault, SurfaceFailed, SurfaceLocked
from interlock.machine.session.commands import Connect
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.surface.sqlite.rows import TRANSITION_COLUMNS
from interlock.server.system.supervision import Supervisor
from interlock.spec.export import LIFECYCLES, sql_rows
from tests.support.asynchronous import asynchronous
from tests.support.log import open_and_close
from tests.support.steps import Story

CONNECTED, CREATED = "a-connected-session", "a-created-session"

# Three records of CONNECTED (create, authenticate, connect), then one of CREATED.
NEXT = {
    "position": 5,
    "kind": "session",
    "instance_id": CONNECTED,
    "version": 4,
    "event": "touch",
    "source": "connected",
    "target": "connected",
    "at_ms": 1_800_000_000_000,
    "actor": "ada",
    "command_id": "typed-by-hand",
    "data": "{}",
    "digest": bytes(32),
}
"""A row that would be legal next, except for its digest."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    async def make() -> None:
        async with open_surface(tmp_path, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            connected = Story(CONNECTED)
            await surface.log.append(
                [*connected.begin("ada"), *connected.tell(Connect("con-1", "node-1"), command_id="known")]
            )
            await surface.log.append(Story(CREATED).begin())

    asyncio.run(make())
    return tmp_path / "interlock.db"


@pytest.fixture
def shell(path: Path) -> Iterator[Any]:
    """Open the file as in a shell, without the server's pragmas."""
    with closing(pysqlite3.connect(str(path), isolation_level=None)) as connection:
        yield connection


def dump(path: Path) -> dict[str, Any]:
    """Return everything in the file: its schema, and every row."""
    with closing(pysqlite3.connect(str(path))) as connection:
        declared = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        rows = {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()  # noqa: S608  # names of our tables
            for kind, name, _ in declared
            if kind == "table"
        }
    return {"declared": declared, **rows}


def verify(path: Path) -> None:
    with open_archive(path) as archive:
        assert list(archive.verify())


INSERT = f"INSERT INTO transitions ({TRANSITION_COLUMNS}) VALUES ({', '.join('?' * 12)})"  # noqa: S608  # column names of ours
REPLACE = INSERT.replace("INSERT", "INSERT OR REPLACE", 1)
UPSERT = f"{INSERT} ON CONFLICT DO UPDATE SET data = 'x'"

ILLEGAL_ROWS = {
    "an unknown event": {"event": "resurrect"},
    "an undeclared target": {"target": "created"},
    "declared, but not from where the session is": {
        "event": "authenticate",
        "source": "created",
        "target": "connected",
    },
    "declared from a state the session has left": {"source": "authenticated", "target": "authenticated"},
    "a gap in the versions": {"version": 5},
    "a version that is taken": {"version": 3},
    "a second beginning": {"event": "create", "source": None, "target": "created", "version": 1},
    "a session that begins in the middle": {"instance_id": "new", "version": 4},
    "a session that begins with another event": {"instance_id": "new", "version": 1},
    "another kind": {"kind": "account"},
    "a gap in the positions": {"position": 6},
    "a position that is taken": {"position": 4},
    "no position": {"position": None},
    "a position before the first": {"position": 0},
    "a command that is recorded": {"command_id": "known"},
    "a digest that is none": {"digest": b"short"},
    "a digest of the wrong type": {"digest": "0" * 32},
    "a time of the wrong type": {"at_ms": "now"},
    "no actor": {"actor": None},
}


@pytest.mark.asvs("2.3.1")
@pytest.mark.checks("declared_only", "expired_absorbs", "command_once", "versions_gapless")
@pytest.mark.parametrize("statement", [INSERT, REPLACE, UPSERT], ids=["insert", "replace", "upsert"])
@pytest.mark.parametrize("change", ILLEGAL_ROWS.values(), ids=ILLEGAL_ROWS)
def test_an_illegal_row_is_refused(path: Path, shell: Any, change: dict[str, Any], statement: str) -> None:
    before = dump(path)
    with pytest.raises(pysqlite3.IntegrityError):
        shell.execute(statement, list({**NEXT, **change}.values()))
    assert dump(path) == before
    verify(path)


SESSION_VALUES = "'connected', 1, 1, 1, 0, 'ada', 1, 1, NULL, 0, '{}'"

STATEMENTS = {
    "a record changed": "UPDATE transitions SET data = '{}' WHERE position = 1",
    "a digest changed": "UPDATE transitions SET digest = zeroblob(32)",
    "a record changed and moved over another": "UPDATE OR REPLACE transitions SET position = 2 WHERE position = 1",
    "the last record removed": "DELETE FROM transitions WHERE position = 4",
    "all records removed": "DELETE FROM transitions",
    "a record copied over itself": "REPLACE INTO transitions SELECT * FROM transitions WHERE position = 4",
    "a projection ahead of the log": "UPDATE instances SET version = version + 1",
    "a projection behind the log": "UPDATE instances SET version = 2 WHERE instance_id = 'a-connected-session'",
    "a projection edited in place": "UPDATE instances SET owner = 'mallory'",
    "a projection given another name": "UPDATE instances SET instance_id = 'x', version = version + 1",
    "a projection brought to life": "UPDATE instances SET ended = 0, deadline_ms = 9999999999999",
    "a projection without a log": "INSERT INTO instances VALUES ('session', 'new', " + SESSION_VALUES + ")",  # noqa: S608  # literals of ours
    "a projection put over another": "REPLACE INTO instances SELECT * FROM instances",
    "a projection removed": "DELETE FROM instances",
    "a transition made legal": "INSERT INTO lifecycle VALUES ('session', 'revive', 'expired', 'authenticated', '')",
    "a transition put over another": "REPLACE INTO lifecycle SELECT * FROM lifecycle",
    "a transition made illegal": "DELETE FROM lifecycle WHERE event = 'revoke'",
    "a transition led elsewhere": "UPDATE OR REPLACE lifecycle SET target = 'expired'",
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_an_edit_is_refused(path: Path, shell: Any, statement: str) -> None:
    before = dump(path)
    with pytest.raises(pysqlite3.IntegrityError):
        shell.execute(statement)
    assert dump(path) == before
    verify(path)


LOGIN = {
    **NEXT,
    "instance_id": CREATED,
    "version": 2,
    "event": "authenticate",
    "source": "created",
    "target": "authenticated",
    "data": '{"subject":"ada","method":"password"}',
}
FOLLOWS = {
    "version": 2,
    "state": "authenticated",
    "updated_at_ms": LOGIN["at_ms"],
    "owner": "ada",
    "epoch": 1,
    "fold": '{"epoch":1}',
}
"""The result of LOGIN for its session, as far as the database compares it."""


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "mallory"},
        {"epoch": 2},
        {"fold": '{"epoch":2}'},
        {"epoch": 2, "fold": '{"epoch":2}'},
        {"fold": '{"epoch":1,"rotation":1}'},
        {"updated_at_ms": 1},
        {"created_at_ms": 1},
        {"reason": "x"},
        {"ended": 1},
        {"state": "connected"},
    ],
    ids=str,
)
def test_a_projection_that_contradicts_its_record_is_refused(shell: Any, change: dict[str, Any]) -> None:
    shell.execute(INSERT, list(LOGIN.values()))
    with pytest.raises(pysqlite3.IntegrityError, match=r"^instances: "):
        _project(shell, CREATED, {**FOLLOWS, **change})
    _project(shell, CREATED, FOLLOWS)


def test_an_end_without_its_reason_is_refused(shell: Any) -> None:
    """Queries recognise ended sessions by the reason."""
    end = {**NEXT, "event": "revoke", "target": "expired", "data": '{"reason":"revoked"}'}
    shell.execute(INSERT, list(end.values()))
    ended = {"version": 4, "state": "expired", "updated_at_ms": end["at_ms"], "ended": 1, "reason": "revoked"}
    for missing in ({"reason": None}, {"reason": "logout"}, {"ended": 0}):
        with pytest.raises(pysqlite3.IntegrityError, match="the projection only follows the log"):
            _project(shell, CONNECTED, {**ended, **missing})
    _project(shell, CONNECTED, ended)


def _project(shell: Any, session_id: str, values: dict[str, Any]) -> None:
    update = f"UPDATE instances SET {', '.join(f'{name} = ?' for name in values)} WHERE instance_id = ?"  # noqa: S608  # column names of ours
    shell.execute(update, [*values.values(), session_id])


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "mallory"},
        {"epoch": 1},
        {"fold": '{"epoch":1}'},
        {"fold": '{"rotation":1}'},
        {"updated_at_ms": 1},
        {"created_at_ms": 1},
        {"reason": "x"},
        {"ended": 1},
    ],
    ids=str,
)
def test_a_new_projection_must_match_its_first_record(shell: Any, change: dict[str, Any]) -> None:
    first = {**NEXT, "instance_id": "new", "version": 1, "event": "create", "source": None, "target": "created"}
    shell.execute(INSERT, list(first.values()))
    shell.execute("CREATE TEMP TABLE made AS SELECT * FROM instances WHERE instance_id = ?", (CREATED,))
    shell.execute("UPDATE made SET instance_id = 'new', (created_at_ms, updated_at_ms) = (?1, ?1)", (NEXT["at_ms"],))
    shell.execute("CREATE TEMP TABLE other AS SELECT * FROM made")
    for name, value in change.items():
        shell.execute(f"UPDATE other SET {name} = ?", (value,))  # noqa: S608  # column names of ours
    with pytest.raises(pysqlite3.IntegrityError, match="a projection begins with its first record"):
        shell.execute("INSERT INTO instances SELECT * FROM other")
    shell.execute("INSERT INTO instances SELECT * FROM made")


def test_a_row_with_a_wrong_digest_is_found_by_verify(path: Path, shell: Any) -> None:
    """SQL has no SHA-256: the file accepts what the declaration allows, and the chain shows who wrote it."""
    shell.execute(INSERT, list(NEXT.values()))
    with pytest.raises(LedgerFault, match="record 5: digest"):
        verify(path)


@asynchronous
async def test_an_older_declaration_in_the_file_is_updated_at_open(path: Path) -> None:
    with closing(pysqlite3.connect(str(path), isolation_level=None)) as shell:
        before = dump(path)
        for name in ("transitions_legal", "lifecycle_no_update", "lifecycle_no_delete", "lifecycle_no_insert"):
            shell.execute(f"DROP TRIGGER {name}")
        shell.execute("DELETE FROM lifecycle WHERE event = 'revoke'")
        shell.execute("INSERT INTO lifecycle VALUES ('session', 'revive', 'expired', 'authenticated', '')")
        shell.execute("CREATE TRIGGER lifecycle_no_update BEFORE UPDATE ON lifecycle BEGIN SELECT 1; END")
    async with open_surface(path.parent, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()):
        pass
    assert dump(path) == before
    with closing(pysqlite3.connect(str(path))) as shell:
        declared = [row for lifecycle in LIFECYCLES for row in sql_rows(lifecycle)]
        assert sorted(shell.execute("SELECT * FROM lifecycle").fetchall()) == sorted(declared)


@asynchronous
async def test_a_current_file_is_not_written_at_open(path: Path) -> None:
    before = content(path)
    async with open_surface(path.parent, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()):
        pass
    assert content(path) == before


@pytest.mark.checks("durability")
@asynchronous
async def test_a_start_rewrites_what_it_found_in_the_write_ahead_log(path: Path, tmp_path: Path) -> None:
    """After a failed fsync, the log may be readable only from the kernel's memory; what counts is on disk."""
    async with open_surface(path.parent, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        # The first commit restarts the write-ahead log, and the second one is in it.
        for _ in range(2):
            await surface.log.append(Story().begin())
        killed = tmp_path / "killed"
        killed.mkdir()
        for name in ("interlock.db", "interlock.db-wal"):
            shutil.copy(path.with_name(name), killed)
    assert record_count_without_wal(killed, tmp_path / "before") == 5
    async with open_surface(killed, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()):
        assert record_count_without_wal(killed, tmp_path / "after") == 6


@asynchronous
async def test_a_crashed_first_start_does_not_prevent_the_next(tmp_path: Path) -> None:
    """It leaves a rollback journal, because the file was not in WAL mode yet."""
    died = tmp_path / "died"
    died.mkdir()
    with closing(pysqlite3.connect(str(tmp_path / "interlock.db"), isolation_level=None)) as first:
        first.execute("PRAGMA cache_size=1")
        first.execute("BEGIN")
        first.execute("CREATE TABLE half_way (text TEXT)")
        first.executemany("INSERT INTO half_way VALUES (?)", [("x" * 4000,)] * 100)  # more than the cache takes
        for name in ("interlock.db", "interlock.db-journal"):
            shutil.copy(tmp_path / name, died)
    async with open_surface(died, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
        await surface.log.append(Story().begin())
        newest = await surface.log.newest()
        assert newest is not None
        assert newest.position == 1


def record_count_without_wal(folder: Path, copy: Path) -> int:
    copy.mkdir()
    shutil.copy(folder / "interlock.db", copy)
    with closing(pysqlite3.connect(str(copy / "interlock.db"))) as database:
        return int(database.execute("SELECT count(*) FROM transitions").fetchone()[0])


def content(path: Path) -> bytes:
    return path.read_bytes()


@asynchronous
async def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    with closing(pysqlite3.connect(str(path), isolation_level=None)) as shell:
        shell.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('interlock', 'm099_later', 'then')"
        )
    with pytest.raises(SurfaceFailed, match="m099_later"):
        await open_and_close(path.parent)


@asynchronous
async def test_a_second_server_on_a_log_is_told_who_holds_it(path: Path) -> None:
    async with open_surface(path.parent, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()):
        with pytest.raises(SurfaceLocked, match=rf"process {os.getpid()}\b.*interlock\.db"):
            await open_and_close(path.parent)
    await open_and_close(path.parent)


@asynchronous
async def test_a_development_versions_log_is_refused_unchanged(tmp_path: Path) -> None:
    """It predates kinds in records. Nothing was released, so nothing reads it."""
    path = tmp_path / "interlock.db"
    with closing(pysqlite3.connect(path)) as older:
        older.execute("CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT)")
        older.execute("CREATE TABLE transitions (position INTEGER PRIMARY KEY, session_id TEXT)")
        older.execute("CREATE TABLE sessions (session_id TEXT PRIMARY KEY)")
        older.commit()
    before = content(path)
    with pytest.raises(SurfaceFailed, match=r"development version.* --data"):
        await open_and_close(tmp_path)
    with pytest.raises(SurfaceFailed, match=r"development version.* --data"):
        verify(path)
    assert content(path) == before
