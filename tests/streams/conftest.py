"""Fixtures: a real server with a realm whose code emits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.log import verify
from tests.support.server import ServerProcess, running_server
from tests.support.talkers import REALM


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run one server for the tests of a file. Its log must verify at the end."""
    with running_server(tmp_path_factory.mktemp("streams") / "data", realm=REALM) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()
        verify(process.data)
