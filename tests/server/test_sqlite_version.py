"""The SQLite versions that the server starts with."""

from __future__ import annotations

import pytest

from interlock.machine.errors import SurfaceFailed
from interlock.server.surface.sqlite.engine import check_version


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2)])
def test_an_sqlite_version_that_may_corrupt_the_log_is_refused(version: tuple[int, ...]) -> None:
    with pytest.raises(SurfaceFailed, match=r"SQLite 3\.\d+\.\d has the WAL-reset bug.* needs 3\.51\.3"):
        check_version(version)


def test_the_sqlite_in_use_is_new_enough() -> None:
    check_version()
    check_version((3, 51, 3))
