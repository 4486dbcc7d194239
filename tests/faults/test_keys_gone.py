"""While a running server's key files are unusable, access is refused with 503; it recovers by itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from interlock.server.guard.secrets import Secrets
from tests.faults.test_fail_closed import HARMLESS, all_is_refused, page, problem
from tests.faults.test_start import said, start
from tests.support.admin import Admin, admin_token
from tests.support.client import Client, closed, hello, logged_in
from tests.support.log import verify
from tests.support.metrics import Scrape, log_rows, metrics_url
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

TakeBack = Callable[[], object]

_ALIVE: Final = "GET /health/live"
"""The process is alive: a restart would not help, because it would be refused."""


def _emptied(keys: Path) -> TakeBack:
    away = keys.with_name("away")
    away.mkdir()
    for path in list(keys.iterdir()):
        path.rename(away / path.name)
    return lambda: [path.rename(keys / path.name) for path in list(away.iterdir())]


def _moved(path: Path) -> TakeBack:
    away = path.with_name("away")
    path.rename(away)
    return lambda: away.rename(path)


def _opened(path: Path, mode: int) -> TakeBack:
    before = path.stat().st_mode
    path.chmod(mode)
    return lambda: path.chmod(before)


def _junk(path: Path) -> TakeBack:
    good = path.read_bytes()
    path.write_bytes(b"junk")
    return lambda: path.write_bytes(good)


def _no_file(path: Path) -> TakeBack:
    """Make the path something else than a file: root can read everything else."""
    back = _moved(path)
    path.mkdir(mode=0o700)

    def take_back() -> None:
        path.rmdir()
        back()

    return take_back


def _signing(keys: Path) -> Path:
    (path,) = keys.glob("signing-*.pem")
    return path


BROKEN: Final[dict[str, tuple[Callable[[Path], TakeBack], str]]] = {
    "all files are removed": (_emptied, "holds no signing key any more"),
    "the folder is moved": (_moved, "can't be read: No such file or directory"),
    "the folder is open to others": (lambda keys: _opened(keys, 0o755), "is open to others"),
    "the last signing key is removed": (lambda keys: _moved(_signing(keys)), "holds no signing key any more"),
    "the last refresh key is removed": (lambda keys: _moved(keys / "refresh.key"), "holds no refresh key any more"),
    "the signing key may be read by others": (lambda keys: _opened(_signing(keys), 0o644), "may be read by others"),
    "the signing key is junk": (lambda keys: _junk(_signing(keys)), "does not hold a private key"),
    "the refresh key is junk": (lambda keys: _junk(keys / "refresh.key"), "does not hold 32 bytes"),
    "the refresh key can't be read": (lambda keys: _no_file(keys / "refresh.key"), "can't be read: Is a directory"),
}
"""What happens to the keys of a running server, how to undo it, and what the server logs."""


async def passes(server: ServerProcess, client: Client) -> list[int]:
    """Return forward-auth's answers to the access token and to the cookie."""
    asked_for = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": urlsplit(server.url).netloc}
    return [
        (await client.http.get("/api/forward-auth", headers={**held, **asked_for})).status_code
        for held in (client.bearer, page(server, client))
    ]


async def ready(client: Client) -> tuple[int, str]:
    answer = await client.http.get("/health/ready")
    return answer.status_code, answer.json()["status"]


async def metric(server: ServerProcess) -> float:
    async with httpx.AsyncClient() as http:
        return Scrape((await http.get(metrics_url(server))).text).value("interlock_keys_unusable")


def unusable(server: ServerProcess) -> list[str]:
    """Return the logged reasons why keys are unusable, repeats included."""
    return [row["problem"] for row in log_rows(server) if row["event"] == "keys.unusable"]


@pytest.mark.asvs("13.3.1", "16.5.2", "16.5.3")
@pytest.mark.parametrize(("break_them", "says"), BROKEN.values(), ids=BROKEN)
@scenario()
async def test_unusable_keys_refuse_everything(
    tmp_path: Path, break_them: Callable[[Path], TakeBack], says: str
) -> None:
    with running_server(tmp_path / "data", log_json=True, metrics_port=0) as server:
        keys = server.data / "keys"
        async with (
            await logged_in(server.url) as client,
            Admin(server.url, admin_token(server.data)) as admin,
            client.connect() as socket,
        ):
            await hello(socket)
            gateway = Secrets(keys, "client").create("gateway", 1)
            client.tokens["subject"] = (await client.session())["subject"]
            assert await passes(server, client) == [200, 200]
            take_back = break_them(keys)
            # A problem that takes several steps may be noticed between them, and is then logged twice.
            await eventually(lambda: any(says in problem for problem in unusable(server)))
            assert await passes(server, client) == [503, 503]
            assert await ready(client) == (503, "the key files can't be used; the server's log says why")
            assert await metric(server) == 1
            await all_is_refused(client, admin, gateway, harmless=[*HARMLESS, _ALIVE])
            answer = await client.http.get("/api/forward-auth", headers=client.bearer)
            problem(answer, 503, "secrets-unavailable")
            assert answer.headers["retry-after"] == "1"
            assert str(keys) not in answer.text
            take_back()
            await eventually(lambda: "keys.usable" in server.log_path.read_text())
            assert await ready(client) == (200, "ok")
            assert await metric(server) == 0
            assert await passes(server, client) == [200, 200]
            await socket.ping()
            (await client.refresh()).raise_for_status()
            (await client.sibling().log_in(client.email)).raise_for_status()
            assert await admin.get("/audit") == []
            made = sorted(path.name for path in keys.iterdir() if not path.name.endswith((".secret", ".json")))
            assert made == ["refresh.key", _signing(keys).name], "no new ones"
    verify(server.data)


@scenario()
async def test_unusable_keys_refuse_new_tokens_on_an_open_socket(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client, client.connect() as socket:
            await hello(socket)
            _junk(server.data / "keys" / "refresh.key")
            await eventually(lambda: "keys.unusable" in server.log_path.read_text())
            await socket.send(f'{{"type": "refresh", "access_token": "{client.access_token}"}}')
            assert await closed(socket) == (1011, "internal error")


@pytest.mark.asvs("13.3.1")
def test_a_start_with_an_unusable_key_is_refused(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        keys = server.data / "keys"
        shutil.copy(_signing(keys), keys / "signing-copy.pem")
    assert "does not hold the key it is named after" in said(start(server.data))
