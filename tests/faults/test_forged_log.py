"""A log forged by an attacker who can write the file and knows the format but has no key: every column, every place."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import HEAD_LAG
from interlock.machine.machines import MACHINES
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.server.settings import HEAD_NAME
from interlock.server.surface.sqlite.engine import open_writer
from interlock.server.surface.sqlite.files import LOG_NAME, open_surface
from interlock.server.surface.sqlite.log import Append, ChainHead, HeadLag, SqliteLog
from interlock.server.surface.sqlite.schema import migrate
from interlock.server.system.supervision import Supervisor
from tests.faults.test_head import head_of, lagging_head, start
from tests.support.asynchronous import asynchronous
from tests.support.log import BEGUN, open_and_close, record_count
from tests.support.running import eventually
from tests.support.server import ServerProcess, running_server
from tests.support.steps import Story
from tests.support.tampering import rechain, shell
from tests.support.verifying import live, verify


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder that a server left cleanly: one ended session, and three live ones."""
    data = tmp_path_factory.mktemp("forged") / "data"
    with running_server(data) as server:
        asyncio.run(live(server))
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def forge(data: Path, count: int = 1) -> list[str]:
    """Append sessions of an account with a login each, exactly as the server writes them. Return their ids."""
    database = open_writer(data / LOG_NAME)
    migrate(database, MACHINES)
    # Only ``_write`` is used, which touches neither the writer nor the reader.
    log = SqliteLog(MACHINES, cast("Any", None), cast("Any", None), ChainHead(database.conn), HeadLag())
    stories = [Story(f"forged-{number}") for number in range(count)]
    database.execute("BEGIN")
    log._write(database.conn, [Append(story.begin("the-victim"), ()) for story in stories])
    database.execute("COMMIT")
    database.conn.close()
    return [f"forged-{number}" for number in range(count)]


def test_records_after_the_head_of_a_clean_stop_are_a_fault(data: Path) -> None:
    end = record_count(data)
    forge(data)
    with shell(data) as log:
        log.execute("UPDATE personal_data SET password_hash = 'of the forger'")
    added = record_count(data) - end
    said = (
        f"the log ends at record {end + added}; its signed head says the server stopped at {end}: the {added} records"
    )
    for arguments in ((), ("--require-head",)):
        outcome = verify(data, *arguments)
        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert said in outcome.stderr
    refused = start(data)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert head_of(data).position == end, "nothing was signed"


def test_removing_the_head_does_not_get_a_forged_tail_signed(data: Path) -> None:
    end = record_count(data)
    forge(data)
    (data / "interlock.head").unlink()
    refused = start(data)
    assert refused.returncode == 2
    assert f" {record_count(data)} records" in refused.stderr
    assert record_count(data) > end
    assert not (data / "interlock.head").exists(), "nothing was signed"
    assert verify(data, "--require-head").exit_code == 1


