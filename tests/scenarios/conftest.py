"""Fixtures of the scenarios: a real server process, real clients, a real file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.log import verify
from tests.support.server import ServerProcess, running_server
from tests.support.tallies import create


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run one server that scenarios without special settings share. Its log must verify at the end."""
    with running_server(tmp_path_factory.mktemp("shared") / "data") as process:
        yield process
        verify(process.data)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the data folder of a server that a scenario starts for itself."""
    return tmp_path / "data"


@pytest.fixture
def tallies(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the new database of the realm ``tallies``, for the servers that the test starts."""
    path = data.parent / "tallies.db"
    create(path)
    monkeypatch.setenv("TALLIES", str(path))
    return path
