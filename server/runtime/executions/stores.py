"""Questions to the stores of realms. A store is foreign code: it may fail, and it may hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from interlock.machine.execution.execution import Execution
from interlock.realm import Store
from interlock.server.runtime.executions.attempt import ignore_error
from interlock.server.runtime.executions.foreign import foreign_task

T = TypeVar("T")

_log = structlog.get_logger("interlock.executions")

ANSWER_S: Final = 5.0
"""How long a store may take for one answer before it counts as unreachable."""

_AGAIN_S: Final = (0.1, 1.0, 5.0, 15.0)
"""The pauses before the next question to a store that did not answer. The last one repeats."""


class Stores:
    """Asks stores until they answer. Only the execution that a question is about waits for the answer."""

    def __init__(self, held: Callable[[Execution, float], None]) -> None:
        """``held`` is called with the seconds for which a store's code has held the event loop."""
        self._held = held
        self._prepared: set[int] = set()
        self._preparing: dict[int, asyncio.Task[None]] = {}
        self.calls: Final[set[asyncio.Task[Any]]] = set()
        """The calls in progress. A call may last longer than its caller."""

    async def close(self, store: Store, execution: Execution) -> bytes | None:
        """Close all attempts of ``execution`` so far, and return the committed result, or None.

        While the store does not answer, it is unknown whether the realm's transaction was committed. So this waits as long as
        that is unknown: any outcome that was recorded now could be the wrong one.
        """
        return await self._insist(store, lambda: store.close(execution.execution_id, execution.attempt), execution)

    async def prepare(self, store: Store, execution: Execution) -> None:
        """Have ``store`` create what it needs, once."""
        await self._insist(store, _nothing, execution)

    async def _insist(self, store: Store, question: Callable[[], Coroutine[Any, Any, T]], execution: Execution) -> T:
        tries = 0
        while True:
            try:
                await self._prepare_once(store, execution)
                return await self._answer(question(), execution)
            except _Unanswered:
                pass
            except Exception as error:  # noqa: BLE001  # foreign code
                _log_failure(execution, error)
            await asyncio.sleep(_AGAIN_S[min(tries, len(_AGAIN_S) - 1)])
            tries += 1

    async def _prepare_once(self, store: Store, execution: Execution) -> None:
        """Prepare ``store``, or wait for who does. While it hangs, executions end, and each would leave a thread behind."""
        if id(store) in self._prepared:
            return
        preparing = self._preparing.get(id(store))
        if preparing is None:
            preparing = self._preparing[id(store)] = asyncio.create_task(self._answer(store.prepare(), execution))
            self.calls.add(preparing)
            preparing.add_done_callback(self.calls.discard)
            preparing.add_done_callback(ignore_error)
            preparing.add_done_callback(lambda _: self._preparing.pop(id(store)))
        await asyncio.shield(preparing)
        self._prepared.add(id(store))

    async def _answer(self, question: Coroutine[Any, Any, T], execution: Execution) -> T:
        """Return the answer of a store. Cancel the call if it takes too long, and wait for its end, which may never come.

        Raises:
            _Unanswered: the call has ended without an answer, which is logged.
            Exception: whatever the store raises.
        """
        call = foreign_task(question, partial(self._held, execution))
        self.calls.add(call)
        call.add_done_callback(self.calls.discard)
        call.add_done_callback(ignore_error)
        try:
            await asyncio.wait({call}, timeout=ANSWER_S)
            if not call.done():
                _log_failure(execution, TimeoutError(f"no answer within {ANSWER_S:g} s"))
                call.cancel()
                # A call in a thread can't be cancelled. Another question beside it would not be answered either.
                while not (await asyncio.wait({call}, timeout=_AGAIN_S[-1]))[0]:
                    _log_failure(execution, TimeoutError("still no answer, and the call has not ended"))
                if call.cancelled():
                    raise _Unanswered
            if call.cancelled():
                raise RuntimeError("the store's code cancelled itself")
            return call.result()
        finally:
            call.cancel()


class _Unanswered(Exception):
    """A store has not answered in time."""


def _log_failure(execution: Execution, error: Exception) -> None:
    _log.error("execution.store_failed", execution_id=execution.execution_id, exc_info=error)


async def _nothing() -> None:
    """Ask nothing: the store only has to be prepared."""
