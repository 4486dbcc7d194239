"""Questions to the stores of realms. A store is foreign code: it may fail, and it may hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import structlog

from interlock.realm import Store
from interlock.server.runtime.executions.foreign import foreign_task

T = TypeVar("T")

_log = structlog.get_logger("interlock.executions")

ANSWER_S: Final = 5.0
"""How long a store may take for one answer before it counts as unreachable."""

_AGAIN_S: Final = (0.1, 1.0, 5.0, 15.0)
"""The pauses before the next question to a store that did not answer. The last one repeats."""


class Stores:
    """Asks stores until they answer. Only the execution that a question is about waits for the answer."""

    def __init__(self) -> None:
        self._prepared: set[int] = set()
        self.calls: Final[set[asyncio.Task[Any]]] = set()
        """The calls in progress. A call may last longer than its caller."""

    async def close(self, store: Store, execution_id: str, attempt: int) -> bytes | None:
        """Close all attempts up to ``attempt``, and return the committed result, or None.

        While the store does not answer, it is unknown whether the realm's transaction was committed. So this waits as long as
        that is unknown: any outcome that was recorded now could be the wrong one.
        """
        return await self._insist(store, lambda: store.close(execution_id, attempt), execution_id)

    async def prepare(self, store: Store, execution_id: str) -> None:
        """Have ``store`` create what it needs, once."""
        await self._insist(store, _nothing, execution_id)

    async def _insist(self, store: Store, question: Callable[[], Coroutine[Any, Any, T]], execution_id: str) -> T:
        tries = 0
        while True:
            try:
                if id(store) not in self._prepared:
                    await self._answer(store.prepare())
                    self._prepared.add(id(store))
                return await self._answer(question())
            except Exception as error:  # noqa: BLE001  # foreign code
                _log.error("execution.store_failed", execution_id=execution_id, exc_info=error)
            await asyncio.sleep(_AGAIN_S[min(tries, len(_AGAIN_S) - 1)])
            tries += 1

    async def _answer(self, question: Coroutine[Any, Any, T]) -> T:
        call = foreign_task(question)
        self.calls.add(call)
        call.add_done_callback(self.calls.discard)
        try:
            await asyncio.wait({call}, timeout=ANSWER_S)
            if not call.done():
                call.cancel()
                # Another question beside this one would not be answered either.
                await asyncio.wait({call})
            if call.cancelled():
                raise TimeoutError(f"no answer within {ANSWER_S:g} s")
            return call.result()
        finally:
            call.cancel()


async def _nothing() -> None:
    """Ask nothing: the store only has to be prepared."""
