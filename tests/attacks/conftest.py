"""Fixtures of the tests through a proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fronts import FRONTS, Front
from tests.support.server import ServerProcess


@pytest.fixture(scope="module", params=FRONTS)
def running_front(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with FRONTS[request.param](tmp_path_factory.mktemp(request.param), server.url) as running:
        yield running


@pytest.fixture
def front(running_front: Front) -> Front:
    """Return the proxy with an empty record, whichever test came before."""
    running_front.seen()
    return running_front
