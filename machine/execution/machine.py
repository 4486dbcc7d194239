"""The execution lifecycle as a runnable :class:`Machine`."""

from __future__ import annotations

from typing import Final, get_args

from interlock.machine.errors import ExecutionNotFound
from interlock.machine.execution.commands import Data
from interlock.machine.execution.execution import GUARDS, Execution, evolve, keys
from interlock.machine.execution.words import WORDS
from interlock.machine.machine import Machine
from interlock.spec.lifecycles import EXECUTION

EXECUTION_MACHINE: Final = Machine(
    EXECUTION,
    Execution,
    get_args(Data),
    evolve,
    GUARDS,
    keys=keys,
    copied={"owner": {"accept": "subject"}, "reason": dict.fromkeys(("fail", "interrupt", "cancel"), "reason")},
    counts={"attempt": ("start",)},
    # After a crash, a start records an interrupt for each attempt that was lost.
    essential=("interrupt",),
    words=WORDS,
    not_found=ExecutionNotFound,
)
