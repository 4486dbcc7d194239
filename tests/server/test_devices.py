"""A device cookie is valid while its known password is the account's, and its key is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from interlock.server.cli.main import main
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.throttling.devices import LIFE_S, Devices
from interlock.server.surface.accounts import Owner
from tests.support.accounts import owner
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, new_email
from tests.support.clock import HandClock
from tests.support.metrics import whole_log
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

ADA = owner("acc_ada", "ada@example.org")
BOB = owner("acc_bob", "bob@example.org")


class _Store:
    """Accounts in memory. Records the look-ups for device cookies."""

    def __init__(self, *owners: Owner) -> None:
        self.owners = {each.data.email: each for each in owners}
        self.asked: list[str] = []

    async def by_email(self, email: str) -> Owner | None:
        self.asked.append(email)
        return self.owners.get(email)


def devices_of(folder: Path, store: Any, clock: HandClock) -> Devices:
    """Return the devices of a server with the keys in ``folder``."""
    keys = load_keys(folder)
    return Devices(store, clock, lambda: keys)


@asynchronous
async def test_a_device_cookie_is_bound_to_account_server_and_time(tmp_path: Path) -> None:
    clock, store = HandClock(), _Store(ADA, BOB)
    devices = devices_of(tmp_path / "keys", store, clock)
    good, foreign = devices.issue(ADA), devices_of(tmp_path / "others", store, clock).issue(ADA)
    issued, set_at, nonce, mac = good.split(".")
    for cookie in (
        devices.issue(BOB),
        foreign,
        f"{int(issued) + 1}.{set_at}.{nonce}.{mac}",
        f"{issued}.{int(set_at) + 1}.{nonce}.{mac}",
        f"{issued}.{set_at}.{'A' * 22}.{mac}",
        f"{issued}.{set_at}.{nonce}.{'A' * 43}",
        f"{issued}.{nonce}.{mac}",
        f"{good}\n",
        "garbage",
        "",
        None,
    ):
        assert await devices.known("ada@example.org", cookie) is None
    assert store.asked == [], "nobody sees by the time it takes whether there is an account"
    assert await devices.known(" ADA@example.org", good) == nonce
    assert await devices_of(tmp_path / "keys", store, clock).known("ada@example.org", good) == nonce, "after a restart"
    assert len({devices.issue(ADA) for _ in range(10)}) == 10
    clock.advance(LIFE_S * 1000)
    assert await devices.known("ada@example.org", good) is None


@pytest.mark.asvs("6.3.1")
@asynchronous
async def test_a_device_cookie_is_bound_to_a_password(tmp_path: Path) -> None:
    store = _Store(ADA)
    devices = devices_of(tmp_path / "keys", store, HandClock())
    # Also one issued late, for the old password while the new one was being set.
    before = [devices.issue(ADA)]
    changed = store.owners[ADA.data.email] = owner("acc_ada", "ada@example.org", at_ms=2)
    before.append(devices.issue(ADA))
    assert [await devices.known("ada@example.org", cookie) for cookie in before] == [None, None]
    assert await devices.known("ada@example.org", devices.issue(changed)) is not None
    del store.owners[ADA.data.email]
    assert await devices.known("ada@example.org", before[0]) is None


class _Owner:
    """An account's owner, each of whose requests comes from a new address."""

    def __init__(self, server: ServerProcess, http: httpx.Client) -> None:
        self.server = server
        self.http = http
        self.account = {"email": new_email(), "password": PASSWORD}
        self.places = iter(range(1, 250))
        self.http.post("/api/auth/register", json=self.account).raise_for_status()

    def log_in(self, cookie: bytes = b"", **other: str) -> httpx.Response:
        self.http.cookies.clear()
        headers = [(b"x-forwarded-for", b"198.51.100.%d" % next(self.places)), (b"origin", self.server.url.encode())]
        return self.http.post(
            "/api/auth/login", json={**self.account, **other}, headers=[*headers, (b"cookie", cookie)]
        )

    def new_cookie(self, cookie: bytes = b"") -> bytes:
        """Log in, and return the device cookie."""
        lines = self.log_in(cookie).raise_for_status().headers.get_list("set-cookie")
        (line,) = [line for line in lines if line.startswith("__Host-interlock-device=")]
        return line.partition(";")[0].encode()

    def shut_strangers_out(self) -> None:
        """Use up the strangers' attempts."""
        statuses = [self.log_in(password="wrong").status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert self.log_in().status_code == 429

    def names(self) -> list[str]:
        """Return the account's pseudonyms in the log, failure by failure."""
        lines = [json.loads(line) for line in whole_log(self.server).splitlines() if '"login.failed"' in line]
        return [line["account"] for line in lines]


@contextmanager
def owner_of_an_account(folder: Path) -> Iterator[_Owner]:
    limits = {"limit_login_client": "2/1h", "limit_login_account": "2/1h"}
    with (
        running_server(folder / "data", trusted_proxies="127.0.0.1", log_json=True, **limits) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        yield _Owner(server, http)


def keys_command(server: ServerProcess, *arguments: str) -> None:
    outcome = CliRunner().invoke(main, ["keys", *arguments, "--data", str(server.data)])
    assert outcome.exit_code == 0, outcome.output


async def changes(server: ServerProcess, number: int) -> None:
    """Wait until the server has noticed this many changes of its keys."""
    await eventually(lambda: server.log_path.read_text().count('"keys.changed"') == number)


@pytest.mark.asvs("11.2.2")
@scenario(120)
async def test_a_device_is_known_while_its_cookies_key_is_kept(tmp_path: Path) -> None:
    with owner_of_an_account(tmp_path) as owner:
        old = owner.new_cookie()
        owner.shut_strangers_out()
        assert owner.log_in(old).status_code == 200
        await asyncio.to_thread(keys_command, owner.server, "rotate", "--refresh", "--now")
        await changes(owner.server, 1)
        assert owner.log_in(old).status_code == 200, "the old key verifies"
        assert owner.log_in(old, password="wrong").status_code == 401
        new = owner.new_cookie(old)
        owner.server.stop()
        owner.server.start()
        owner.shut_strangers_out()
        assert [owner.log_in(cookie).status_code for cookie in (old, new)] == [200, 200], "and after a restart"
        await asyncio.to_thread(keys_command, owner.server, "retire", "refresh", "--force")
        await changes(owner.server, 2)
        assert [owner.log_in(cookie).status_code for cookie in (old, new)] == [429, 200], (
            "what a thief made is worthless"
        )
        first, second, *later = owner.names()
        assert first == second
        assert len(set(later)) == 1, (
            "an account's name is another one from the rotation on, and the same after a restart"
        )
        assert later[0] != first


@pytest.mark.asvs("3.3.3")
def test_a_plantable_cookie_does_not_make_a_device_known(tmp_path: Path) -> None:
    with owner_of_an_account(tmp_path) as owner:
        cookie = owner.new_cookie()
        owner.shut_strangers_out()
        for held, status in (
            (b"%s", 200),
            (b"\xa0%s", 429),
            (b"x=y; \x85%s", 429),
            (b"%s; __Host-interlock-device=x", 429),
            (b"__Host-interlock=x; %s", 200),
        ):
            assert owner.log_in(held % cookie).status_code == status, held
