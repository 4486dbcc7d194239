"""Connections that break in the middle of progress: the next one misses nothing, or is told of the gap."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.client import Client, closed, logged_in
from tests.support.following import Follower, disconnects
from tests.support.relay import relay_to
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server
from tests.support.talkers import REALM


@pytest.mark.checks("outcome_reaches_client")
@scenario()
async def test_each_value_comes_once_over_connections_cut_again_and_again(server: ServerProcess) -> None:
    tab = Follower()
    async with await logged_in(server.url) as client, relay_to(server.url) as relay:
        far = Client(relay.url)
        far.tokens = client.tokens
        async with tab.connected(far):
            execution_id = await tab.accepted("count", to=300, pause_s=0.01)
            for cuts in range(1, 5):
                await tab.until(lambda: len(tab.values) >= 40 * cuts)  # noqa: B023  # awaited at once
                relay.cut()
                await tab.end()
                await tab.reconnect(far)
            outcome = await tab.outcome(execution_id)
        await far.http.aclose()
        assert tab.gaps == 0
        assert tab.values == list(range(1, 301))
        assert outcome["state"] == "succeeded"
        assert tab.kinds(execution_id) == ["accepted", "progress", "outcome"]


@scenario()
async def test_what_happens_while_nobody_is_connected_is_resumed(server: ServerProcess) -> None:
    tab = Follower()
    async with await logged_in(server.url) as client:
        async with tab.connected(client):
            execution_id = await tab.accepted("count", to=20, pause_s=0.01)
        await ended(client, execution_id)
        async with tab.connected(client, resume=True):
            await tab.outcome(execution_id)
        assert (tab.gaps, tab.values) == (0, list(range(1, 21)))


@scenario()
async def test_a_blackhole_is_noticed_by_the_heartbeat_and_resumed(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, ping_interval_s=0.5, ping_timeout_s=0.5) as server:
        tab = Follower()
        async with await logged_in(server.url) as client, relay_to(server.url) as relay:
            far = Client(relay.url)
            far.tokens = client.tokens
            async with tab.connected(far, ping_interval=None, close_timeout=0.1):
                execution_id = await tab.accepted("count", to=100, pause_s=0.01)
                await tab.until(lambda: tab.values)
                relay.freeze()
                await ended(client, execution_id)
                await disconnects(client, 1)
                async with tab.connected(client, resume=True):
                    await tab.outcome(execution_id)
            await far.http.aclose()
            assert (tab.gaps, tab.values) == (0, list(range(1, 101)))


@scenario()
async def test_a_revoked_session_hears_and_resumes_nothing_more(server: ServerProcess) -> None:
    tab = Follower()
    async with await logged_in(server.url) as client:
        async with tab.connected(client):
            await tab.accepted("count", to=10_000, pause_s=0.01)
            await tab.until(lambda: len(tab.values) > 10)
            (await client.request("POST", "/api/auth/logout")).raise_for_status()
            await tab.end()
            assert tab.close_code == 4403
            assert tab.answers[-1]["event"] == "revoke"
        place = tab.place
        async with client.connect() as socket:
            assert (await closed(socket))[0] == 4403
        # The account's next session has another stream.
        (await client.begin()).raise_for_status()
        (await client.log_in(client.email)).raise_for_status()
        tab.place = place
        async with tab.connected(client, resume=True):
            await tab.answer("gap")
            assert tab.place["epoch"] != place["epoch"]


@pytest.mark.checks("outcome_reaches_client")
@scenario()
async def test_after_a_crash_the_client_is_told_of_the_gap_and_reads_the_execution(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM) as server:
        tab = Follower()
        async with await logged_in(server.url) as client:
            async with tab.connected(client):
                execution_id = await tab.accepted("wait", intent_id="once")
                await tab.until(lambda: tab.values)
                server.kill()
                await tab.end()
            server.start()
            async with tab.connected(client, resume=True):
                await tab.answer("gap")
                shown = (await client.request("GET", f"/api/executions/{execution_id}")).json()
                assert (shown["state"], shown["reason"]) == ("failed", "interrupted")
                # Sending it again is safe, and has the outcome as an answer.
                await tab.intent("wait", "once")
                assert (await tab.outcome(execution_id))["reason"] == "interrupted"


@scenario()
async def test_a_stream_is_forgotten_some_time_after_its_last_connection(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", realm=REALM, resume_s=0.2) as server:
        tab = Follower()
        async with await logged_in(server.url) as client:
            async with tab.connected(client):
                await tab.outcome(await tab.accepted("count", to=3))
            epoch, apart_s = tab.place["epoch"], 0.1
            while tab.place["epoch"] == epoch:
                # Each connection keeps it for longer.
                await asyncio.sleep(apart_s)
                apart_s *= 2
                async with tab.connected(client, resume=True):
                    await tab.answered()
            assert tab.gaps >= 1


@pytest.mark.parametrize("offset", [10**6, 2**70], ids=["later than the end", "a huge number"])
@scenario()
async def test_a_place_that_the_stream_never_had_is_a_gap(server: ServerProcess, offset: int) -> None:
    tab = Follower()
    async with await logged_in(server.url) as client:
        async with tab.connected(client):
            await tab.outcome(await tab.accepted("count"))
        tab.place = {**tab.place, "offset": offset}
        async with tab.connected(client, resume=True):
            gap = await tab.answer("gap")
            assert gap["offset"] == 0
            await tab.until(lambda: len(tab.heard) == 4)


async def ended(client: Client, execution_id: str) -> None:
    """Wait until the execution has ended."""
    while (await client.request("GET", f"/api/executions/{execution_id}")).json()["state"] in {"accepted", "running"}:
        pass
