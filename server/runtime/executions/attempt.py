"""One attempt of an execution: the task that runs the realm's code, and the calls that the code may make."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from interlock.context import Context, Invocation, Outcome
from interlock.realm import Intent, error_text
from interlock.server.runtime.executions.foreign import RealmCodeStopped, foreign_task
from interlock.strict_json import portable_json

if TYPE_CHECKING:
    from interlock.server.runtime.executions.run import Run


def begin(intent: Intent, invocation: Invocation, host: AttemptHost, parameters: msgspec.Struct) -> asyncio.Task[bytes]:
    """Return the task that runs the realm's code."""
    context = Context(intent, invocation, host)
    code = foreign_task(intent.run(context, parameters), host.held, name=f"interlock-{intent.name}")
    code.add_done_callback(ignore_error)
    return code


def ignore_error(task: asyncio.Task[Any]) -> None:
    """Note that the error of ``task``, which has ended, may be of no interest. Else asyncio reports it as a fault."""
    if not task.cancelled():
        task.exception()


def text_of(error: BaseException) -> str:
    """Return what the owner of an execution may read of the error that ended it."""
    cause = error.__cause__ if isinstance(error, RealmCodeStopped) else None
    return error_text(cause or error)


class AttemptHost:
    """The calls that the realm's code may make. Implements :class:`interlock.context.Host`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def cancelled(self) -> bool:
        """Whether the cancellation of the attempt has begun."""
        return self._run.stopped.done()

    async def emit(self, value: bytes) -> None:
        """Send ``value``, JSON, to the clients that follow the execution."""
        self._check()
        self._run.parts.progress(self._run.execution, value)
        # So that code which only emits does not hold the event loop, and hears of its cancellation.
        await asyncio.sleep(0)

    async def submit(self, intent_id: str, name: str, parameters: bytes) -> str:
        """Submit the intent ``name`` as a child of this execution, in its session. Return the execution id.

        Raises:
            InterlockError: it is refused, as a client's would be.
        """
        self._check()
        executions, parent = self._run.parts.executions, self._run.execution
        session, under = await executions.standing(parent.session_id)
        self._run.parts.count_submission(parent.subject or "")
        accepted = await executions.accept(session, under, intent_id, name, parameters, parent=parent)
        return accepted.execution.execution_id

    async def outcome(self, execution_id: str) -> Outcome:
        """Wait until the execution has ended, and return how."""
        execution = await self._run.parts.outcome(execution_id)
        data = await self._run.parts.executions.data(execution_id)
        return Outcome(
            state=execution.state,  # type: ignore[arg-type]  # it has ended
            result=None if data.result is None else portable_json(data.result.encode()),
            reason=execution.reason,
            error=data.error,
        )

    def held(self, seconds: float) -> None:
        """Note that one step of the code took ``seconds``."""
        self._run.parts.held(self._run.execution, seconds)

    def _check(self) -> None:
        """Stop code that goes on although it was cancelled, and tasks that it has left behind."""
        code = self._run.code
        if self._run.stopped.done() or code is None or code.done():
            raise asyncio.CancelledError
