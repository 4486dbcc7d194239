"""The parameters, results and errors of executions as stored beside the log. The log holds commitments to them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from interlock.machine.account.commitments import Commitment, commit
from interlock.machine.errors import SurfaceFailed
from interlock.machine.execution.execution import Execution
from interlock.server.surface.log import Along


class ExecutionData(msgspec.Struct, frozen=True):
    """The data of the execution ``execution_id``. ``key`` (32 bytes) is the key of the commitments to it.

    ``parameters`` and ``result`` are JSON; ``error`` is a text that its owner may see. ``result`` is None until the execution
    has succeeded, ``error`` until it has failed with an error.
    """

    execution_id: str
    key: bytes
    parameters: str
    result: str | None = None
    error: str | None = None

    @property
    def fingerprint(self) -> Commitment:
        """The commitment to ``parameters``."""
        return commit(self.key, "parameters", self.parameters)

    @property
    def committed_result(self) -> Commitment | None:
        """The commitment to ``result``."""
        return None if self.result is None else commit(self.key, "result", self.result)

    @property
    def committed_error(self) -> Commitment | None:
        """The commitment to ``error``."""
        return None if self.error is None else commit(self.key, "error", self.error)

    def is_of(self, execution: Execution) -> bool:
        """Return whether the records of ``execution`` commit to exactly this data."""
        return (self.execution_id, self.fingerprint, self.committed_result, self.committed_error) == (
            execution.execution_id,
            execution.fingerprint,
            execution.result,
            execution.error,
        )


def data_differs(execution_id: str) -> SurfaceFailed:
    """Return the error for data that differs from what the execution's records commit to."""
    return SurfaceFailed(
        f"the stored data of execution {execution_id} is not what its records are about: something other than the server has"
        " changed it. Keep everything as it is, and look at it with `interlock verify`"
    )


class ExecutionStore(Protocol):
    """The store of executions' data. Every implementation passes the same contract suite."""

    async def by_id(self, execution_id: str) -> ExecutionData | None:
        """Return the data of an execution, compared with its projection in one snapshot.

        None if there is no such execution, or its account was deleted.

        Raises:
            SurfaceFailed: the data is not what the execution's records commit to.
        """
        ...

    def add(self, data: ExecutionData) -> Along:
        """Store the parameters of a new execution in the transaction of a step."""
        ...

    def finish(self, execution_id: str, *, result: str | None = None, error: str | None = None) -> Along:
        """Store the result or the error of an execution in the transaction of a step.

        Nothing is stored if its account was deleted: its data has been erased.
        """
        ...
