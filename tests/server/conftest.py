"""Fixtures: a real server process that the wire tests share."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import Hostile, hostile_provider
from tests.support.log import verify
from tests.support.server import ServerProcess, running_server
from tests.support.verifying import live


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run one server that tests without special settings share. Its log must verify at the end."""
    with running_server(tmp_path_factory.mktemp("wire") / "data", connections_per_session=3) as process:
        yield process
        verify(process.data)


@pytest.fixture(scope="module")
def provider() -> Iterator[Hostile]:
    """Run a hostile identity provider, one per test file."""
    with hostile_provider() as hostile:
        yield hostile


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Return a data folder that a server wrote and left cleanly, and the receipts it issued."""
    data = tmp_path_factory.mktemp("verify") / "data"
    with running_server(data) as server:
        receipts = asyncio.run(live(server))
    return data, receipts


@pytest.fixture
def folder(written: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> Path:
    """Return a copy to tamper with."""
    shutil.copytree(written[0], tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def receipts(written: tuple[Path, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return written[1]
