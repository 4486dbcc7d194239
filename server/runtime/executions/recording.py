"""The data of executions whose records this process is writing, so that nobody reads it back from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from interlock.machine.execution.execution import Execution
from interlock.server.surface.executions import ExecutionData


class DataBeingRecorded:
    """What is stored along records that are being written. The followers of the log find it here when they get the record."""

    def __init__(self) -> None:
        self._held: dict[str, ExecutionData] = {}

    @contextmanager
    def hold(self, data: ExecutionData) -> Iterator[None]:
        """Keep ``data`` while the caller writes the record that commits to it."""
        self._held[data.execution_id] = data
        try:
            yield
        finally:
            if self._held.get(data.execution_id) is data:
                del self._held[data.execution_id]

    def of(self, execution: Execution) -> ExecutionData | None:
        """Return the data that the records of ``execution`` commit to, or None if it is not held: then read it."""
        data = self._held.get(execution.execution_id)
        return data if data is not None and data.is_of(execution) else None
