"""The baselines of the bench do comparable work and load no code of Interlock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.sync.client import connect

from interlock.machine.session.view import SessionView
from tests.bench.figure import Bench
from tests.bench.processes import running
from tests.support.fronts import IDENTITY

TREE = Path(__file__).parents[2]
OURS = "interlock"


@pytest.mark.parametrize("ceiling", ["bare_app", "bare_asgi", "bare_picows"])
def test_a_baseline_loads_no_code_of_interlock(ceiling: str) -> None:
    program = f"import sys, tests.bench.{ceiling}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=TREE, check=True)
    modules = loaded.stdout.split()
    assert f"tests.bench.{ceiling}" in modules
    assert [name for name in modules if name.partition(".")[0] == OURS] == []


def test_the_bare_route_returns_the_fields_of_a_session(tmp_path: Path) -> None:
    with running(Bench(tmp_path, quick=True, say=print), "tests.bench.bare_app", pinned=False) as ceiling:
        answer = httpx.get(f"{ceiling.url}/api/session", timeout=60)
    assert answer.status_code == 200
    assert list(answer.json()) == [field.name for field in msgspec.structs.fields(SessionView)]


def test_the_bare_function_returns_the_identity_headers(tmp_path: Path) -> None:
    with running(Bench(tmp_path, quick=True, say=print), "tests.bench.bare_asgi", pinned=False) as ceiling:
        answer = httpx.get(f"{ceiling.url}/api/forward-auth", timeout=60)
    assert answer.status_code == 200
    assert set(IDENTITY) <= set(answer.headers)


@pytest.mark.parametrize("ceiling", ["bare_asgi", "bare_picows"])
def test_a_websocket_baseline_echoes(tmp_path: Path, ceiling: str) -> None:
    with (
        running(Bench(tmp_path, quick=True, say=print), f"tests.bench.{ceiling}", pinned=False) as process,
        connect(process.url.replace("http", "ws", 1) + "/api/connect", compression=None, open_timeout=60) as socket,
    ):
        for text in ('{"type":"ping"}', "x" * 1000):
            socket.send(text)
            assert socket.recv() == text
