"""``interlock tail`` and ``top``: they read the log that a server writes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from click.testing import CliRunner, Result

from interlock.server.cli.main import main
from tests.support.client import logged_in
from tests.support.log import records
from tests.support.metrics import metrics_url
from tests.support.running import scenario
from tests.support.server import running_server

TERMINAL = {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"}


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env={"INTERLOCK_DATA": None, **environment})


@scenario(120)
async def test_tail_prints_each_record_once_and_in_order(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        command = [
            sys.executable,
            "-m",
            "interlock.server.cli",
            "tail",
            "--json",
            "--after",
            "0",
            "--data",
            server.data,
        ]
        follower = await asyncio.create_subprocess_exec(*map(str, command), stdout=subprocess.PIPE)
        assert follower.stdout is not None
        first = [json.loads(await follower.stdout.readline())]
        async with await logged_in(server.url):
            count = len(records(server.data))
            lines = first + [json.loads(await follower.stdout.readline()) for _ in range(count - 1)]
        assert [line["position"] for line in lines] == list(range(1, count + 1))
        follower.send_signal(signal.SIGINT)
        assert await follower.wait() == 0
        registered = run("tail", "--no-follow", "--json", "--kind", "account", "--data", server.data)
        assert [json.loads(line)["event"] for line in registered.stdout.splitlines()] == ["register"]
        shown = run("tail", "--no-follow", "--last", "3", "--data", server.data, **TERMINAL).stdout.splitlines()
        assert (len(shown), max(map(len, shown)) <= 80) == (6, True)
        session_id = lines[-1]["instance_id"]
        of_one = run(
            "tail", session_id, "--no-follow", "--event", "create", "--event", "register", "--data", server.data
        )
        (line,) = of_one.stdout.splitlines()
        assert line.split()[2:4] == ["session", "create:"]


@scenario(120)
async def test_top_shows_states_sockets_refusals_and_ends(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", metrics_port=0, log_json=True) as server:
        port = metrics_url(server).removesuffix("/metrics").rpartition(":")[2]
        async with await logged_in(server.url) as client, client.connect() as socket:
            await socket.recv()
            told = await asyncio.to_thread(run, "top", "--json", "--metrics-port", port, "--data", server.data)
            picture = json.loads(told.stdout)
            assert picture["log"]["position"] == len(records(server.data))
            assert picture["log"]["counts"]["session"]["connected"] == picture["log"]["sockets"] == 1
            assert picture["metrics"]["sockets"] == 1
            assert sum(picture["metrics"]["commits"].values()) > 0
            assert (await client.request("POST", "/api/auth/logout")).is_success
        shown = await asyncio.to_thread(run, "top", "--once", "--data", server.data, **TERMINAL)
        assert max(map(len, shown.stdout.splitlines())) <= 80
        assert "expired 1" in shown.stdout
        assert f"{client.session_id}  logout" in shown.stdout
        assert "metrics are off" in shown.stdout


def test_top_of_a_server_that_is_gone_says_why_there_are_no_metrics(tmp_path: Path) -> None:
    with running_server(tmp_path / "data"):
        pass
    told = json.loads(run("top", "--json", "--metrics-port", "1", "--data", tmp_path / "data").stdout)
    assert told["metrics"] is None
    assert told["note"].startswith("http://127.0.0.1:1/metrics can't be read: ")


def test_top_on_a_terminal_refreshes_until_ctrl_c(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "interlock.server.cli", "top", "--data", str(server.data)]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            shown = b""
            while shown.count(b"newest ends") < 2:
                shown += os.read(ours, 65_536)
            process.send_signal(signal.SIGINT)
            with suppress(OSError):  # the end of a terminal is an error on Linux
                while rest := os.read(ours, 65_536):
                    shown += rest
        os.close(ours)
    assert process.returncode == 0
    assert b"Traceback" not in shown
