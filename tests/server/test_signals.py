"""Signals, and closed terminals: requests to stop drain the server, and nothing else stops it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.client import closed, hello, logged_in
from tests.support.raw_http import ask_all
from tests.support.running import run
from tests.support.server import running_server
from tests.support.started import LIMIT_S, read_all, started


def test_sighup_drains_the_server(tmp_path: Path) -> None:
    async def main() -> tuple[int, str]:
        async with await logged_in(server.url) as client, client.connect() as socket:
            await hello(socket)
            os.kill(server.pid, signal.SIGHUP)
            return await closed(socket)

    with running_server(tmp_path / "data", log_json=True) as server:
        code, _ = run(main())
        assert code == 1001
        assert server.process is not None
        assert server.process.wait(LIMIT_S) == 0
    assert "server.stopped" in server.log_path.read_text()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_do_not_stop_the_server(tmp_path: Path, number: signal.Signals) -> None:
    """Under nohup a hangup is one of them."""
    with started(tmp_path / "data", before=("nohup",), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        server.ready()
        for _ in range(3):
            server.process.send_signal(number)
            assert httpx.get(f"{server.url}/health/live").status_code == 200
        assert server.stop() == 0


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Return a terminal: its other end, and the programs' end."""
    outer, inner = pty.openpty()
    try:
        yield outer, inner
    finally:
        for end in (outer, inner):
            with suppress(OSError):
                os.close(end)


def test_a_server_drains_when_its_terminal_is_closed(tmp_path: Path) -> None:
    with terminal() as (outer, inner):
        streams: Any = {"stdin": inner, "stdout": inner, "stderr": inner}
        # setsid makes the terminal the server's own, like a shell's.
        with started(tmp_path / "data", before=("setsid", "--ctty"), **streams) as server:
            os.close(inner)
            server.ready()
            os.close(outer)
            assert server.process.wait(LIMIT_S) == 0


def test_a_terminal_with_tostop_does_not_stop_a_background_server(tmp_path: Path) -> None:
    with terminal() as (outer, inner):
        streams: Any = {"stdin": inner, "stdout": inner, "stderr": inner}
        modes = termios.tcgetattr(inner)
        modes[3] |= termios.TOSTOP
        termios.tcsetattr(inner, termios.TCSANOW, modes)
        threading.Thread(target=read_all, args=(outer, bytearray()), daemon=True).start()
        # bash with job control puts each background job into its own process group.
        pid = tmp_path / "pid"
        shell = ("setsid", "--ctty", "bash", "-mc", f'"$@" & echo $! >{pid}; wait $!', "bash")
        with started(tmp_path / "data", before=shell, **streams) as server:
            try:
                server.ready()
                assert set(ask_all(server.url, ["/health/live"] * 20)) == {200}
                os.kill(int(pid.read_text()), signal.SIGTERM)
                assert server.process.wait(LIMIT_S) == 0
            finally:
                with suppress(ProcessLookupError):
                    os.kill(int(pid.read_text()), signal.SIGKILL)
