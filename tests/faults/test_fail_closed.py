"""No failure grants access: 503, or a server that does not start."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from interlock.machine.account.commands import Disable
from interlock.server.guard.secrets import Secrets
from tests.faults.test_disk import fill_the_disk, make_room
from tests.faults.test_start import said, start
from tests.support.accounts import died_after
from tests.support.admin import Admin, admin_token
from tests.support.client import PASSWORD, Client, closed, hello, logged_in, new_email
from tests.support.log import BEGUN, verify
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, check_trace, running_server

HARMLESS: Final = {
    "GET /.well-known/jwks.json": "public keys, out of memory: whoever has an old token still can't use it here",
}
"""Paths that answer although the log has stopped. So do the health probes, with 503, and the document itself."""

_BODIES: Final[dict[str, dict[str, Any]]] = {
    "PUT /api/admin/accounts/{account_id}/groups": {"groups": []},
    "POST /api/auth/exchange": {"id_token": "x"},
    "POST /api/auth/password": {"current_password": PASSWORD, "new_password": "another long password"},
}


def problem(answer: httpx.Response, status: int, name: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:interlock:problem:{name}"


def page(server: ServerProcess, client: Client) -> dict[str, str]:
    """Return a browser page's headers, with the client's session in its cookie."""
    return {"Cookie": f"__Host-interlock={client.refresh_token}", "Origin": server.url}


async def all_is_refused(client: Client, admin: Admin, gateway: str, *, harmless: Iterable[str] = HARMLESS) -> None:
    """Check that every call of the document, and the WebSocket, is refused with credentials that were valid before."""
    document = (await client.http.get("/schema/openapi.json")).json()
    subject = client.tokens["subject"]
    bodies = _BODIES | {
        "POST /api/auth/login": {"email": client.email, "password": PASSWORD},
        "POST /api/auth/register": {"email": new_email(), "password": PASSWORD},
        "POST /api/auth/reset": {
            "email": client.email,
            "code": "AAAAA-AAAAA-AAAAA-AAAAA",
            "new_password": "another long password",
        },
        "POST /api/auth/refresh": {"refresh_token": client.refresh_token},
    }
    ids = {
        "session_id": client.session_id,
        "account_id": subject,
        "execution_id": "exe_x",
        "realm": "billing",
        "name": "shop",
    }
    for path, item in document["paths"].items():
        address = re.sub(r"\{(.*?)\}", lambda name: ids[name[1]], path)
        for method in item:
            name = f"{method.upper()} {path}"
            token = admin.secret if path.startswith("/api/admin/") else client.access_token
            headers = {"Authorization": f"Bearer {token}"}
            if path.startswith("/oauth/"):
                answer = await client.http.post(path, data={"token": client.access_token}, auth=("gateway", gateway))
            else:
                answer = await client.http.request(method, address, headers=headers, json=bodies.get(name))
            if name in harmless:
                assert answer.status_code == 200, name
            else:
                # Calls with a secret of their own may refuse this one first.
                refused = {401, 503} if path.startswith(("/api/events", "/api/realms/")) else {503}
                assert answer.status_code in refused, f"{name} answered {answer.status_code}: {answer.text}"
    socket = await client.connect()
    assert await closed(socket) == (1011, "internal error")


def _disk_full(server: ServerProcess) -> Callable[[], None]:
    fill_the_disk(server)
    return lambda: make_room(server)


def _moved(path: Path) -> Callable[[], None]:
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    return lambda: (away.replace(path), None)[1]


def _exchanged(path: Path) -> Callable[[], None]:
    back = _moved(path)
    shutil.copy(path.with_name(f"{path.name}.away"), path)
    return back


FAILURES: Final[dict[str, Callable[[ServerProcess], Callable[[], None]]]] = {
    "the disk is full": _disk_full,
    "the database is removed": lambda server: _moved(server.database),
    "the database is exchanged for a copy": lambda server: _exchanged(server.database),
    "the write-ahead log is removed": lambda server: _moved(server.data / "interlock.db-wal"),
}
"""What happens to a running server → how to undo it."""


@pytest.mark.asvs("16.5.2", "16.5.3")
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@scenario()
async def test_a_missing_log_refuses_everything(
    tmp_path: Path, failure: Callable[[ServerProcess], Callable[[], None]]
) -> None:
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        async with (
            await logged_in(server.url) as client,
            Admin(server.url, admin_token(server.data)) as admin,
            client.connect() as socket,
            admin.follow() as stream,
        ):
            await hello(socket)
            gateway = Secrets(server.data / "keys", "client").create("gateway", 1)
            client.tokens["subject"] = (await client.session())["subject"]
            take_back = failure(server)
            while (await client.http.post("/api/session")).is_success:
                pass
            assert await closed(socket) == (1011, "internal error")
            assert await stream.end() == "unavailable"
            await all_is_refused(client, admin, gateway)
            take_back()
            # It stays so until a restart.
            await all_is_refused(client, admin, gateway)
            server.stop()
            server.start()
            assert (await client.session())["state"] == "authenticated"
            assert await admin.get("/audit") == []
    finally:
        server.stop()
    verify(server.data)


@pytest.mark.parametrize(
    ("lost", "names"),
    [
        ("interlock.db", {"unavailable"}),
        # The keys are in the folder too. Either of the two checks, each once a second, may be first.
        ("", {"unavailable", "secrets-unavailable"}),
    ],
    ids=["the database", "the folder"],
)
@scenario()
async def test_a_removed_log_is_noticed_on_an_idle_server(tmp_path: Path, lost: str, names: set[str]) -> None:
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        async with await logged_in(server.url) as client, client.connect() as socket:
            await hello(socket)
            (server.data / lost).rename(tmp_path / "away")
            assert await closed(socket) == (1011, "internal error")
            answer = await client.request("GET", "/api/session")
            assert answer.status_code == 503, answer.text
            assert answer.json()["type"].removeprefix("urn:interlock:problem:") in names
            assert (await client.http.get("/health/live")).status_code == 503
            await eventually(lambda: "is gone: No such file or directory" in server.log_path.read_text())
    finally:
        server.stop()


def test_a_server_without_its_database_does_not_start_with_a_new_one(tmp_path: Path) -> None:
    """An empty log would have forgotten every logout."""
    with running_server(tmp_path / "data") as server:
        httpx.post(f"{server.url}/api/session").raise_for_status()
    for file in server.data.glob("interlock.db*"):
        file.unlink()
    assert f"it covers {BEGUN + 1} records, and there is no log" in said(start(server.data))


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Return a data folder that a server has used, with an administrator's secret."""
    with running_server(tmp_path / "data") as server:
        admin_token(server.data)
    yield server.data
    (server.data / "keys").chmod(0o700)


