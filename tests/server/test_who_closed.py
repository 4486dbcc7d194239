"""The record of a disconnect names the side that closed, and ``interlock replay`` tells it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from interlock.server.cli.main import main
from tests.support.client import hello, logged_in
from tests.support.log import records
from tests.support.running import eventually, scenario
from tests.support.server import running_server


@scenario(120)
async def test_replay_tells_a_left_page_from_a_stopping_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client:
            session = await client.session()
            async with client.connect() as left, client.connect() as lost, client.connect() as drained:
                for socket in (left, lost, drained):
                    await hello(socket)
                await left.close(1001)
                await eventually(lambda: _codes(server.data) == [1001])
                lost.transport.abort()
                await eventually(lambda: _codes(server.data) == [1001, 1006])
                server.stop()
    told = CliRunner().invoke(main, ["replay", session["session_id"], "--data", str(server.data)]).stdout
    closes = [line for line in told.splitlines() if "disconnect (" in line]
    for line, actor, code in zip(
        closes,
        (session["subject"], "server", "server"),
        ("1001 (going away)", "1006 (nobody", "1001 (going away)"),
        strict=True,
    ):
        assert f"by {actor}:" in line
        assert f"close code {code}" in line


def _codes(data: Path) -> list[int]:
    return [each["data"]["code"] for each in records(data) if each["event"] == "disconnect"]
