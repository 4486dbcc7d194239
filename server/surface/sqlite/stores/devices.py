"""Devices of sessions in the log's database file."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from interlock.server.surface.devices import Device, SessionDevice
from interlock.server.surface.log import Along
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.writer import Writer, reraise

DEVICE_TABLES: Final = (
    """
    CREATE TABLE session_devices (
        session_id TEXT PRIMARY KEY,
        account_id TEXT NOT NULL,
        name TEXT NOT NULL CHECK (length(name) <= 64),
        address TEXT NOT NULL CHECK (length(address) <= 64),
        seen_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX session_devices_of_account ON session_devices (account_id)",
    "CREATE INDEX session_devices_by_time ON session_devices (seen_at_ms)",
)
ERASE_OF_ACCOUNT: Final = "DELETE FROM session_devices WHERE account_id = ?"

_COLUMNS: Final = "session_id, account_id, name, address, seen_at_ms"
_PUT: Final = f"INSERT OR REPLACE INTO session_devices ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608  # names of ours
_COUNT_SOME: Final = "SELECT count(*) FROM (SELECT 1 FROM session_devices WHERE seen_at_ms < ? LIMIT ?)"
_COUNT: Final = "SELECT count(*) FROM session_devices"
_ERASE: Final = """
    DELETE FROM session_devices WHERE session_id IN (SELECT session_id FROM session_devices ORDER BY seen_at_ms LIMIT ?)
"""


def read_devices(connection: Connection, session_ids: Collection[str]) -> dict[str, SessionDevice]:
    """Return what is stored of these sessions, by session id."""
    places = ", ".join("?" * len(session_ids))
    query = f"SELECT {_COLUMNS} FROM session_devices WHERE session_id IN ({places})"  # noqa: S608  # placeholders
    rows = connection.execute(query, tuple(session_ids))
    return {row[0]: SessionDevice(row[0], row[1], Device(row[2], row[3]), row[4]) for row in rows}


class Erased(msgspec.Struct, frozen=True):
    """The outcome of a unit of the writer that erased ``rows`` of personal data."""

    rows: int


class SqliteDevices:
    """:class:`DeviceStore` in the log's database file."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    def put(self, seen: SessionDevice) -> Along:
        """See :meth:`DeviceStore.put`."""
        device = seen.device
        values = (seen.session_id, seen.account_id, device.name, device.address, seen.seen_at_ms)

        def run(connection: Connection) -> None:
            connection.execute(_PUT, values)

        return run

    async def of_sessions(self, session_ids: Collection[str]) -> dict[str, SessionDevice]:
        """See :meth:`DeviceStore.of_sessions`."""
        return await self._reader.run(lambda connection: read_devices(connection, session_ids))

    async def erase(self, seen_before_ms: int, keep: int, limit: int) -> int:
        """See :meth:`DeviceStore.erase`. It writes only if there is something to erase."""

        def due(connection: Connection) -> int:
            (old,) = connection.execute(_COUNT_SOME, (seen_before_ms, limit)).fetchone()
            (stored,) = connection.execute(_COUNT).fetchone()
            return int(min(limit, max(old, stored - keep)))

        if not await self._reader.run(due):
            return 0

        def run(connection: Connection) -> Erased:
            return Erased(connection.execute(_ERASE, (due(connection),)).rowcount)

        return (await self._writer.submit(run, reraise)).rows
