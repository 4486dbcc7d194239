"""Parameters, results and errors of executions in the log's database file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.server.surface.executions import ExecutionData, data_differs
from interlock.server.surface.log import Along
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Lookup, Reader
from interlock.server.surface.sqlite.rows import COMPARED_COLUMNS, compared

_DATA_COLUMNS: Final = "execution_id, commitment_key, parameters, result, error"
_DATA_WIDTH: Final = _DATA_COLUMNS.count(",") + 1
_JOINED: Final = (
    "execution_data CROSS JOIN instances ON instances.kind = 'execution' AND instances.instance_id = execution_id"
)
_INSERT: Final = f"INSERT INTO execution_data ({_DATA_COLUMNS}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608  # names of ours
_FINISH: Final = "UPDATE execution_data SET result = ?, error = ? WHERE execution_id = ?"
_ROW: Final = f"SELECT {_DATA_COLUMNS} FROM execution_data WHERE execution_id = ?"  # noqa: S608  # names of ours
_COUNT: Final = "SELECT count(*) FROM execution_data"
_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE (type, name) = ('table', 'execution_data')"
_DELETED: Final = "SELECT 1 FROM instances WHERE (kind, instance_id, ended) = ('account', ?, 1)"


class SqliteExecutions:
    """:class:`ExecutionStore` in the log's database file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def by_id(self, execution_id: str) -> ExecutionData | None:
        """See :meth:`ExecutionStore.by_id`."""
        return await self._reader.find(_BY_ID, execution_id)

    def add(self, data: ExecutionData) -> Along:
        """See :meth:`ExecutionStore.add`."""

        def run(connection: Connection) -> None:
            key = base64.b64encode(data.key).decode()
            connection.execute(_INSERT, (data.execution_id, key, data.parameters, data.result, data.error))

        return run

    def finish(self, execution_id: str, *, result: str | None = None, error: str | None = None) -> Along:
        """See :meth:`ExecutionStore.finish`."""

        def run(connection: Connection) -> None:
            connection.execute(_FINISH, (result, error, execution_id))

        return run


class DataCheck:
    """Compares the stored data of every execution with what its records commit to, for one pass over a log."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = 0
        # A log that no server of this version has opened yet has no such table, and no executions.
        self._stored = connection.execute(_TABLE).fetchone() is not None

    def fault_of(self, execution: Execution) -> str | None:
        """Return what is wrong with the data of ``execution``, or None. Call it once for each, after its last record."""
        row = self._connection.execute(_ROW, (execution.execution_id,)).fetchone() if self._stored else None
        deleted = self._connection.execute(_DELETED, (execution.subject,)).fetchone() is not None
        if row is None:
            return None if deleted else f"the data of execution {execution.execution_id} is missing"
        self._rows += 1
        if deleted:
            return f"there is data of execution {execution.execution_id}, whose account was deleted"
        try:
            good = _data(row).is_of(execution)
        except (ValueError, TypeError):
            good = False
        return None if good else f"the data of execution {execution.execution_id} is not what its records are about"

    def surplus(self) -> str | None:
        """Return what is wrong with the number of rows, or None. Call it after all executions."""
        (rows,) = self._connection.execute(_COUNT).fetchone() if self._stored else (0,)
        return None if rows == self._rows else f"there is data of {rows} executions, of which the log has {self._rows}"


def _data(row: Sequence[Any]) -> ExecutionData:
    execution_id, key, *rest = row
    return ExecutionData(execution_id, base64.b64decode(key, validate=True), *rest)


def _checked(row: Sequence[Any]) -> ExecutionData:
    execution = compared(EXECUTION_MACHINE, row[_DATA_WIDTH:])
    try:
        data = _data(row[:_DATA_WIDTH])
        good = data.is_of(execution)
    except (ValueError, TypeError):
        good = False
    if not good:
        raise data_differs(execution.execution_id)
    return data


_BY_ID: Final = Lookup(_JOINED, f"{_DATA_COLUMNS}, {COMPARED_COLUMNS}", "execution_id", _checked)
