"""A nearly full disk: ends are recorded, and nothing begins. What fills a disk is bounded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from interlock.server.clock import SystemClock
from interlock.server.experience.credentials import COOKIE_NAME
from interlock.server.system.host import HostMonitor
from tests.faults.test_fail_closed import problem
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, logged_in, new_email
from tests.support.log import BEGUN, record_count, verify
from tests.support.metrics import log_rows, scrape
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

MORE_THAN_ANY_DISK_MIB = 2**40


@scenario()
async def test_on_a_nearly_full_disk_sessions_end_and_none_begins(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data, log_json=True) as server:
        async with Client(server.url) as client:
            owner, other = [(await logged_in(server.url, client.http)).tokens for _ in range(2)]
            (await client.register("known@example.org")).raise_for_status()
    flags: dict[str, Any] = {"disk_reserve_mib": MORE_THAN_ANY_DISK_MIB, "metrics_port": 0, "log_json": True}
    with running_server(data, **flags) as server:
        async with Client(server.url) as client:
            await _on_a_full_disk(server, client, owner, other)
    verify(data)


async def _on_a_full_disk(server: ServerProcess, client: Client, owner: dict[str, Any], other: dict[str, Any]) -> None:
    before = record_count(server.data)
    health = await client.http.get("/health/ready")
    warnings = ["the disk is nearly full; sessions can only be ended"]
    assert (health.status_code, health.json()["warnings"]) == (200, warnings)
    assert scrape(server).value("interlock_disk_low") == 1
    await eventually(lambda: any(row["event"] == "disk.low" for row in log_rows(server)))
    for answer in (
        await client.http.post("/api/session"),
        await client.register("new@example.org"),
        await client.log_in("known@example.org"),
        await client.refresh(owner["refresh_token"]),
        await client.http.post("/api/session/ticket", headers={"Authorization": f"Bearer {owner['access_token']}"}),
    ):
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "60"
        assert "nearly full" in answer.json()["detail"]
    client.tokens = owner
    assert (await client.request("GET", "/api/session")).status_code == 200, "who is in stays in"
    assert record_count(server.data) == before, "nothing was written"
    client.tokens = other
    assert (await client.request("POST", "/api/auth/logout")).status_code == 204
    assert record_count(server.data) == before + 1


@asynchronous
async def test_writes_resume_when_the_disk_has_space_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1000
    said: list[bool] = []
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=free, f_frsize=1))
    host = HostMonitor(SystemClock(), tmp_path, 800, said.append, lambda: False)
    with capture_logs() as logs:
        for now in (1000, 799, 799, 850, 899, 901, 850):
            free = now
            await host.look()
    assert said == [True, False]
    assert [line["event"] for line in logs] == ["disk.low", "disk.enough"]


@scenario()
async def test_rows_of_unauthenticated_clients_are_bounded_in_total(tmp_path: Path) -> None:
    """The bound covers all addresses together, even exempt ones, because each row is permanent."""
    settings: dict[str, Any] = {
        "trusted_proxies": "127.0.0.0/8",
        "limit_anonymous": "5/1h",
        "rate_limit_exempt": "192.0.2.0/24",
        "refresh_grace_s": 300,
    }
    with running_server(tmp_path / "data", **settings) as server:
        async with await logged_in(server.url) as owner, Client(server.url) as stranger:
            assert (await stranger.register("not an address")).status_code == 422, "this wrote nothing"
            asks = _without_a_login(stranger)
            assert [(await ask(f"192.0.2.{number}")).status_code for number, ask in enumerate(asks)] == [
                201,
                200,
                200,
                201,
            ]
            before = record_count(server.data)
            for ask in asks:
                for address in ("192.0.2.9", "198.51.100.1"):
                    problem(refused := await ask(address), 429, "rate-limited")
                    assert int(refused.headers["retry-after"]) > 60
            assert record_count(server.data) == before
            for answer in (
                await owner.request("GET", "/api/session"),
                await owner.refresh(),
                await owner.log_in(owner.email),
                await stranger.request("GET", "/api/session"),
            ):
                assert answer.status_code == 200, "who is in stays in"


def _without_a_login(stranger: Client) -> list[Callable[[str], Awaitable[httpx.Response]]]:
    """Cause every row that an unauthenticated client can, from an address: begin, refresh, resume, register."""

    def sent(path: str, body: Callable[[], dict[str, str]] | None = None) -> Callable[[str], Awaitable[httpx.Response]]:
        async def ask(address: str) -> httpx.Response:
            json = body() if body is not None else None
            answer = await stranger.http.post(path, json=json, headers={"X-Forwarded-For": address})
            if "access_token" in answer.text:
                stranger.tokens = answer.json()
            return answer

        return ask

    async def go_on(address: str) -> httpx.Response:
        page = {"Origin": str(stranger.http.base_url).rstrip("/"), "Cookie": f"{COOKIE_NAME}={stranger.refresh_token}"}
        return await stranger.http.post("/api/session", headers={"X-Forwarded-For": address, **page})

    return [
        sent("/api/session"),
        sent("/api/auth/refresh", lambda: {"refresh_token": stranger.refresh_token}),
        go_on,
        sent("/api/auth/register", lambda: {"email": new_email(), "password": PASSWORD}),
    ]


@pytest.mark.parametrize(("limit", "records"), [("1/1h", 1), ("2/1h", 2)])
@scenario()
async def test_unauthenticated_activity_counts_against_the_bound(tmp_path: Path, limit: str, records: int) -> None:
    """It is recorded while there is room, and never refused."""
    with running_server(tmp_path / "data", limit_anonymous=limit, idle_timeout_s=30) as server:
        async with Client(server.url) as stranger:
            await stranger.begin()
            await asyncio.sleep(3.5)  # a tenth of the idle timeout, from which activity is recorded
            for _ in range(3):
                assert (await stranger.request("GET", "/api/session")).status_code == 200
            assert record_count(server.data) == BEGUN + records


@scenario()
async def test_an_unwritable_head_is_a_warning_until_it_recovers(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", metrics_port=0, log_json=True) as server:
        head = server.data / "interlock.head"
        async with Client(server.url) as client:

            async def warnings() -> list[str]:
                health = await client.http.get("/health/ready")
                assert health.status_code == 200
                return list(health.json().get("warnings", []))

            assert (await warnings(), scrape(server).value("interlock_head_failing")) == ([], 0)
            # Nothing can replace a folder, not even root.
            await eventually(lambda: _in_its_place(head))
            (await client.http.post("/api/session")).raise_for_status()
            await eventually(lambda: any(row["event"] == "head.failed" for row in log_rows(server)))
            assert await warnings() == ["the signed head can't be written; the server's log says why"]
            assert scrape(server).value("interlock_head_failing") == 1
            head.rmdir()
            await eventually(lambda: scrape(server).value("interlock_head_failing") == 0)
            assert await warnings() == []


def _in_its_place(head: Path) -> bool:
    """Make a folder in place of the head. Retry if the server writes a new one meanwhile."""
    head.unlink(missing_ok=True)
    try:
        head.mkdir()
    except FileExistsError:
        return False
    return True
