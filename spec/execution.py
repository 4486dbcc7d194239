"""The execution lifecycle: the run of an intent, from its acceptance to its one outcome.

It is declared like the session lifecycle in :mod:`interlock.spec.session`. Records contain no parameters, results or error
texts, only keyed commitments to them.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from statemachine import Event, State, StateMachine


class ExecutionGuards(Protocol):
    """The conditions of transitions, over an execution and a command. Each is pure and returns true or false."""

    def owner(self) -> bool:
        """The command names the server process and the attempt that run the execution now, or none if none does."""
        ...

    def repeatable(self) -> bool:
        """The declared effects are idempotent or transactional, and fewer than 5 attempts were begun."""
        ...


class ExecutionLifecycle(StateMachine):
    """An execution, from the acceptance of an intent to its outcome."""

    creation: ClassVar[tuple[str, str]] = ("accept", "A client submits an intent, and the server takes it.")

    accepted = State("The intent is accepted, and waits to be started.", initial=True)
    running = State("A server process runs the realm's code.")
    succeeded = State("The realm's code has returned a result; nothing follows.", final=True)
    failed = State("The execution has ended without a result; nothing follows.", final=True)
    cancelled = State("The execution was stopped before it had an outcome of its own; nothing follows.", final=True)

    start = Event(accepted.to(running), name="A server process begins an attempt.")
    succeed = Event(running.to(succeeded, cond="owner"), name="The attempt has a result.")
    fail = Event(
        running.to(failed, cond="owner") | accepted.to(failed, cond="owner"),
        name="The attempt has raised an error or run out of time, or the execution can't be started any more.",
    )
    interrupt = Event(
        running.to(accepted, cond=["owner", "repeatable"]) | running.to(failed, cond="owner", unless="repeatable"),
        name="The attempt is lost with its server process: it is repeated as effects and attempts allow, else it has failed.",
    )
    cancel = Event(
        accepted.to(cancelled) | running.to(cancelled),
        name="Its owner cancels the execution, or its session ends; what the attempt returns later is refused.",
    )
