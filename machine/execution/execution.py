"""One execution: its fields, its guards, and ``evolve``, which applies a recorded transition to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from interlock.machine.account.commitments import Commitment
from interlock.machine.execution.commands import (
    CancelReason,
    Effects,
    FailureReason,
    InterruptionReason,
    OnSessionEnd,
)
from interlock.machine.machine import Keys, Transition, after

MAX_ATTEMPTS: Final = 5
"""How often an execution is started. Code that ends the server process would otherwise end it until its time is over."""


class Execution(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one execution after ``version`` transitions. Times are integer milliseconds since the Unix epoch.

    ``state`` is None at version 0, before ``accept``. ``node`` is the server process that runs it, None while it is not
    running. ``attempt`` is the number of starts so far. ``started_at_ms`` is the time of the last start, 0 before the first.
    ``reason`` is why it failed or was cancelled. The other fields are those of
    :class:`~interlock.machine.execution.commands.Accept`, ``Succeed`` and ``Fail``.
    """

    execution_id: str
    state: str | None = None
    version: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0
    session_id: str = ""
    subject: str | None = None
    realm: str = ""
    intent: str = ""
    intent_id: str = ""
    fingerprint: Commitment | None = None
    effects: Effects = "once"
    on_session_end: OnSessionEnd = "cancel"
    timeout_ms: int = 0
    parent: str | None = None
    node: str | None = None
    attempt: int = 0
    started_at_ms: int = 0
    reason: FailureReason | InterruptionReason | CancelReason | None = None
    result: Commitment | None = None
    error: Commitment | None = None

    @property
    def deadline_ms(self) -> int:
        """When the time of the execution is over, whether or not it has started: ``timeout_ms`` after its acceptance."""
        return self.created_at_ms + self.timeout_ms


def _owner(execution: Execution, data: Any, _now_ms: int) -> bool:
    running = (execution.node, execution.attempt) if execution.node is not None else (None, None)
    return bool((data.node, data.attempt) == running)


def _repeatable(execution: Execution, _data: Any, _now_ms: int) -> bool:
    return execution.effects != "once" and execution.attempt < MAX_ATTEMPTS


GUARDS: Final[dict[str, Callable[[Execution, Any, int], bool]]] = {"owner": _owner, "repeatable": _repeatable}


def keys(execution: Execution) -> Keys:
    """Return the fields of ``execution`` that lists, timers and recovery use."""
    return Keys(
        owner=execution.subject,
        deadline_ms=execution.deadline_ms,
        reason=execution.reason,
        busy=execution.node is not None,
    )


def evolve(execution: Execution, transition: Transition) -> Execution:
    """Return ``execution`` after ``transition``. The caller passes decided transitions in version order."""
    return after(execution, transition, _CHANGED[transition.event](execution, transition, transition.data))


_CHANGED: Final[dict[str, Callable[[Execution, Transition, Any], dict[str, Any]]]] = {
    "accept": lambda _, step, data: {"created_at_ms": step.at_ms, **msgspec.structs.asdict(data)},
    "start": lambda before, step, data: {
        "node": data.node,
        "attempt": before.attempt + 1,
        "started_at_ms": step.at_ms,
    },
    "succeed": lambda _before, _step, data: {"node": None, "result": data.result},
    "fail": lambda _before, _step, data: {"node": None, "reason": data.reason, "error": data.error},
    # Only an end has a reason.
    "interrupt": lambda _, step, data: {"node": None, "reason": data.reason if step.target == "failed" else None},
    "cancel": lambda _before, _step, data: {"node": None, "reason": data.reason},
}
