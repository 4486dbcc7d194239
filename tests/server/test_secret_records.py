"""Secrets in the log: what becomes of their files is recorded, and nobody acts under one whose removal is."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from interlock.machine.account.commands import Disable
from interlock.machine.errors import AdminCredentialInvalid, Overloaded, SettingsError
from interlock.machine.secret.commands import Add, added
from interlock.server.app import app_over
from interlock.server.guard.keys.keyset import load_public_keys
from interlock.server.guard.secrets import Secrets
from interlock.server.runtime import secret_records
from interlock.server.runtime.door import commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.secret_records import SecretRecords
from interlock.server.surface.memory import MemoryDirectory, MemoryLog
from tests.support.admin import Admin, admin_token, problem, remove_admin, subject_of
from tests.support.asynchronous import asynchronous
from tests.support.client import logged_in
from tests.support.clock import HandClock
from tests.support.inside import client_of
from tests.support.log import interlock, records, verify, write_lock
from tests.support.running import eventually, scenario, until
from tests.support.server import ServerProcess, running_server
from tests.support.wire import log_in, services_in

MORE_THAN_ANY_DISK_MIB: Final = 2**40

Told = tuple[str, str, str]


def told(data: Path) -> list[Told]:
    """What the log says of secrets: event, purpose and name."""
    names: dict[str, tuple[str, str]] = {}
    found = []
    for record in records(data):
        if record["kind"] == "secret":
            assert record["actor"] == "server"
            if record["event"] == "add":
                names[record["instance_id"]] = (record["data"]["purpose"], record["data"]["name"])
            found.append((record["event"], *names[record["instance_id"]]))
    return found


def run(data: Path, *arguments: str) -> str:
    outcome = interlock(*arguments, "--data", data)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


def kids(data: Path) -> set[str]:
    return set(load_public_keys(data / "keys"))


@pytest.mark.checks("secrets_recorded")
def test_changes_of_secrets_are_recorded_while_the_server_runs(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        (first,) = kids(server.data)
        expected: list[Told] = [("add", "signing", first), ("add", "refresh", "refresh")]
        assert told(server.data) == expected
        secret = run(server.data, "clients", "create", "gateway")
        expected.append(("add", "client", "gateway"))
        until(lambda: told(server.data) == expected)
        run(server.data, "keys", "rotate", "--now")
        (second,) = kids(server.data) - {first}
        expected.append(("add", "signing", second))
        until(lambda: told(server.data) == expected)
        run(server.data, "keys", "retire", first, "--force")
        expected.append(("remove", "signing", first))
        until(lambda: told(server.data) == expected)
        run(server.data, "clients", "remove", "gateway")
        expected.append(("remove", "client", "gateway"))
        until(lambda: told(server.data) == expected)
        written = b"".join(path.read_bytes() for path in server.data.glob("interlock.db*"))
    assert secret[-43:].encode() not in written
    verify(server.data)


@pytest.mark.checks("secrets_recorded")
@pytest.mark.parametrize("end", [ServerProcess.stop, ServerProcess.kill], ids=["stopped", "killed"])
def test_a_start_records_changes_made_while_no_server_ran(
    tmp_path: Path, end: Callable[[ServerProcess], object]
) -> None:
    """Before it takes work: what it answers is behind those records."""
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        admin_token(server.data, "ada")
        admin_token(server.data, "bob")
        until(lambda: len(told(server.data)) == 4)
        end(server)
        before = told(server.data)
        remove_admin(server.data, "ada")
        admin_token(server.data, "eve")
        server.start()
        began = httpx.post(f"{server.url}/api/session").json()["receipt"]["position"]
        assert told(server.data) == [*before, ("remove", "admin", "ada"), ("add", "admin", "eve")]
        assert began == len(records(server.data))
        server.stop()
        server.start()
        assert len(records(server.data)) == began, "nothing has changed"
    finally:
        server.stop()
    verify(server.data)


@pytest.mark.checks("removed_absorbs")
def test_a_restored_secret_is_a_new_instance(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        secret = admin_token(server.data)
        file, kept = server.data / "keys" / "admin-ada.secret", tmp_path / "kept"
        until(lambda: ("add", "admin", "ada") in told(server.data))
        shutil.copy(file, kept)
        remove_admin(server.data)
        until(lambda: told(server.data)[-1] == ("remove", "admin", "ada"))
        shutil.copy(kept, file)
        until(lambda: told(server.data)[-1] == ("add", "admin", "ada"))
        answer = httpx.get(f"{server.url}/api/admin/audit", headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
    first, end, second = [each for each in records(server.data) if each["kind"] == "secret"][-3:]
    assert first["data"] == second["data"], "by its fingerprint it is the same"
    assert first["instance_id"] == end["instance_id"] != second["instance_id"]
    assert (first["version"], end["version"], second["version"]) == (1, 2, 1)
    story = run(server.data, "replay", end["instance_id"], "--kind", "secret")
    assert "The server finds that the secret's file is gone" in story
    assert "ada" in story
    verify(server.data)


@scenario()
async def test_a_removal_takes_effect_before_its_record(tmp_path: Path) -> None:
    """Another program holds the file's lock, so nothing can be written: the record follows when it can."""
    with running_server(tmp_path / "data") as server:
        async with Admin(server.url, admin_token(server.data)) as admin:
            await admin.get("/accounts")
            await eventually(lambda: told(server.data)[-1] == ("add", "admin", "ada"))
            with write_lock(server.data):
                remove_admin(server.data)
                problem(await admin.http.get("/accounts"), 401, "admin-credential-invalid")
                assert told(server.data)[-1] == ("add", "admin", "ada")
            await eventually(lambda: told(server.data)[-1] == ("remove", "admin", "ada"))


