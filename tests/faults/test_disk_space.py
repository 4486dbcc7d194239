"""A disk that is nearly full: what ends is still recorded, and nothing begins. And what fills a disk is bounded."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from server.clock import SystemClock
from server.runtime.host import Host
from tests.faults.test_fail_closed import problem
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, logged_in
from tests.support.log import record_count, verify
from tests.support.metrics import log_rows, scrape
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

MORE_THAN_ANY_DISK_MIB = 2**40


@scenario()
async def test_on_a_full_disk_sessions_end_and_none_begins(tmp_path: Path) -> None:
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
async def test_with_space_again_everything_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1000
    said: list[bool] = []
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=free, f_frsize=1))
    host = Host(SystemClock(), tmp_path, 800, said.append)
    with capture_logs() as logs:
        for now in (1000, 799, 799, 850, 899, 901, 850):
            free = now
            await host.look()
    assert said == [True, False]
    assert [line["event"] for line in logs] == ["disk.low", "disk.enough"]


@scenario()
async def test_anonymous_sessions_of_all_addresses_together_are_bounded(tmp_path: Path) -> None:
    """Also of those that are not counted by themselves: each is rows for ever."""
    settings: dict[str, Any] = {
        "trusted_proxies": "127.0.0.0/8",
        "limit_begin_total": "3/1h",
        "uncounted": "192.0.2.0/24",
    }
    with running_server(tmp_path / "data", **settings) as server:
        async with Client(server.url) as client:
            answers = [
                await client.http.post("/api/session", headers={"X-Forwarded-For": address})
                for address in ("192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.1", "192.0.2.9")
            ]
            assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]
            assert int(answers[-1].headers["retry-after"]) > 60
        async with await logged_in(server.url) as owner:
            assert (await owner.request("GET", "/api/session")).status_code == 200, "logins are not counted there"