BROKEN_KEYS: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "a folder that others may list": (lambda keys: keys.chmod(0o755), "is open to others; make it private: chmod 700"),
    "a folder that others may write to": (lambda keys: keys.chmod(0o770), "is open to others"),
    "an administrator's secret that others may read": (
        lambda keys: (keys / "admin-ada.secret").chmod(0o604),
        "may be read by others",
    ),
    "an administrator's secret that is garbage": (
        lambda keys: (keys / "admin-ada.secret").write_bytes(b"{"),
        "does not hold a secret",
    ),
}


@pytest.mark.asvs("13.3.1")
@pytest.mark.parametrize(("break_it", "message"), BROKEN_KEYS.values(), ids=BROKEN_KEYS)
def test_unsafe_keys_prevent_the_start(data: Path, break_it: Callable[[Path], object], message: str) -> None:
    break_it(data / "keys")
    assert message in said(start(data))


@pytest.mark.asvs("2.3.3", "16.5.3")
@scenario()
async def test_a_disable_that_was_not_written_is_not_acknowledged(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        async with await logged_in(server.url) as client, Admin(server.url, admin_token(server.data)) as admin:
            subject = (await client.session())["subject"]
            fill_the_disk(server)
            while (await client.http.post("/api/session")).is_success:
                pass
            problem(await admin.http.post(f"/accounts/{subject}/disable"), 503, "unavailable")
            make_room(server)
            server.stop()
            server.start()
            assert (await admin.get(f"/accounts/{subject}"))["disabled_at"] is None
            assert await admin.get("/audit") == []
            await client.session()
    finally:
        server.stop()


@pytest.mark.checks("disabled_never_serves")
@pytest.mark.asvs("7.4.2")
@scenario()
async def test_an_interrupted_disable_is_finished_by_the_next_start(tmp_path: Path) -> None:
    """The account is disabled on disk before its first session ends. The state that a kill in between leaves is made here."""
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        async with await logged_in(server.url) as client, Admin(server.url, admin_token(server.data)) as admin:
            subject = (await client.session())["subject"]
            for _ in range(3):
                (await client.sibling().log_in(client.email)).raise_for_status()
            stranger = await logged_in(server.url, client.http)
            server.kill()
            await died_after(server.data, subject, Disable())
            server.start()
            problem(await client.request("GET", "/api/session"), 401, "session-ended")
            own = await admin.every("/sessions", subject=subject)
            assert [each["reason"] for each in own] == ["account_disabled"] * 4
            ends = [each for each in await admin.every("/transitions") if each["event"] == "revoke"]
            assert [each["actor"] for each in ends] == ["server"] * 4
            await stranger.session()
    finally:
        server.stop()
    verify(server.data)
    check_trace(server.trace)