@scenario()
async def test_a_new_administrators_act_follows_the_record_of_the_secret(tmp_path: Path) -> None:
    """Also while the disk is nearly full: to disable an account may be why there is a new administrator."""
    data = tmp_path / "data"
    with running_server(data) as server:
        async with await logged_in(server.url) as client:
            subject = await subject_of(client)
    with running_server(data, disk_reserve_mib=MORE_THAN_ANY_DISK_MIB) as server:
        async with Admin(server.url, admin_token(data)) as admin:
            assert (await admin.http.put(f"/accounts/{subject}/groups", json={"groups": []})).status_code == 503
            (await admin.http.post(f"/accounts/{subject}/disable")).raise_for_status()
        remove_admin(data)
        until(lambda: told(data)[-1] == ("remove", "admin", "ada"))
    events = [(each["event"], each["actor"]) for each in records(data)]
    assert events[-4:] == [("add", "server"), ("disable", "admin:ada"), ("revoke", "server"), ("remove", "server")]
    verify(data)


Ask = Callable[[httpx.AsyncClient, str], Coroutine[Any, Any, httpx.Response]]

ACTS: Final[dict[str, Ask]] = {
    "end a session": lambda http, session_id: http.delete(f"/api/admin/sessions/{session_id}"),
    "end an account's sessions": lambda http, _: http.delete("/api/admin/accounts/ada/sessions"),
    "disable": lambda http, _: http.post("/api/admin/accounts/ada/disable"),
    "enable": lambda http, _: http.post("/api/admin/accounts/ada/enable"),
    "set groups": lambda http, _: http.put("/api/admin/accounts/ada/groups", json={"groups": ["staff"]}),
    "delete": lambda http, _: http.delete("/api/admin/accounts/ada"),
}


