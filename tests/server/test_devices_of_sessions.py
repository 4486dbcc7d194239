"""Devices and addresses of sessions: stored beside the log, shown to the owner and to administrators, and erased."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.server.guard.session_devices.names import device_name
from interlock.server.surface.devices import DeviceStore
from interlock.server.surface.log import TransitionLog
from interlock.server.surface.memory import MemoryDevices, MemoryLog
from interlock.server.surface.sqlite.archive import open_archive
from tests.server.device_contract import DeviceStoreContract
from tests.server.test_surface import opened
from tests.support.admin import Admin, admin_token, subject_of
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, new_email
from tests.support.running import eventually
from tests.support.server import ServerProcess, running_server

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
SAFARI = f"{IPHONE} Version/18.5 Safari/604.1"
LIKE_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"


class TestMemoryDevices(DeviceStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[tuple[TransitionLog, DeviceStore]]:  # noqa: ARG002  # nothing is stored
        yield MemoryLog(), MemoryDevices()


class TestSqliteDevices(DeviceStoreContract):
    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[tuple[TransitionLog, DeviceStore]]:
        async with opened(folder) as surface:
            yield surface.log, surface.devices


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Safari on iPhone"),
        (f"Mozilla/5.0 (Linux; Android 10; K) {LIKE_CHROME} Mobile Safari/537.36", "Chrome on Android"),
        (f"Mozilla/5.0 (Windows NT 10.0) {LIKE_CHROME} Safari/537.36 Edg/140.0.0.0", "Edge on Windows"),
        ("curl/8.14.1", "curl"),
        ("python-httpx/0.28.1", "python-httpx"),
        ("Firefox/1.0", "Firefox"),
        ("Mozilla/5.0 (compatible)", "unknown"),
        ("ilk_admin_ada_0123456789/1", "unknown"),
        ("", "unknown"),
        ("<script>alert(1)</script>", "unknown"),
    ],
)
def test_a_device_has_a_short_name_from_a_fixed_set_of_words(user_agent: str, name: str) -> None:
    assert device_name(user_agent) == name


async def log_in_as(client: Client, user_agent: str, email: str, address: str = "203.0.113.7") -> None:
    client.http.headers.update({"user-agent": user_agent, "x-forwarded-for": address})
    await client.register(email)
    await client.log_in(email)


async def devices(client: Client) -> list[Any]:
    answer = await client.request("GET", "/api/sessions")
    return [each["device"] for each in answer.raise_for_status().json()]


@asynchronous
async def test_your_devices_are_listed_with_name_address_and_time(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", trusted_proxies="127.0.0.1") as server:
        email = new_email()
        async with Client(server.url) as first, Client(server.url) as second:
            await log_in_as(first, FIREFOX, email)
            await log_in_as(second, SAFARI, email, "2001:db8::7")
            newest, oldest = await devices(first)
            assert (newest["name"], newest["address"]) == ("Safari on iPhone", "2001:db8::7")
            assert (oldest["name"], oldest["address"]) == ("Firefox on Linux", "203.0.113.7")
            first.http.headers["x-forwarded-for"] = "198.51.100.9"
            await first.refresh()
            _, moved = await devices(first)
            assert moved["address"] == "198.51.100.9", "a refresh tells where the device is now"
            assert oldest["seen_at"] < moved["seen_at"]
            async with Admin(server.url, admin_token(server.data)) as admin:
                shown = (await admin.http.get("/sessions")).raise_for_status().json()
                assert [each["device"]["name"] for each in shown] == ["Safari on iPhone", "Firefox on Linux"]
                one = (await admin.http.get(f"/sessions/{shown[0]['session_id']}")).raise_for_status().json()
                assert one == shown[0]


@asynchronous
async def test_nothing_is_stored_of_an_anonymous_client(server: ServerProcess) -> None:
    async with Client(server.url) as client:
        client.http.headers["user-agent"] = FIREFOX
        await client.begin()
        await client.refresh()
        assert await devices(client) == [None]
        with open_archive(server.data) as archive:
            stored = [row[0] for row in archive._database.execute("SELECT session_id FROM session_devices").fetchall()]
        assert client.session_id not in stored


@asynchronous
async def test_a_device_is_forgotten_after_the_set_time(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", device_history_s=0.2) as server:
        async with Client(server.url) as client:
            await log_in_as(client, FIREFOX, new_email())

            async def hidden() -> bool:
                return await devices(client) == [None]

            await eventually(hidden)
        server.stop()
        server.start()

        def erased() -> bool:
            with open_archive(server.data) as archive:
                return bool(archive._database["session_devices"].count == 0)

        await eventually(erased)


@asynchronous
async def test_devices_are_off_by_a_setting(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", device_history_s=0) as server:
        async with Client(server.url) as client:
            await log_in_as(client, FIREFOX, new_email())
            await client.refresh()
            assert await devices(client) == [None]
        with open_archive(server.data) as archive:
            assert archive._database["session_devices"].count == 0


@asynchronous
async def test_no_record_holds_an_address_or_a_device(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", trusted_proxies="127.0.0.1") as server:
        async with Client(server.url) as client:
            await log_in_as(client, FIREFOX, new_email())
            await client.refresh()
        with open_archive(server.data) as archive:
            rows = archive._database.execute("SELECT actor, data FROM transitions").fetchall()
            folds = archive._database.execute("SELECT fold FROM instances").fetchall()
    assert "203.0.113.7" not in repr([rows, folds])
    assert "Firefox" not in repr([rows, folds])


@asynchronous
async def test_no_file_holds_a_device_of_a_deleted_account(tmp_path: Path) -> None:
    addresses = {"203.0.113.77", "203.0.113.88"}

    def held(data: Path) -> set[str]:
        files = b"".join(path.read_bytes() for path in data.glob("interlock.db*"))
        return {each for each in addresses if each.encode() in files}

    with running_server(tmp_path / "data", trusted_proxies="127.0.0.1") as server:
        async with Client(server.url) as gone, Client(server.url) as kept:
            await log_in_as(gone, FIREFOX, new_email(), "203.0.113.77")
            await log_in_as(kept, FIREFOX, new_email(), "203.0.113.88")
            assert held(server.data) == addresses, "they are found where they are"
            async with Admin(server.url, admin_token(server.data)) as admin:
                (await admin.http.delete(f"/accounts/{await subject_of(gone)}")).raise_for_status()
        assert held(server.data) == {"203.0.113.88"}
