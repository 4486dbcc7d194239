"""A real server process with a console, for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.admin import recorded_admin_token
from tests.support.log import verify
from tests.support.operators import SETTINGS
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("console") / "data", **SETTINGS) as process:
        yield process
        verify(process.data)


@pytest.fixture(scope="module")
def secret(server: ServerProcess) -> str:
    return recorded_admin_token(server.data)
