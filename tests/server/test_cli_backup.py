"""``interlock backup`` and ``restore``: what they copy, what they refuse, and what a server makes of the result."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pysqlite3
import pytest
from click.testing import CliRunner, Result

from interlock.server.cli.main import main
from interlock.server.guard.keys.keyset import load_public_keys
from interlock.server.surface.sqlite.archive import open_archive
from tests.support.client import Client, hello, logged_in
from tests.support.log import record_count
from tests.support.running import scenario, until
from tests.support.server import running_server
from tests.support.stopped import cut, log_in_once, stopped_server, tamper


def run(*arguments: object, **environment: str) -> Result:
    nothing = {"INTERLOCK_DATA": None, "INTERLOCK_HEAD_FILE": None}
    return CliRunner().invoke(main, [str(each) for each in arguments], env={**nothing, **environment})


def modes(folder: Path) -> dict[str, int]:
    return {str(each.relative_to(folder)): each.stat().st_mode & 0o777 for each in (folder, *folder.rglob("*"))}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data folder of a server that has stopped, with an administrator's secret."""
    return stopped_server(tmp_path_factory.mktemp("stopped") / "data")


@pytest.fixture
def data(stopped: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder to tamper with."""
    return Path(shutil.copytree(stopped, tmp_path / "data"))


@scenario(180)
async def test_a_backup_under_load_is_complete_and_private(tmp_path: Path) -> None:
    target = tmp_path / "backup"
    with running_server(tmp_path / "data") as server:

        async def load() -> None:
            async with Client(server.url) as client:
                while True:
                    await client.begin()

        async with asyncio.TaskGroup() as group:
            loading = [group.create_task(load()) for _ in range(4)]
            before = record_count(server.data)
            made = await asyncio.to_thread(run, "backup", target, "--data", server.data)
            until_more = record_count(server.data)
            for each in loading:
                each.cancel()
    assert made.exit_code == 0, made.output
    assert before <= record_count(target) <= until_more
    verified = run("verify", target, "--require-head")
    assert (verified.exit_code, "lag" in verified.stdout) == (0, False), verified.output
    found = modes(target)
    assert set(found) >= {".", "interlock.db", "interlock.head", "keys"}
    assert {found["."], found["keys"]} == {0o700}
    assert {mode for name, mode in found.items() if name not in {".", "keys"}} == {0o600}
    assert not [name for name in modes(tmp_path) if name.startswith("backup.")]


def test_a_backup_overwrites_nothing(data: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    refused = run("backup", tmp_path / "backup", "--data", data)
    assert (refused.exit_code, "overwrites nothing" in refused.stderr) == (2, True)
    assert [*(tmp_path / "backup").iterdir()] == []


def test_a_backup_without_keys_has_no_secret_and_can_be_restored(data: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "backup", "--no-keys", "--data", data).exit_code == 0
    assert sorted(modes(tmp_path / "backup")) == [".", "interlock.db", "interlock.head"]
    restored = run("restore", tmp_path / "backup", "--data", tmp_path / "new")
    assert restored.exit_code == 0, restored.output
    assert run("verify", tmp_path / "new", "--require-head").exit_code == 0
    refused = run("restore", tmp_path / "backup", "--keep-token-keys", "--data", tmp_path / "other")
    assert (refused.exit_code, "has no keys" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (tamper, "fault at record 3: digest"),
        (cut, "the last record was removed"),
        (lambda data: (data / "interlock.head").unlink(), "there is none, and the log holds"),
    ],
    ids=["record changed", "record removed", "no head"],
)
def test_a_faulty_log_is_backed_up_only_if_asked(data: Path, tmp_path: Path, spoil: object, fault: str) -> None:
    assert callable(spoil)
    spoil(data)
    refused = run("backup", tmp_path / "backup", "--data", data)
    assert (refused.exit_code, fault in refused.stderr) == (1, True), refused.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data"]
    kept = run("backup", tmp_path / "backup", "--keep-faulty", "--data", data)
    assert kept.exit_code == 1
    restored = run("restore", tmp_path / "backup", "--data", tmp_path / "new")
    assert (restored.exit_code, "nothing was restored" in restored.stderr) == (1, True), restored.output
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["interlock.lock"]


def test_a_backup_without_space_is_refused_at_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(f_bavail=1, f_frsize=4096)
    monkeypatch.setattr("interlock.server.surface.sqlite.copying.os.statvfs", lambda _: full)
    refused = run("backup", tmp_path / "backup", "--data", data)
    assert (refused.exit_code, "has 0 MiB free, and the copy needs" in refused.stderr) == (2, True), refused.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data"]


def test_a_killed_or_starved_backup_leaves_no_backup(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    command = f"'{sys.executable}' -m interlock.server.cli backup '{target}' --data '{data}'"
    # 80 blocks of 512 bytes: enough to read the log, and less than a copy of it.
    starved = subprocess.run(["/bin/sh", "-c", f"ulimit -f 80; {command}"], capture_output=True, text=True, check=False)
    assert (starved.returncode, "can't be copied" in starved.stderr) == (2, True), starved.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data"]
    with closing(pysqlite3.connect(str(data / "interlock.db"), isolation_level=None)) as other:
        # So that there is time to kill it: a copy of 100 MiB.
        other.execute("CREATE TABLE ballast (bytes BLOB)")
        for _ in range(100):
            other.execute("INSERT INTO ballast VALUES (randomblob(1048576))")
    with subprocess.Popen(["/bin/sh", "-c", f"exec {command}"]) as process:
        until(lambda: [*tmp_path.glob("backup.incomplete-*/interlock.db")])
        process.kill()
    assert process.returncode == -9
    assert not target.exists()
    again = run("backup", target, "--data", data)
    assert (again.exit_code, "is left from a backup that was interrupted" in again.stderr) == (0, True), again.output


def test_restore_refuses_a_folder_that_is_used_or_not_empty(data: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "backup", "--data", data).exit_code == 0
    with running_server(tmp_path / "live") as server:
        live = run("restore", tmp_path / "backup", "--data", server.data)
    assert (live.exit_code, "another server" in live.stderr) == (2, True)
    full = run("restore", tmp_path / "backup", "--data", data)
    assert (full.exit_code, "is not empty" in full.stderr) == (2, True)


@pytest.mark.parametrize("place", ["keys/admin-eve.secret", "keys", "interlock.head"])
def test_restore_follows_no_link_of_a_backup(data: Path, tmp_path: Path, place: str) -> None:
    """Whoever may write to a backup could lead a restore by root to a file that only root may read."""
    backup, target = tmp_path / "backup", tmp_path / "restored"
    assert run("backup", backup, "--data", data).exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    if (backup / place).exists():
        (backup / place).rename(elsewhere)
    else:
        elsewhere.write_text("private")
        elsewhere.chmod(0o600)
    (backup / place).symlink_to(elsewhere)
    outcome = run("restore", backup, "--data", target)
    assert (outcome.exit_code, f"{backup / place} is a link" in outcome.stderr) == (2, True), outcome.output
    assert not list(target.rglob("*.secret"))


def test_what_root_restores_belongs_to_the_owner_of_the_folder(data: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "backup", "--data", data).exit_code == 0
    new = tmp_path / "new"
    new.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(new, 54_321, 54_321)
    restored = run("restore", tmp_path / "backup", "--data", new)
    assert restored.exit_code == 0, restored.output
    owners = {(each.stat().st_uid, each.stat().st_gid) for each in (new, *new.rglob("*"))}
    assert owners == {(new.stat().st_uid, new.stat().st_gid)}
    assert {mode for name, mode in modes(new).items() if name not in {".", "keys"}} == {0o600}


def test_restore_says_what_a_position_and_a_receipt_need_beyond_it(data: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "backup", "--data", data).exit_code == 0
    end = record_count(data)
    with open_archive(data) as archive:
        receipt = archive.receipt_at(end)
    short = run("restore", tmp_path / "backup", "--at-least", end + 5, "--data", tmp_path / "new")
    assert (short.exit_code, f"the log ends at {end}" in short.stderr or f"at record {end}" in short.stderr) == (
        1,
        True,
    )
    held = run("restore", tmp_path / "backup", "--receipt", receipt, "--at-least", end, "--data", tmp_path / "new")
    assert (held.exit_code, f"receipt {end}: the log holds it" in held.stdout) == (0, True), held.output


def test_a_head_elsewhere_says_what_is_lost_and_is_kept(data: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "backup", "--data", data).exit_code == 0
    end = record_count(data)
    with running_server(data) as server:
        asyncio.run(log_in_once(server.url))
    later, head = record_count(data), tmp_path / "safe.head"
    shutil.move(data / "interlock.head", head)
    said = run("restore", tmp_path / "backup", "--head-file", head, "--data", tmp_path / "new")
    assert (said.exit_code, f"the last {later - end} records are lost" in said.stdout) == (0, True), said.output
    assert (tmp_path / "safe.head.before-restore").exists()
    assert run("verify", tmp_path / "new", "--head-file", head, "--require-head").exit_code == 0
    with running_server(tmp_path / "new", head_file=str(head)):
        pass


@scenario(180)
async def test_after_a_restore_no_older_token_opens_anything(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", model_trace="") as server:
        async with await logged_in(server.url) as before:
            async with before.connect() as socket:
                await hello(socket)
                made = await asyncio.to_thread(run, "backup", tmp_path / "backup", "--data", server.data)
                assert made.exit_code == 0, made.output
            async with await logged_in(server.url) as since:
                tokens = [(each.bearer, each.refresh_token) for each in (before, since)]
        server.stop()
        (tmp_path / "data").rename(tmp_path / "away")
        restored = run("restore", tmp_path / "backup", "--data", server.data)
        assert restored.exit_code == 0, restored.output
        assert load_public_keys(server.data / "keys").keys().isdisjoint(load_public_keys(tmp_path / "away" / "keys"))
        server.start()
        listed = run("sessions", "--account", before.email, "--json", "--data", server.data).stdout
        assert (json.loads(listed)["state"], json.loads(listed)["connections"]) == ("authenticated", 0), (
            "of the same node"
        )
        async with Client(server.url) as anybody:
            for bearer, refresh_token in tokens:
                assert (await anybody.http.get("/api/session", headers=bearer)).status_code == 401
                answer = await anybody.http.post("/api/auth/refresh", json={"refresh_token": refresh_token})
                assert answer.status_code == 401
            assert (await anybody.log_in(before.email)).status_code == 200


@scenario(180)
async def test_a_move_with_token_keys_keeps_everybody_logged_in(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", model_trace="") as server:
        async with await logged_in(server.url) as client:
            server.stop()
            assert run("backup", tmp_path / "backup", "--data", server.data).exit_code == 0
            shutil.rmtree(server.data)
            moved = run("restore", tmp_path / "backup", "--keep-token-keys", "--data", server.data)
            assert moved.exit_code == 0, moved.output
            server.start()
            async with Client(server.url) as again:
                assert (await again.http.get("/api/session", headers=client.bearer)).status_code == 200
