"""A Unix socket to listen on: who may connect, which address a peer has, and what is left after the server."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import unix_connect

from tests.support.client import PASSWORD, new_email
from tests.support.running import until

LIMIT_S = 120


@contextmanager
def listening(path: Path, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a server on a Unix socket at ``path``, from when it says so."""
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "interlock.server.cli", "serve", "--unix-socket", str(path), "--log-json", *flags]
    with path.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--data", str(path.with_suffix(".data"))],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS": "1"},
            # Of the permissions that others have, only its own may count.
            umask=0o077,
        )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"Interlock listens on unix:{path}\n"
        yield process
    finally:
        process.kill()
        process.wait(LIMIT_S)
        process.stdout.close()


def client(path: Path, **headers: str) -> httpx.Client:
    return httpx.Client(
        base_url="http://app.example.org", transport=httpx.HTTPTransport(uds=str(path)), headers=headers, timeout=60
    )


def refused(path: Path) -> str:
    """Return what a server says that can't listen at ``path``."""
    command = [sys.executable, "-m", "interlock.server.cli", "serve", "--unix-socket", str(path)]
    ended = subprocess.run(
        [*command, "--data", str(path.with_suffix(".other"))],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode != 0
    return " ".join(ended.stderr.split())


def test_http_and_websockets_are_answered_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    account = {"email": new_email(), "password": PASSWORD}
    with listening(path), client(path) as http:
        http.post("/api/auth/register", json=account).raise_for_status()
        bearer = {"Authorization": f"Bearer {http.post('/api/auth/login', json=account).json()['access_token']}"}
        for _ in range(2):  # the second answer comes from memory
            assert http.get("/api/forward-auth", headers=bearer).status_code == 200
        with unix_connect(
            str(path),
            "ws://app.example.org/api/connect",
            additional_headers=bearer,
            subprotocols=["interlock.v1"],
        ) as wire:
            assert json.loads(wire.recv())["type"] == "hello"
            assert http.get("/api/session", headers=bearer).json()["state"] == "connected"


def test_owner_and_group_may_connect_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_peer_counts_as_this_machine_and_may_name_its_client(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    login = {"email": new_email(), "password": "wrong wrong wrong wrong"}
    with listening(path, trusted_proxies="127.0.0.1"), client(path) as http:
        http.post("/api/auth/login", json=login)
        http.post("/api/auth/login", json=login, headers={"x-forwarded-for": "198.51.100.7"})

        def clients() -> list[str]:
            rows = [json.loads(line) for line in path.with_suffix(".log").read_text().splitlines()]
            return [row["client"] for row in rows if row["event"] == "login.failed"]

        until(lambda: len(clients()) == 2)
        assert clients() == ["127.0.0.1", "198.51.100.7"]


def test_a_stopped_server_leaves_no_socket_behind(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    assert not path.exists()


def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path) as process:
        process.kill()
        process.wait(LIMIT_S)
        assert path.exists()
    with listening(path), client(path) as http:
        assert http.get("/health/ready").status_code == 200


def test_a_path_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path), client(path) as http:
        assert "Address already in use; end that program, or choose another path: --unix-socket" in refused(path)
        assert http.get("/health/ready").status_code == 200


def test_a_file_in_the_way_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("something of mine")
    assert f"can't listen on {path}: it is not a socket" in refused(path)
    assert path.read_text() == "something of mine"


@pytest.mark.parametrize("name", ["x" * 120, "missing/api.sock"])
def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path, name: str) -> None:
    assert f"can't listen on {tmp_path / name}" in refused(tmp_path / name)


def test_the_setting_replaces_the_port(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with listening(path, port=taken.getsockname()[1]), client(path) as http:
            assert http.get("/health/live").status_code == 200
