"""A wrong machine clock: nothing ended revives, tokens live no longer, and keys can still be rotated."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from interlock.server.cli.main import main
from tests.faults.test_fail_closed import problem
from tests.faults.test_start import said, start
from tests.support.client import Client, logged_in
from tests.support.forging import decode
from tests.support.log import verify
from tests.support.metrics import scrape
from tests.support.running import eventually, scenario, until
from tests.support.server import new_trace
from tests.support.shifted_clock import shifted_clock

_AHEAD_S: Final = 3500
"""Within the default limit for a log ahead of the clock."""
_YEAR_S: Final = 31_536_000


def keys(*arguments: str, data: Path) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments, "--data", str(data)], env={"INTERLOCK_DATA": None})


def statuses(data: Path) -> dict[str, str]:
    """Return the status of each key, by the command line."""
    rows = [line.strip("│").split("│") for line in keys("list", data=data).stdout.splitlines() if "│" in line]
    return {row[0].strip(): row[2].strip() for row in rows}


def signer(client: Client) -> str:
    return str(decode(client.access_token.split(".")[0])["kid"])


@pytest.mark.asvs("7.4.1")
@scenario()
async def test_setting_the_clock_back_revives_nothing(tmp_path: Path) -> None:
    """Three runs of one server: on time, most of an hour ahead, and on time again. Time continues from the newest record."""
    data, trace = tmp_path / "data", new_trace(tmp_path / "data")
    with shifted_clock(data, 0, trace) as server:
        async with await logged_in(server.url) as client:
            overdue = {"refresh_token": client.refresh_token}
    with shifted_clock(data, _AHEAD_S, trace) as server:
        async with await logged_in(server.url) as client:
            fresh = client.bearer
            problem(await client.http.post("/api/auth/refresh", json=overdue), 401, "session-ended")
    with shifted_clock(data, 0, trace) as server:
        until(lambda: "clock.behind_the_log" in server.log_path.read_text())
        async with Client(server.url) as client:
            problem(await client.http.post("/api/auth/refresh", json=overdue), 401, "session-ended")
            answer = await client.http.get("/api/session", headers=fresh)
            assert answer.status_code == 200
            await client.begin()
            assert (await client.session())["created_at"] > answer.json()["created_at"], "ours, not the wall clock's"
    verify(data)


@pytest.mark.asvs("9.2.1")
@scenario()
async def test_tokens_expire_by_the_servers_own_clock(tmp_path: Path) -> None:
    """By the wall clock, which was set back, it would be valid for minutes."""
    data, trace = tmp_path / "data", new_trace(tmp_path / "data")
    with shifted_clock(data, 0, trace) as server:
        async with await logged_in(server.url) as client:
            old, body = client.bearer, {"refresh_token": client.refresh_token}
    with shifted_clock(data, 600, trace) as server:
        async with Client(server.url) as client:
            problem(await client.http.get("/api/session", headers=old), 401, "token-expired")
            (await client.begin()).raise_for_status()
    with shifted_clock(data, 0, trace) as server:
        async with Client(server.url) as client:
            problem(await client.http.get("/api/session", headers=old), 401, "token-expired")
            assert (await client.http.post("/api/auth/refresh", json=body)).status_code == 200


@pytest.mark.asvs("9.2.1")
@scenario()
async def test_a_start_with_a_log_too_far_ahead_is_refused(tmp_path: Path) -> None:
    """Otherwise others would accept its tokens for as much longer: a year after a logout, for example."""
    data, trace = tmp_path / "data", new_trace(tmp_path / "data")
    with shifted_clock(data, _YEAR_S, trace) as server:
        async with await logged_in(server.url) as client:
            kept = client.bearer
    before = (data / "interlock.head").read_bytes()
    assert "clock_behind_s" in said(start(data))
    assert (data / "interlock.head").read_bytes() == before
    # The operator overrides it.
    with shifted_clock(data, 0, trace, clock_behind_s=2 * _YEAR_S) as server:
        until(lambda: "clock.behind_the_log" in server.log_path.read_text())
        async with Client(server.url) as client:
            assert (await client.http.get("/api/session", headers=kept)).status_code == 200
    verify(data)


@pytest.mark.asvs("11.2.2")
@pytest.mark.parametrize(("ahead_s", "settings"), [(_AHEAD_S, {}), (_YEAR_S, {"clock_behind_s": 2 * _YEAR_S})])
@scenario()
async def test_keys_are_rotated_though_the_log_is_ahead_of_the_clock(
    tmp_path: Path, ahead_s: int, settings: dict[str, int]
) -> None:
    data, trace = tmp_path / "data", new_trace(tmp_path / "data")
    with shifted_clock(data, ahead_s, trace) as server:
        async with await logged_in(server.url) as client:
            old, refresh_token = signer(client), client.refresh_token
    with shifted_clock(data, 0, trace, **settings) as server:
        async with Client(server.url) as client:
            assert (await client.refresh(refresh_token)).status_code == 200
            assert statuses(data)[old] == "signs"
            waits = (await asyncio.to_thread(keys, "rotate", data=data)).stdout.split()[0]
            assert statuses(data)[waits] == "published, signs later"

            async def published() -> bool:
                return len((await client.http.get("/.well-known/jwks.json")).json()["keys"]) == 2

            await eventually(published)
            await client.refresh()
            assert signer(client) == old, "both agree on who signs now"
            assert keys("retire", waits, data=data).exit_code == 0, "it has signed nothing"
            said_now = (await asyncio.to_thread(keys, "rotate", "--now", data=data)).stdout
            new = said_now.split()[0]
            assert "signs now" in said_now

            async def signs() -> bool:
                await client.refresh()
                return signer(client) == new

            await eventually(signs)
            # The command line has the time of the newest record: that of an exchange since then.
            assert statuses(data)[new] == "signs"
            assert keys("retire", new, data=data).exit_code == 2
            assert re.search(r"\d{4}-\d\d-\d\dT", keys("retire", old, data=data).stderr), "when it may go"
    verify(data)


@scenario()
async def test_setting_the_clock_back_under_a_running_server_is_logged(tmp_path: Path) -> None:
    data, trace = tmp_path / "data", new_trace(tmp_path / "data")
    with shifted_clock(data, 0, trace, metrics_port=0, log_json=True) as server:
        async with await logged_in(server.url) as client:
            before = (await client.session())["created_at"]
            assert (await client.http.get("/health/ready")).json() == {"status": "ok"}
            assert scrape(server).value("interlock_clock_ahead_seconds") < 60
            os.kill(server.pid, signal.SIGCONT)
            await eventually(lambda: "clock.set_back" in server.log_path.read_text())
            health = await client.http.get("/health/ready")
            assert health.status_code == 200, "it goes on"
            assert len(health.json()["warnings"]) == 1
            assert scrape(server).value("interlock_clock_ahead_seconds") > 3_000
            sibling = client.sibling()
            await sibling.begin()
            assert (await sibling.session())["created_at"] > before
    verify(data)
