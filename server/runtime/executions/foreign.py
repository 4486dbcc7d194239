"""Tasks that run code of realms. It can't stop the event loop, and with it the server."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

T = TypeVar("T")

_foreign: Final = contextvars.ContextVar("interlock_foreign", default=False)


class RealmCodeStopped(Exception):
    """The realm's code raised an exception that no code should catch, such as SystemExit. It is the cause of this one."""


def foreign_task(code: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
    """Return a task that runs ``code`` of a realm. Nothing of the request that led to it is in its context variables."""
    context = contextvars.Context()
    context.run(_foreign.set, True)  # noqa: FBT003  # the value of the variable
    return asyncio.create_task(_Guarded(code, BaseException), name=name, context=context)


def guard_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have ``loop`` guard the tasks, too, that a realm's code creates: those of a TaskGroup, say."""
    loop.set_task_factory(_task)


class _Guarded(Coroutine[Any, Any, T]):
    """The coroutine ``code``, in which an error of the kind ``ending`` that no code should catch is a RealmCodeStopped.

    Not an ``async def``: if that is cancelled before it begins, Python warns that ``code`` was never awaited.
    """

    def __init__(
        self, code: Coroutine[Any, Any, T], ending: type[BaseException] | tuple[type[BaseException], ...]
    ) -> None:
        self._code = code
        self._ending = ending

    def __await__(self) -> Generator[Any, Any, T]:
        return self._code.__await__()

    def send(self, value: Any) -> Any:
        return self._step(self._code.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._code.throw, *error)

    def close(self) -> None:
        self._code.close()

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        try:
            return step(*given)
        except self._ending as error:
            if isinstance(error, Exception | asyncio.CancelledError | GeneratorExit):
                raise
            raise RealmCodeStopped from error


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    # A task that raises one of these stops the event loop.
    code = _Guarded(coroutine, (SystemExit, KeyboardInterrupt)) if _foreign.get() else coroutine
    return asyncio.Task(code, loop=loop, **options)
