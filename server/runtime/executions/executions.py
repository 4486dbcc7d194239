"""Executions: their acceptance under a session's authority, and who may read them."""

from __future__ import annotations

import msgspec

from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Receipt
from interlock.machine.machine import Authority
from interlock.machine.session.session import Session
from interlock.server.runtime.door import Door
from interlock.server.surface.directory import Cursor
from interlock.server.surface.executions import ExecutionData

__all__ = ["Accepted", "Cursor", "Execution", "ExecutionData", "Executions"]
"""Includes two types of the surface, which the experience uses but may not import from there."""


class Accepted(msgspec.Struct, frozen=True):
    """The answer to an intent: its execution, and the receipt of the record of its acceptance.

    ``repeated``: the intent had been accepted before; nothing was recorded now.
    """

    execution: Execution
    receipt: Receipt
    repeated: bool


class Executions(Door[Execution]):
    """All executions."""

    async def accept(  # noqa: PLR0913  # the parts of a submitted intent
        self,
        session: Session,
        under: Authority,
        intent_id: str,
        name: str,
        parameters: bytes,
        *,
        parent: Execution | None = None,
    ) -> Accepted:
        """Accept the intent ``name`` with the JSON ``parameters``, which ``session`` submits under the authority ``under``.

        The same account's same ``intent_id`` names the same execution, also while it runs: a repeat records nothing. ``parent``
        is the execution whose code submits the intent; None for a client.

        Raises:
            NotAuthenticated: the session is anonymous.
            IntentUnknown: no realm handles ``name``.
            ParametersRefused: the id or the parameters are malformed or too large; the error names the field.
            RoleMissing: the session's account has none of the intent's roles.
            IntentReused: the account used ``intent_id`` for another intent or for other parameters.
            TooManyExecutions: the session, the account or the realm has reached its limit of executions without an outcome.
            CredentialRefused: ``under`` is no longer valid.
            RateLimited, Overloaded, StorageLow, RecordRefused, SurfaceFailed: nothing was acknowledged.
        """
        raise NotImplementedError

    async def owned(self, session: Session, execution_id: str) -> Execution:
        """Return the current execution.

        Raises:
            ExecutionNotFound: there is none, or it is another account's.
        """
        raise NotImplementedError

    async def data(self, execution_id: str) -> ExecutionData:
        """Return the parameters, the result and the error of an execution, all as JSON.

        Raises:
            ExecutionNotFound: there is none, or its account was deleted.
            SurfaceFailed: they are not what the execution's records commit to.
        """
        raise NotImplementedError

    async def page(self, session: Session, before: Cursor | None, limit: int) -> list[Execution]:
        """Return at most ``limit`` executions of the session's account, newest first, that come after ``before``."""
        raise NotImplementedError

    async def receipt(self, execution: Execution) -> Receipt:
        """Return the receipt of the execution's last record."""
        raise NotImplementedError


assert EXECUTION_MACHINE  # noqa: S101  # the interface comes first
