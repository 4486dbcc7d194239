"""Executions for tests: steps decided by the machine, with the data beside them."""

from __future__ import annotations

import itertools
from typing import Final

import msgspec

from interlock.machine.execution.commands import Accept, Data, Fail, Succeed, execution_id_of
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machine import Command
from interlock.server.surface.executions import ExecutionData
from interlock.server.surface.log import Along, Step
from tests.support.steps import NOW_MS

KEY: Final = bytes(range(32))

_numbers = itertools.count(1)


class ExecutionStory:
    """Builds one execution step by step. ``execution`` is its current state, ``data`` what is to be stored of it."""

    def __init__(self, subject: str = "acc_1", *, intent_id: str = "i1", parameters: str = '{"a":1}') -> None:
        self.data = ExecutionData(execution_id_of(subject, intent_id), KEY, parameters)
        self.execution = EXECUTION_MACHINE.absent(self.data.execution_id)
        self._subject = subject
        self._intent_id = intent_id

    def tell(self, data: Data, along: Along | None = None) -> list[Step]:
        command = Command(f"cmd-e{next(_numbers)}", "server", data)
        transition = EXECUTION_MACHINE.decide(self.execution, command, NOW_MS)
        self.execution = EXECUTION_MACHINE.evolve(self.execution, transition)
        return [Step(transition, self.execution, along)]

    def accept(self, along: Along | None = None) -> list[Step]:
        who = ("session-1", self._subject, "notes", "notes.create", self._intent_id)
        return self.tell(Accept(*who, self.data.fingerprint, "once", "cancel", 30_000), along)

    def result(self, result: str) -> None:
        self.data = msgspec.structs.replace(self.data, result=result)

    def succeed(self, result: str, along: Along | None = None) -> list[Step]:
        self.result(result)
        committed = self.data.committed_result
        assert committed is not None
        return self.tell(Succeed(self.execution.node or "", self.execution.attempt, committed), along)

    def fail(self, error: str, along: Along | None = None) -> list[Step]:
        self.data = msgspec.structs.replace(self.data, error=error)
        execution = self.execution
        return self.tell(Fail("error", execution.node, execution.attempt, self.data.committed_error), along)
