"""Tasks that run code of realms. It can't stop the event loop, and with it the server. Code that holds it is reported."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")

OnHeld: TypeAlias = Callable[[float], None]
"""Called after a step of code that has held the event loop too long, with its seconds."""

HELD_S: Final = 0.1
"""How long code may hold the event loop in one step, from one ``await`` that waits to the next."""

_on_held: Final[contextvars.ContextVar[OnHeld | None]] = contextvars.ContextVar("interlock_on_held", default=None)
"""Set in the tasks that run code of a realm, and in those that they create."""


class RealmCodeStopped(Exception):
    """The realm's code raised an exception that no code should catch, such as SystemExit. It is the cause of this one."""


def foreign_task(code: Coroutine[Any, Any, T], on_held: OnHeld, *, name: str | None = None) -> asyncio.Task[T]:
    """Return a task that runs ``code`` of a realm. Nothing of the request that led to it is in its context variables.

    ``on_held`` learns of its long steps, and of those of the tasks that it creates.
    """
    context = contextvars.Context()
    context.run(_on_held.set, on_held)
    return asyncio.create_task(_Guarded(code, BaseException, on_held), name=name, context=context)


def guard_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have ``loop`` guard the tasks, too, that a realm's code creates: those of a TaskGroup, say."""
    loop.set_task_factory(_task)


class _Guarded(Coroutine[Any, Any, T]):
    """The coroutine ``code``, in which an error of the kind ``ending`` that no code should catch is a RealmCodeStopped.

    Not an ``async def``: if that is cancelled before it begins, Python warns that ``code`` was never awaited.
    """

    def __init__(
        self,
        code: Coroutine[Any, Any, T],
        ending: type[BaseException] | tuple[type[BaseException], ...],
        on_held: OnHeld,
    ) -> None:
        self._code = code
        self._ending = ending
        self._on_held = on_held

    def __await__(self) -> Generator[Any, Any, T]:
        return self._code.__await__()

    def send(self, value: Any) -> Any:
        return self._step(self._code.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._code.throw, *error)

    def close(self) -> None:
        self._code.close()

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        # Not the event loop's clock, which stands still within a turn.
        began_s = time.perf_counter()
        try:
            return step(*given)
        except self._ending as error:
            if isinstance(error, Exception | asyncio.CancelledError | GeneratorExit):
                raise
            raise RealmCodeStopped from error
        finally:
            held_s = time.perf_counter() - began_s
            if held_s > HELD_S:
                self._on_held(held_s)


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    # A task that raises one of these stops the event loop.
    if (on_held := _on_held.get()) is not None:
        coroutine = _Guarded(coroutine, (SystemExit, KeyboardInterrupt), on_held)
    return asyncio.Task(coroutine, loop=loop, **options)
