"""A check that writes still go to the files that the next start will open.

If a file is removed, moved or replaced, SQLite keeps writing to the open one: everything would be acknowledged and then lost.
So the database and its write-ahead log are looked up by name after each commit, before anything is acknowledged, and also
while the server is idle.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Final

from interlock.machine.errors import Overloaded, SurfaceFailed
from interlock.server.surface.sqlite.writer import Writer, reraise
from interlock.server.system.supervision import progressed
from interlock.server.system.transient import Checks

_LOOK_S: Final = 1.0
_PAUSE_S: Final = 0.05


class FileIdentity:
    """The identities of an open database's files in WAL mode, as they are now."""

    def __init__(self, database: Path) -> None:
        self._files = {path: identity(path) for path in (database, database.with_name(f"{database.name}-wal"))}
        self._checks = Checks(database)

    def check(self) -> None:
        """Look the files up by name. Wait while the machine is short of memory, because nothing unchecked may be acknowledged.

        Raises:
            SurfaceFailed: a file is gone, or another file has its name.
        """
        for path, known in self._files.items():
            if self._look_up(path) != known:
                raise SurfaceFailed(f"{path} is another file now")
        self._checks.succeeded()

    def _look_up(self, path: Path) -> tuple[int, int]:
        while True:
            try:
                return identity(path)
            except OSError as error:
                if not self._checks.excuse(error):
                    raise SurfaceFailed(f"{path} is gone: {error.strerror}") from error
            sleep(_PAUSE_S)


async def keep_looking(writer: Writer) -> None:
    """Commit an empty batch every second, so that a missing file is noticed while the server is idle."""
    while True:
        progressed()
        await asyncio.sleep(_LOOK_S)
        with suppress(SurfaceFailed, Overloaded):
            await writer.submit(lambda _connection: None, reraise)


def identity(path: Path) -> tuple[int, int]:
    """Return what tells the file at ``path`` from any other: its device and inode.

    Raises:
        OSError: there is none, or it can't be looked up.
    """
    status = path.stat()
    return status.st_dev, status.st_ino
