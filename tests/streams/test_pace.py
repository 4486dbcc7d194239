"""Clients that read slowly, and servers that stop: what bounds a stream, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import logged_in
from tests.support.following import Follower, disconnects
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server
from tests.support.small_buffers import small_buffers
from tests.support.talkers import REALM


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server whose kernel holds little for a client that does not read."""
    with small_buffers(tmp_path_factory.mktemp("small") / "data", realm=REALM, send_timeout_s=60) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@scenario()
async def test_a_slow_reader_hears_of_gaps_and_stays_connected(small: ServerProcess) -> None:
    """Eight times what is kept."""
    tab = Follower()
    async with await logged_in(small.url) as client, tab.connected(client, max_queue=1):
        tab.pause_s = 0.02
        execution_id = await tab.accepted("count", to=8 * 64, padding=16_000)
        assert (await tab.outcome(execution_id))["state"] == "succeeded"
        assert tab.gaps > 0
        numbers = [each["n"] for each in tab.values]
        assert numbers == sorted(set(numbers)), "in order, and none twice"
        assert numbers[-1] == 8 * 64


@scenario()
async def test_a_client_that_reads_late_but_within_bounds_misses_nothing(small: ServerProcess) -> None:
    """More messages than may wait on a connection, and fewer than are kept."""
    tab, witness = Follower(), Follower()
    async with await logged_in(small.url) as client, witness.connected(client), tab.connected(client, max_queue=1):
        tab.may_read.clear()
        for n in range(12):
            await witness.intent("count", f"late {n}", to=40, pause_s=0.05)
        await witness.until(lambda: sum(each["type"] == "outcome" for each in witness.heard) == 12)
        assert len(witness.heard) > 300, "the test is about many messages"
        tab.may_read.set()
        await tab.until(lambda: len(tab.heard) == len(witness.heard))
        assert tab.heard == witness.heard
        assert tab.gaps == 0


@scenario()
async def test_a_client_that_reads_nothing_is_cut(tmp_path: Path) -> None:
    with small_buffers(tmp_path / "data", realm=REALM, send_timeout_s=1) as server:
        deaf = Follower()
        async with (
            await logged_in(server.url) as client,
            deaf.connected(client, max_queue=1, ping_interval=None, close_timeout=0.1),
        ):
            execution_id = await deaf.accepted("count", to=100_000, padding=16_000)
            deaf.may_read.clear()
            assert await disconnects(client, 1) == [4413]
            (await client.request("DELETE", f"/api/executions/{execution_id}")).raise_for_status()


@pytest.mark.checks("outcome_reaches_client")
@scenario()
async def test_a_stopping_server_closes_idle_sockets_first_and_sends_outcomes(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, drain_s=60) as server:
        busy, idle = Follower(), Follower()
        async with (
            await logged_in(server.url) as client,
            await logged_in(server.url) as other,
            busy.connected(client),
            idle.connected(other),
        ):
            execution_id = await busy.accepted("count", to=200, pause_s=0.02)
            await busy.until(lambda: busy.values)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            await idle.end()
            assert [idle.close_code, busy.close_code] == [1001, None]
            await busy.intent("count")
            refused = await busy.answer("refused")
            assert (refused["problem"]["status"], refused["retry_after_s"]) == (503, 1)
            assert (await busy.outcome(execution_id))["state"] == "succeeded"
            await busy.end()
            assert busy.close_code == 1001
            assert busy.values == list(range(1, 201))
            assert await stopping == 0


@scenario()
async def test_a_stopping_server_does_not_wait_for_endless_executions(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, drain_s=2) as server:
        tab = Follower()
        async with await logged_in(server.url) as client, tab.connected(client):
            await tab.accepted("wait")
            await tab.until(lambda: tab.values)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            await tab.end()
            assert tab.close_code == 1001
            assert await stopping == 0
