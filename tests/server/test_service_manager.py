"""What the server tells a service manager such as systemd, over the manager's own socket."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.started import LIMIT_S, started

QUIET: Final = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextmanager
def manager_at(address: str) -> Iterator[socket.socket]:
    """Open the socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        manager.settimeout(LIMIT_S)
        yield manager


@pytest.mark.parametrize("address", ["{folder}/notify", "@{folder}"], ids=["a path", "an abstract address"])
def test_ready_is_said_once_it_answers_and_stopping_when_it_drains(tmp_path: Path, address: str) -> None:
    address = address.format(folder=tmp_path)
    before = ("env", f"NOTIFY_SOCKET={address}")
    with manager_at(address) as manager, started(tmp_path / "data", before, **QUIET) as server:
        assert manager.recv(4096) == b"READY=1"
        assert httpx.get(f"{server.url}/health/ready", timeout=60).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1"
        assert server.process.wait(LIMIT_S) == 0


def test_the_watchdog_hears_again_and_again_that_the_loop_turns(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    before = ("env", f"NOTIFY_SOCKET={address}", "WATCHDOG_USEC=200000")
    with manager_at(address) as manager, started(tmp_path / "data", before, **QUIET) as server:
        assert [manager.recv(4096) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
        assert server.stop() == 0


def test_a_watchdog_of_another_process_is_left_alone(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    before = ("env", f"NOTIFY_SOCKET={address}", "WATCHDOG_USEC=1000", "WATCHDOG_PID=1")
    with manager_at(address) as manager, started(tmp_path / "data", before, **QUIET) as server:
        assert manager.recv(4096) == b"READY=1"
        server.process.send_signal(signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1"


def test_a_manager_that_has_gone_does_not_hinder_the_server(tmp_path: Path) -> None:
    before = ("env", f"NOTIFY_SOCKET={tmp_path / 'nobody'}", "WATCHDOG_USEC=200000")
    with started(tmp_path / "data", before, **QUIET) as server:
        server.ready()
        assert server.stop() == 0
