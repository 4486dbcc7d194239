"""The executions that have not ended, and the limits of their number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from interlock.machine.errors import TooManyExecutions
from interlock.machine.execution.commands import Accept
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Record

Whose: TypeAlias = Literal["session", "account", "realm"]


class ExecutionLimits(msgspec.Struct, frozen=True):
    """How many executions without an outcome a session, an account and a realm may have.

    ``depth`` is how long a chain of executions may be in which each submits the next.
    """

    session: int
    account: int
    realm: int
    depth: int


_Owners: TypeAlias = tuple[tuple[Whose, str], ...]
"""The session, the account and the realm of an execution."""


class LiveExecutions:
    """The ids of all executions that have not ended, by session, account and realm, whichever process accepted them.

    It follows the log, so the numbers are exact. An execution that is about to be accepted is counted from its reservation on.
    """

    def __init__(self, limits: ExecutionLimits) -> None:
        self.limits: Final = limits
        self._owners: dict[str, _Owners] = {}
        self._reserved: set[str] = set()
        self._ids: dict[tuple[Whose, str], set[str]] = {}

    def __len__(self) -> int:
        """Return the number of executions."""
        return len(self._owners)

    def of(self, whose: Whose, name: str) -> list[str]:
        """Return the ids of the executions of one session, account or realm."""
        return list(self._ids.get((whose, name), ()))

    def restore(self, executions: Iterable[Execution]) -> None:
        """Start from all executions that have not ended."""
        for each in executions:
            self._add(each.execution_id, _owners(each.session_id, each.subject or "", each.realm))

    def reserve(self, execution_id: str, session_id: str, subject: str, realm: str) -> None:
        """Count an execution that is about to be accepted. The caller must call :meth:`release`.

        Raises:
            TooManyExecutions: a limit is reached; nothing was counted.
        """
        owners = _owners(session_id, subject, realm)
        for owner in owners:
            whose, _ = owner
            if len(self._ids.get(owner, ())) >= getattr(self.limits, whose):
                raise TooManyExecutions(whose)
        self._add(execution_id, owners)
        self._reserved.add(execution_id)

    def release(self, execution_id: str) -> None:
        """End a reservation: from now on the execution counts only if its acceptance was recorded."""
        if execution_id in self._reserved:
            self._reserved.discard(execution_id)
            self._remove(execution_id)

    def observe(self, record: Record, _execution: Any) -> None:
        """Count an execution from its acceptance to its end."""
        move = record.transition
        if isinstance(move.data, Accept):
            self._reserved.discard(move.instance_id)
            owners = _owners(move.data.session_id, move.data.subject, move.data.realm)
            if self._owners.get(move.instance_id) != owners:
                # It was not reserved, or another process has accepted it in another session of the account.
                self._remove(move.instance_id)
                self._add(move.instance_id, owners)
        elif move.target in EXECUTION_MACHINE.final:
            self._remove(move.instance_id)

    def _add(self, execution_id: str, owners: _Owners) -> None:
        self._owners[execution_id] = owners
        for owner in owners:
            self._ids.setdefault(owner, set()).add(execution_id)

    def _remove(self, execution_id: str) -> None:
        for owner in self._owners.pop(execution_id, ()):
            ids = self._ids[owner]
            ids.discard(execution_id)
            if not ids:
                del self._ids[owner]


def _owners(session_id: str, subject: str, realm: str) -> _Owners:
    return ("session", session_id), ("account", subject), ("realm", realm)
