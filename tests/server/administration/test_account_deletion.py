"""Deletion of an account over a real server: nothing about its owner is left."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from interlock.machine.account.commands import Delete
from interlock.machine.ledger import Record
from interlock.machine.machines import MACHINES
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.engine import open_writer
from interlock.server.surface.sqlite.files import Erasure
from tests.support.accounts import AccountStory
from tests.support.admin import Admin, admin_token, problem, subject_of
from tests.support.client import Client, closed, logged_in, new_email
from tests.support.running import scenario
from tests.support.server import ServerProcess


@pytest.mark.checks("deleted_absorbs", "disabled_never_serves")
@pytest.mark.asvs("7.4.2")
@scenario()
async def test_a_deleted_accounts_personal_data_is_gone(server: ServerProcess, secret: str) -> None:
    """Its records stay without naming anybody, and the address is free."""
    async with Admin(server.url, secret) as admin, await logged_in(server.url) as client:
        subject, other = await subject_of(client), client.sibling()
        (await other.log_in(client.email)).raise_for_status()
        socket = await other.connect()
        await socket.recv()
        answer = await admin.http.delete(f"/accounts/{subject}")
        assert (answer.status_code, answer.json()["state"], answer.json()["ended"]) == (200, "deleted", 2)
        assert await closed(socket) == (4403, "session ended: account_deleted")
        for ended in (client, other):
            problem(await ended.request("GET", "/api/session"), 401, "session-ended")
            problem(await ended.refresh(), 401, "session-ended")
        problem(await client.sibling().log_in(client.email), 401, "credential-invalid")
        shown = await admin.get(f"/accounts/{subject}")
        assert (shown["state"], shown["email"], shown["groups"]) == ("deleted", None, [])
        assert await admin.get("/accounts", email=client.email) == []
        assert shown in await admin.every("/accounts", state="deleted")
        again = (await admin.http.delete(f"/accounts/{subject}")).json()
        assert again == {"subject": subject, "state": "deleted", "ended": 0}
        for method, path in (("POST", "disable"), ("POST", "enable"), ("PUT", "groups")):
            body: dict[str, Any] | None = {"groups": []} if path == "groups" else None
            refused = await admin.http.request(method, f"/accounts/{subject}/{path}", json=body)
            problem(refused, 409, "transition-refused")
        (await client.sibling().register(client.email)).raise_for_status()
        (new,) = await admin.get("/accounts", email=client.email)
        assert new["subject"] != subject
        history = await admin.every(f"/accounts/{subject}/transitions")
        assert [each["event"] for each in history] == ["register", "delete"]
        assert client.email not in str(history)


@pytest.mark.parametrize("how", ["running", "killed", "stopped"])
@scenario()
async def test_no_file_holds_personal_data_of_a_deleted_account(tmp_path: Path, how: str) -> None:
    """Including what SQLite keeps: free pages and the write-ahead log."""
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        async with Client(server.url) as client, Admin(server.url, admin_token(server.data)) as admin:
            emails = [new_email() for _ in range(30)]
            for email in emails:
                (await client.register(email)).raise_for_status()
            known = _known(server.data)
            secrets = {email: known[email] for email in emails}
            everything = [each for email in emails for each in secrets[email]]
            assert _held(server.data, everything) == set(everything), "they are found where they are"
            for email in emails[::2]:
                (found,) = await admin.get("/accounts", email=email)
                (await admin.http.delete(f"/accounts/{found['subject']}")).raise_for_status()
            if how == "killed":
                server.kill()
            elif how == "stopped":
                server.stop()
            assert _held(server.data, everything) == {each for email in emails[1::2] for each in secrets[email]}
    finally:
        server.stop()


def test_a_long_reader_delays_no_write_and_the_erasure_follows_it(tmp_path: Path) -> None:
    """Such as a backup, or `interlock verify`."""
    tried: list[str] = []
    now_s = 100.0
    with closing(open_writer(tmp_path / "log.db").conn) as log, closing(open_writer(tmp_path / "log.db").conn) as other:
        log.execute("CREATE TABLE kept (text)")
        log.set_trace_callback(lambda statement: tried.append(statement) if "checkpoint" in statement else None)
        erasure = Erasure(Database(log), MACHINES, lambda: now_s)
        erasure.committed([])
        assert len(tried) == 1, "a start doesn't know what its predecessor had to do"
        erasure.committed([])
        assert len(tried) == 1
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM kept").fetchone()
        log.execute("INSERT INTO kept VALUES ('ada@example.org')")
        story = AccountStory()
        records = [Record(n, step.transition, b"") for n, step in enumerate([*story.register(), *story.tell(Delete())])]
        for _ in range(50):
            erasure.committed([records[:1], None])
        assert len(tried) == 1, "nothing was erased"
        erasure.committed([records])
        for _ in range(50):
            erasure.committed([])
        assert len(tried) == 2
        wal = tmp_path / "log.db-wal"
        assert wal.stat().st_size > 0
        other.execute("COMMIT")
        erasure.committed([])
        assert len(tried) == 2, "not before its time"
        now_s += 1
        erasure.committed([])
        assert (len(tried), wal.stat().st_size) == (3, 0)
        now_s += 100
        erasure.committed([])
        assert len(tried) == 3


def _held(data: Path, texts: list[str]) -> set[str]:
    files = b"".join(path.read_bytes() for path in data.glob("interlock.db*"))
    return {text for text in texts if text.encode() in files}


def _known(data: Path) -> dict[str, tuple[str, ...]]:
    """Return everything stored about each owner, by email address."""
    with open_archive(data) as archive:
        rows = archive._database.execute("SELECT email, password_hash, commitment_key FROM personal_data").fetchall()
    return {row[0]: row for row in rows}