@pytest.mark.checks("authority_at_append")
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("back", [False, True], ids=["gone", "back"])
@asynchronous
async def test_an_act_is_not_recorded_after_the_removal_of_its_secret(
    tmp_path: Path,
    act: Ask,
    back: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """The call was admitted and waits for its turn; meanwhile the secret is removed. That it is back doesn't help."""
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http:
        session, _ = await log_in(services)
        if act is ACTS["enable"]:
            disabled = await services.accounts.ask("ada", "server", Disable())
            await services.account_sessions.end_superseded(disabled.instance, "server")
        secret = Secrets(tmp_path / "keys", "admin").create("eve", 1)
        http.headers["authorization"] = f"Bearer {secret}"
        await services.secret_records.compare()
        end = await services.sessions.records(0, 1000)
        await services.accounts.turns.take("ada")
        await services.sessions.turns.take(session.session_id)
        asked = asyncio.create_task(act(http, session.session_id))
        waiting = (services.accounts.turns._waiting["ada"], services.sessions.turns._waiting[session.session_id])
        await eventually(lambda: any(waiting))
        file = tmp_path / "keys" / "admin-eve.secret"
        file.rename(tmp_path / "away")
        await services.secret_records.compare()
        if back:
            (tmp_path / "away").rename(file)
            await services.secret_records.compare()
        services.accounts.turns.give("ada")
        services.sessions.turns.give(session.session_id)
        problem(await asked, 401, "admin-credential-invalid")
        since = [each.transition for each in await services.sessions.records(end[-1].position, 1000)]
        assert [each.event for each in since] == ["remove", *(["add"] if back else [])]
        assert {each.actor for each in since} == {"server"}


@pytest.mark.checks("authority_at_append")
@asynchronous
async def test_a_clients_revocation_is_not_recorded_after_its_removal(tmp_path: Path) -> None:
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http:
        session, token = await log_in(services)
        secret = Secrets(tmp_path / "keys", "client").create("gateway", 1)
        await services.sessions.turns.take(session.session_id)
        asked = asyncio.create_task(http.post("/oauth/revoke", auth=("gateway", secret), data={"token": token}))
        await eventually(lambda: services.sessions.turns._waiting[session.session_id])
        Secrets(tmp_path / "keys", "client").remove("gateway")
        await services.secret_records.compare()
        services.sessions.turns.give(session.session_id)
        problem(await asked, 401, "client-authentication-failed")
        assert not (await services.sessions.load(session.session_id)).ended


class Looked:
    """Secrets over a log in memory; ``seen`` is what a look at the files finds, or None where nobody can tell."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.seen: list[Add] | None = [added("admin", "ada", b"1")]
        self.feed = Feed(log)
        self.records = SecretRecords(self.feed, HandClock(), {"admin": self.look})

    async def begin(self) -> None:
        await self.records.restore(MemoryDirectory(self.log.store))
        newest = await self.log.newest()
        await self.feed.start(newest.position if newest is not None else 0)

    def look(self) -> list[Add]:
        if self.seen is None:
            raise SettingsError("it can't be read")
        return self.seen

    @property
    def events(self) -> list[str]:
        return [entry.record.transition.event for entry in self.log.store.entries]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_records, "_LOOK_EVERY_S", 0.01)


@pytest.mark.usefixtures("often")
@asynchronous
async def test_a_change_refused_by_an_overloaded_log_is_recorded_later() -> None:
    looked = Looked(MemoryLog(max_waiting=0))
    await looked.begin()
    with pytest.raises(Overloaded):
        await looked.records.compare()
    running = asyncio.create_task(looked.records.run())
    await asyncio.sleep(0.1)
    assert looked.events == []
    looked.log._max_waiting = 10
    await eventually(lambda: looked.events == ["add"])
    running.cancel()


@asynchronous
async def test_a_start_with_many_secrets_records_none_again() -> None:
    before = Looked(MemoryLog())
    before.seen = [added("admin", f"ada-{number}", b"%d" % number) for number in range(600)]
    await before.begin()
    await before.records.compare()
    assert before.events == ["add"] * 600
    after = Looked(MemoryLog(before.log.store))
    after.seen = before.seen
    await after.begin()
    await after.records.compare()
    assert len(after.events) == 600


def test_a_fingerprint_is_as_the_log_format_says() -> None:
    digest = hashlib.sha256(b"interlock fingerprint v1\n" + b"1").digest()[:16]
    assert added("admin", "ada", b"1").fingerprint == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@asynchronous
async def test_an_unreadable_file_is_no_removal() -> None:
    looked = Looked(MemoryLog())
    await looked.begin()
    await looked.records.compare()
    looked.seen = None
    await looked.records.compare()
    assert looked.events == ["add"]
    looked.seen = []
    await looked.records.compare()
    assert looked.events == ["add", "remove"]
    with pytest.raises(AdminCredentialInvalid):
        async with looked.records.acting(added("admin", "ada", b"1")):
            pytest.fail("nobody has this secret")


@asynchronous
async def test_secrets_are_distinguished_by_their_content() -> None:
    looked = Looked(MemoryLog())
    await looked.begin()
    await looked.records.compare()
    looked.seen = [added("admin", "ada", b"2")]
    await looked.records.compare()
    assert looked.events == ["add", "remove", "add"]
    again = Looked(MemoryLog(looked.log.store))
    again.seen = looked.seen
    await again.begin()
    await again.records.compare()
    assert looked.events == ["add", "remove", "add"], "another process on the same log finds what is there"
    looked.seen = again.seen = []
    await again.records.compare()
    await eventually(lambda: not looked.records._present)
    await looked.records.compare()
    assert looked.events == ["add", "remove", "add", "remove"], "what another has recorded is no difference any more"


@asynchronous
async def test_a_comparison_whose_caller_gives_up_records_each_secret_once() -> None:
    looked = Looked(MemoryLog())
    await looked.begin()
    first = asyncio.create_task(looked.records.compare())
    await asyncio.sleep(0)
    first.cancel()
    await looked.records.compare()
    assert looked.events == ["add"]


@asynchronous
async def test_a_secret_that_was_recorded_twice_is_removed_once() -> None:
    looked = Looked(MemoryLog())
    await looked.begin()
    for name in ("sec_1", "sec_2"):
        await looked.records.submit(name, *commands("server", added("admin", "ada", b"1")))
    await looked.records.compare()
    assert looked.events == ["add", "add", "remove"]
    looked.seen = []
    await looked.records.compare()
    assert looked.events == ["add", "add", "remove", "remove"]
