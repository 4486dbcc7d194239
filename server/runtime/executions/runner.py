"""The runner: starts accepted executions, and records what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from interlock.machine.execution.execution import Execution
from interlock.machine.machine import Authority
from interlock.machine.session.session import Session

Progress: TypeAlias = Callable[[Execution, bytes], None]
"""Called on the event loop with a running execution and a value, as JSON, that its code has emitted."""


class Runner:
    """Runs the realms' code, one task per execution. Every accepted execution gets one outcome.

    It learns of acceptances from the log's feed, so nobody calls it to start an execution. ``subscribe_progress`` is called by
    the one consumer of progress.
    """

    def subscribe_progress(self, sink: Progress) -> None:
        """Call ``sink`` with every value that running code emits, from now on."""
        raise NotImplementedError

    async def cancel(self, session: Session, under: Authority, execution_id: str) -> Execution:
        """Cancel an execution of the session's account, and return it once it has ended.

        Its code has 5 s to stop. After that, it is recorded as cancelled whatever the code does. An execution that has ended
        otherwise keeps its outcome. While a realm's store can't say whether it has committed the result, the execution is
        returned as it is, and ends when the store answers.

        Raises:
            ExecutionNotFound: there is none, or it is another account's.
            CredentialRefused: ``under`` is no longer valid; the execution goes on.
            Overloaded, SurfaceFailed: nothing was acknowledged.
        """
        raise NotImplementedError

    async def outcome(self, execution_id: str) -> Execution:
        """Wait until the execution has ended, and return it. Wait without limit: the caller sets a timeout.

        Raises:
            ExecutionNotFound: there is none.
            SurfaceFailed: the log has stopped.
        """
        raise NotImplementedError
