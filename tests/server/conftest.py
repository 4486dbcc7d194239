"""A real server process that the tests of the wire share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.log import verify
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests without wishes of their own; whatever they did, its log verifies."""
    with running_server(tmp_path_factory.mktemp("wire") / "data", connections_per_session=3) as process:
        yield process
        verify(process.data)
