"""The metrics of WebSockets and streams."""

from __future__ import annotations

from pathlib import Path

from tests.support.client import logged_in
from tests.support.following import Follower
from tests.support.metrics import scrape
from tests.support.running import eventually, scenario
from tests.support.server import running_server
from tests.support.talkers import REALM


@scenario()
async def test_round_trips_and_the_memory_of_streams_are_measured(tmp_path: Path) -> None:
    settings = {"metrics_port": 0, "log_json": True, "ping_interval_s": 0.2, "resume_s": 0.4}
    with running_server(tmp_path / "data", realm=REALM, **settings) as server:
        before = scrape(server)
        assert before.value("interlock_streams") == before.value("interlock_stream_bytes") == 0
        async with await logged_in(server.url) as client, Follower().connected(client) as tab:
            await tab.outcome(await tab.accepted("count", to=100, padding=1_000))
            assert scrape(server).value("interlock_streams") == 1
            await eventually(lambda: scrape(server).value("interlock_socket_round_trip_seconds_count") >= 2)
            total = scrape(server)
            assert 0 < total.value("interlock_socket_round_trip_seconds_sum") < 60
        await eventually(lambda: scrape(server).value("interlock_streams") == 0)
        assert scrape(server).value("interlock_stream_bytes") == 0
