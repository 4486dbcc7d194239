"""Texts about executions for people: why a guard failed, what a record says, and the execution's state at a given time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from interlock.machine.execution.commands import Accept, Cancel, Data, Fail, Interrupt, Start, Succeed
from interlock.machine.execution.execution import Execution
from interlock.machine.machine import Words
from interlock.machine.times import rfc3339

_NONE: Final = "A" * 43
"""A well-formed commitment that matches no value."""


def _runs(execution: Execution, data: Any) -> str:
    return f"{_attempt(execution.attempt, execution.node)} runs it, and this is {_attempt(data.attempt, data.node)}"


def _attempt(attempt: int | None, node: str | None) -> str:
    return f"attempt {attempt} on {node}" if attempt and node else "no attempt"


def _effects(execution: Execution, _data: Any) -> str:
    return f"its effects are {execution.effects}"


def _accepted(data: Accept, _before: Execution) -> str:
    parent = f", submitted by {data.parent}" if data.parent else ""
    return (
        f"{data.intent} of realm {data.realm} for {data.subject}, in session {data.session_id}, as {data.intent_id}{parent};"
        f" effects {data.effects}, {data.timeout_ms} ms; {data.on_session_end} when the session ends"
    )


def _started(data: Start, before: Execution) -> str:
    return _attempt(before.attempt + 1, data.node)


def _succeeded(data: Succeed, _before: Execution) -> str:
    return _attempt(data.attempt, data.node)


def _failed(data: Fail, _before: Execution) -> str:
    return f"{data.reason}, {_attempt(data.attempt, data.node)}"


def _interrupted(data: Interrupt, before: Execution) -> str:
    return f"{_attempt(data.attempt, data.node)}; {_effects(before, data)}"


def _cancelled(data: Cancel, before: Execution) -> str:
    return f"{data.reason}, {_attempt(before.attempt, before.node)}"


_PARTICULARS: Final[dict[str, Callable[[Any, Execution], str]]] = {
    "accept": _accepted,
    "start": _started,
    "succeed": _succeeded,
    "fail": _failed,
    "interrupt": _interrupted,
    "cancel": _cancelled,
}

# The data of a typical command: the attempt that runs the execution, if one does.
_LIKELY: Final[dict[str, Callable[[Execution, int], Data]]] = {
    "start": lambda _execution, _: Start("any node"),
    "succeed": lambda execution, _: Succeed(execution.node or "any node", execution.attempt, _NONE),
    "fail": lambda execution, _: Fail("error", execution.node, execution.attempt if execution.node else None),
    "interrupt": lambda execution, _: Interrupt(execution.node or "any node", execution.attempt),
    "cancel": lambda _execution, _: Cancel("asked"),
}


def _stands(execution: Execution, _now_ms: int) -> dict[str, Any]:
    return {
        "subject": execution.subject,
        "session_id": execution.session_id,
        "realm": execution.realm,
        "intent": execution.intent,
        "intent_id": execution.intent_id,
        "effects": execution.effects,
        "node": execution.node,
        "attempt": execution.attempt,
        "started_at": rfc3339(execution.started_at_ms) if execution.attempt else None,
        "deadline": rfc3339(execution.deadline_ms),
        "reason": execution.reason,
        "has_result": execution.result is not None,
    }


WORDS: Final = Words({"owner": _runs, "repeatable": _effects}, _PARTICULARS, _LIKELY, _stands)