def test_nothing_follows_the_head_of_a_log_that_stopped_without_a_session(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        pass
    assert (head_of(server.data).position, head_of(server.data).final) == (BEGUN, True)
    forge(server.data)
    assert f"stopped at {BEGUN}" in start(server.data).stderr
    assert verify(server.data).exit_code == 1


def test_after_a_crash_the_tail_is_limited_by_the_heads_maximum_lag(data: Path) -> None:
    with lagging_head(data, 1):
        pass
    more = HEAD_LAG // 2
    forge(data, more)
    outcome = verify(data)
    assert outcome.exit_code == 1
    said = f"{2 * more + 1} after its signed head, which lags by {HEAD_LAG} records at most"
    assert said in outcome.stderr
    assert said in start(data).stderr


def test_verify_beside_a_running_server_finds_no_fault_in_its_end(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        asyncio.run(live(server))
        for _ in range(3):
            assert verify(server.data).exit_code == 0


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "at work"])
@asynchronous
async def test_a_running_server_stops_at_a_foreign_record(tmp_path: Path, idle: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """Otherwise it would continue from there, and sign it."""
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        async with httpx.AsyncClient(base_url=server.url) as client:
            (await client.post("/api/session")).raise_for_status()
            await eventually(lambda: (server.data / HEAD_NAME).exists() and head_of(server.data).position == BEGUN + 1)
            forge(server.data)
            end = record_count(server.data)
            if not idle:
                assert (await client.post("/api/session")).status_code == 503
            await eventually(lambda: f"the log ends at record {end}" in server.log_path.read_text())
            assert (await client.get("/health/ready")).status_code == 503
    finally:
        server.stop()
    assert head_of(server.data).position == BEGUN + 1, "nothing of it was signed"
    assert record_count(server.data) == end, "nothing followed it"


COLUMNS: dict[str, tuple[object, object]] = {
    "kind": ("account", "parcel"),
    "instance_id": ("another", "a-third"),
    "version": (77, 78),
    "event": ("touch", "refresh"),
    "source": ("connected", "created"),
    "target": ("connected", "created"),
    "at_ms": (1, 2_000_000_000_000),
    "actor": ("mallory", "server"),
    "command_id": ("cmd_of_mallory", "cmd_of_eve"),
    "data": ("{}", '{"subject":"mallory","method":"password"}'),
}
"""Values that no record of the log has in the column."""


@pytest.mark.parametrize("chained", [False, True], ids=["", "rechained"])
@pytest.mark.parametrize("place", ["beginning", "middle", "tail"])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_record_changed_in_any_column_is_found(data: Path, column: str, place: str, chained: bool) -> None:  # noqa: FBT001  # a parameter of the test
    end = record_count(data)
    position = {"beginning": 1, "middle": end // 2, "tail": end}[place]
    with shell(data) as log:
        value, other = COLUMNS[column]
        (before,) = log.execute(f"SELECT {column} FROM transitions WHERE position = ?", (position,)).fetchone()  # noqa: S608  # column names of ours
        values = (other if before == value else value, position)
        log.execute(f"UPDATE transitions SET {column} = ? WHERE position = ?", values)  # noqa: S608  # column names of ours
        if chained:
            rechain(log)
    assert verify(data).exit_code == 1


@pytest.mark.parametrize("place", ["beginning", "middle", "tail"])
def test_a_removed_record_is_found(data: Path, place: str) -> None:
    end = record_count(data)
    position = {"beginning": 1, "middle": end // 2, "tail": end}[place]
    with shell(data) as log:
        log.execute("DELETE FROM transitions WHERE position = ?", (position,))
        log.execute("UPDATE transitions SET position = position - 1 WHERE position > ?", (position,))
        rechain(log)
    assert verify(data).exit_code == 1


def _columns(data: Path) -> list[tuple[str, str]]:
    with shell(data) as log:
        return [(name, kind) for _, name, kind, *_ in log.execute("PRAGMA table_info(instances)").fetchall()]


UNHEARD_OF: dict[str, tuple[Any, ...]] = {"INTEGER": (77,), "TEXT": ("mallory",)}
"""Values that no column of the log has; for a state also a declared one."""
FOLDS = {
    "subject": "'mallory'",
    "epoch": "7",
    "rotation": "7",
    "refresh_tokens": "json('[[0,1,null,null]]')",
    "connections": """json('[{"connection_id":"c","node":"n"}]')""",
    "idle_deadline_ms": "9999999999999",
    "absolute_deadline_ms": "9999999999999",
    "created_at_ms": "7",
    "updated_at_ms": "7",
    "auth_age_ms": "7",
    "policy.connection_limit": "7",
    "reason": "'x'",
}
"""Fields of the fold, and values that no record gives them."""


def _changes(data: Path) -> list[str]:
    """Yield a change of every column, and of every field of the fold."""
    changes = [
        f"{name} = {value!r}"
        for name, kind in _columns(data)
        for value in (*UNHEARD_OF[kind], *(("authenticated",) if name == "state" else ()))
    ]
    assert len(changes) > 12
    return [*changes, *(f"fold = json_set(fold, '$.{field}', {value})" for field, value in FOLDS.items())]


def _change(data: Path, change: str, which: str) -> None:
    with shell(data) as log:
        log.execute("PRAGMA ignore_check_constraints = ON")
        assert log.execute(f"UPDATE instances SET {change} WHERE instance_id = ({which})").rowcount == 1  # noqa: S608  # names of ours


LIVE = "SELECT min(instance_id) FROM instances WHERE ended = 0"
ENDED = "SELECT min(instance_id) FROM instances WHERE ended = 1"


@pytest.mark.parametrize("which", [LIVE, ENDED], ids=["live", "ended"])
def test_a_projection_changed_anywhere_is_found(data: Path, which: str, tmp_path: Path) -> None:
    for number, change in enumerate(_changes(data)):
        copy = tmp_path / str(number)
        shutil.copytree(data, copy)
        _change(copy, change, which)
        outcome = verify(copy)
        assert outcome.exit_code == 1, change
        assert "projection" in outcome.stderr, change


@pytest.mark.parametrize("along", ["", ", ended = 1", ", ended = 1, state = 'expired', reason = 'revoked'"])
@asynchronous
async def test_a_tampered_live_session_is_not_served(data: Path, along: str, tmp_path: Path) -> None:
    """The start detects it; if the start takes the session for ended, its first use does."""
    with shell(data) as log:
        (session_id,) = log.execute(LIVE).fetchone()
    refused = Counter[str]()
    for number, change in enumerate(_changes(data)):
        if along and change.partition(" ")[0] in {"ended", "state", "reason"}:
            continue
        copy = tmp_path / str(number)
        shutil.copytree(data, copy)
        _change(copy, change + along, LIVE)
        try:
            async with open_surface(copy, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
                served = await surface.log.load(SESSION_MACHINE, session_id)
                assert served is None, change
                refused["found by nobody"] += 1
        except SurfaceFailed as failed:
            refused["at the start" if "differs from its log" in str(failed) else "when asked"] += 1
    assert refused.most_common(1)[0][0] == ("when asked" if along else "at the start")


@pytest.mark.parametrize("change", ["ended = 0", "ended = 0, state = 'authenticated', reason = NULL"])
@asynchronous
async def test_a_start_refuses_a_revived_session(data: Path, change: str) -> None:
    _change(data, change, ENDED)
    await start_refuses(data)


def test_a_session_given_to_another_account_stops_the_start(data: Path) -> None:
    _change(data, "owner = 'the-victim', fold = json_set(fold, '$.subject', 'the-victim')", LIVE)
    refused = start(data)
    assert refused.returncode == 2


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM instances WHERE ended = 0",
        "DELETE FROM instances WHERE ended = 1",
        "INSERT INTO instances SELECT * FROM made_up",
    ],
)
def test_a_removed_or_made_up_projection_is_found(data: Path, statement: str) -> None:
    with shell(data) as log:
        log.execute("CREATE TEMP TABLE made_up AS SELECT * FROM instances WHERE kind = 'session' AND ended = 0 LIMIT 1")
        log.execute(
            "UPDATE made_up SET instance_id = 'made-up', owner = 'the-victim',"
            " fold = json_set(fold, '$.session_id', 'made-up', '$.subject', 'the-victim')"
        )
        log.execute(statement)
    assert verify(data).exit_code == 1
    if statement.startswith("INSERT"):
        assert start(data).returncode == 2


@asynchronous
async def test_an_undeclared_kind_stops_the_start(data: Path) -> None:
    _change(data, "kind = 'parcel'", LIVE)
    with pytest.raises(SurfaceFailed, match="holds parcel, and no lifecycle of that name"):
        await open_and_close(data)


async def start_refuses(data: Path) -> None:
    with pytest.raises(SurfaceFailed, match=r"differs from its log.*interlock verify"):
        await open_and_close(data)


def test_a_joint_rollback_of_log_and_head_is_found_by_a_known_position(data: Path) -> None:
    """Nothing else on the machine can show it: the older pair is exactly what the server once wrote."""
    older = data.with_name("older")
    shutil.copytree(data, older)
    with running_server(data) as server:
        asyncio.run(live(server))
    end = record_count(data)
    assert verify(older, "--require-head").exit_code == 0
    for arguments in (("--at-least", end), ("--require-head", "--at-least", end)):
        assert verify(data, *arguments).exit_code == 0
        outcome = verify(older, *arguments)
        assert outcome.exit_code == 1
        assert re.findall(r"\d+", outcome.stderr)[:2] == [str(record_count(older)), str(end)]
    refused = start(older, "--at-least", str(end))
    assert refused.returncode == 2
    gone = start(older.with_name("nothing"), "--at-least", "1")
    assert (gone.returncode, "no log at" in gone.stderr) == (2, True)
    with running_server(data, at_least=end):
        pass


def test_a_start_that_cannot_replace_a_final_head_is_refused(data: Path) -> None:
    """Otherwise it would record what the next start takes for forged."""
    draft = data / "interlock.head.new"
    draft.mkdir()
    refused = start(data)
    assert refused.returncode == 2
    assert "interlock.head" in refused.stderr
    draft.rmdir()
    with running_server(data):
        assert not head_of(data).final
    assert head_of(data).final
