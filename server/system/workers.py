"""Threads for work that would block the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import structlog

from interlock.machine.errors import Overloaded

_log = structlog.get_logger("interlock.server")


class Job(Protocol):
    """Work of a thread, whose caller awaits ``future``."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """Resolved when the job is done."""
        ...


J = TypeVar("J", bound=Job)


class Workers(Generic[J]):
    """``threads`` threads with one job queue, of which at most ``max_waiting`` are queued or in progress.

    The jobs of one turn of the event loop are queued together, when it ends. A thread woken by the first of them would
    compete with the loop for the interpreter's lock, and find one job instead of many.

    ``serve`` is called in a thread with at most ``at_once`` jobs, in order, and has the event loop call :meth:`settle` with
    them. If it raises, the futures of these jobs get a RuntimeError, and the thread continues. A job counts until it is
    settled, even if its caller is gone. ``on_start`` is called once in each thread, which works even if that fails.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[list[J]], None],
        *,
        max_waiting: int,
        at_once: int = 1,
        threads: int = 1,
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._serve = serve
        self._max_waiting = max_waiting
        self._at_once = at_once
        self._on_start = on_start
        self._unsettled: set[J] = set()
        self._given: list[J] = []
        self._queue: queue.SimpleQueue[J | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]

    @property
    def waiting(self) -> int:
        """How many jobs are queued or in progress."""
        return len(self._unsettled)

    def start(self) -> None:
        """Start the threads. Call it once."""
        for thread in self._threads:
            thread.start()

    def give(self, job: J) -> None:
        """Queue ``job``; if too many wait, its future gets Overloaded. Call it on the event loop."""
        if len(self._unsettled) >= self._max_waiting:
            job.future.set_exception(Overloaded())
            return
        self._unsettled.add(job)
        if not self._given:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._given.append(job)

    def settle(self, jobs: Sequence[J], outcomes: Sequence[Any]) -> None:
        """Resolve the future of each job with its result or exception. Call it on the event loop."""
        self._unsettled.difference_update(jobs)
        settle([job.future for job in jobs], outcomes)

    def take_back(self) -> list[J]:
        """Remove and return the jobs that no thread has begun."""
        self._hand_over()
        return list(self._rest())

    def stop(self) -> None:
        """End the threads after the jobs given so far. Give none after this."""
        self._hand_over()
        for _ in self._threads:
            self._queue.put(None)

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in self._threads:
            thread.join()

    def _hand_over(self) -> None:
        given, self._given = self._given, []
        for job in given:
            self._queue.put(job)

    def _rest(self) -> Iterator[J]:
        """Yield every queued job."""
        with suppress(queue.Empty):
            while (job := self._queue.get_nowait()) is not None:
                yield job
            # Another thread's end marker, which is read again when the jobs before it are done.
            self._queue.put(None)

    def _work(self) -> None:
        if self._on_start is not None:
            self._guarded(self._on_start)
        while (job := self._queue.get()) is not None:
            jobs = [job, *islice(self._rest(), self._at_once - 1)]
            error = self._guarded(self._serve, jobs)
            if error is not None:
                outcomes = [_failed(self._name, error) for _ in jobs]
                self._guarded(job.future.get_loop().call_soon_threadsafe, self.settle, jobs, outcomes)

    def _guarded(self, call: Callable[..., object], *arguments: object) -> Exception | None:
        """Call ``call``. Log and return its exception: a dead thread would leave every later caller waiting."""
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001  # the thread continues after any failure
            _log.critical("background.failed", work=self._name, exc_info=error)
            return error
        return None


def _failed(name: str, error: Exception) -> RuntimeError:
    """Return a new exception for one caller: an exception collects the traceback of each caller that raises it."""
    failed = RuntimeError(f"{name} failed")
    failed.__cause__ = error
    return failed


def settle(futures: Iterable[asyncio.Future[Any]], outcomes: Iterable[Any]) -> None:
    """Resolve each future with its result or exception. Skip those whose caller is gone."""
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
