"""The runner: starts accepted executions, and records what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

import structlog

from interlock.machine.account.account import RAISE_EPOCH, Account
from interlock.machine.errors import SessionEnded, SessionNotFound, SurfaceFailed
from interlock.machine.execution.commands import Accept
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Record
from interlock.machine.machine import Authority
from interlock.machine.session.session import FINAL_STATES, Session
from interlock.realm import GRACE_MS, Realms
from interlock.server.clock import Clock
from interlock.server.runtime.deadlines import Deadlines
from interlock.server.runtime.door import patiently
from interlock.server.runtime.executions.attempt import ignore_error
from interlock.server.runtime.executions.executions import Executions
from interlock.server.runtime.executions.foreign import guard_tasks
from interlock.server.runtime.executions.live import Whose
from interlock.server.runtime.executions.parts import RunParts
from interlock.server.runtime.executions.run import Run
from interlock.server.runtime.executions.stores import ANSWER_S, Stores
from interlock.server.surface.log import TransitionLog
from interlock.server.system.guarded import guarded
from interlock.server.system.supervision import progressed

_log = structlog.get_logger("interlock.executions")

Progress: TypeAlias = Callable[[Execution, bytes], None]
"""Called on the event loop with a running execution and a value, as JSON, that its code has emitted."""

_LONGEST_SLEEP_S: Final = 1.0
"""The wall clock may jump, so deadlines are checked at least this often."""

_AT_ONCE: Final = 1024

_CLOSE_S: Final = 1.0
"""How long code may take to stop when the server does."""


def _ignore(*_: object) -> None:
    """Do nothing: the default of callbacks."""


class Runner:
    """Runs the realms' code, one task per execution. Every accepted execution gets one outcome.

    It learns of acceptances, ends of sessions and losses of accounts from the log's feed: subscribe ``observe``,
    ``observe_session`` and ``observe_account``. ``node`` is the name of this server process. ``count_submission`` counts an
    intent that an account's running code submits, and raises RateLimited. ``on_late`` is called for each result that came
    after its execution had ended or was being stopped, ``on_held`` with a realm whose code has held the event loop, and for how
    many seconds.
    """

    def __init__(  # noqa: PLR0913  # what it works with, most by name
        self,
        executions: Executions,
        realms: Realms,
        clock: Clock,
        *,
        node: str,
        count_submission: Callable[[str], object] = _ignore,
        on_late: Callable[[], None] = _ignore,
        on_held: Callable[[str, float], None] = _ignore,
    ) -> None:
        self._executions = executions
        self._clock = clock
        self._stores = Stores(self._held)
        self._on_late = on_late
        self._on_held = on_held
        loop = asyncio.get_running_loop()
        guard_tasks(loop)
        self._parts = RunParts(
            executions=executions,
            realms=realms,
            stores=self._stores,
            node=node,
            now_ms=clock.now_ms,
            progress=self._emitted,
            outcome=self.outcome,
            count_submission=count_submission,
            late=self._late,
            held=self._held,
            grace=self._begin_grace,
            working=asyncio.Event(),
            draining=loop.create_future(),
            codes=set(),
        )
        self._sink: Progress = _ignore
        self._runs: dict[str, Run] = {}
        self._drivers: dict[str, asyncio.Task[None]] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._deadlines = Deadlines()
        self._overdue: set[str] = set()
        self._graces = Deadlines()
        self._in_grace: set[str] = set()
        self._wakes_at_ms = 0
        self._earlier = asyncio.Event()

    @property
    def running(self) -> int:
        """The number of executions whose code runs here, including cancelled code that does not stop."""
        return len(self._parts.codes)

    @property
    def busy(self) -> int:
        """The number of executions that this process leads to their outcome now."""
        return len(self._drivers)

    def subscribe_progress(self, sink: Progress) -> None:
        """Call ``sink`` with every value that running code emits, from now on."""
        self._sink = sink

    async def recover(self, log: TransitionLog) -> int:
        """Take over what this process's predecessor left. Return how many attempts were lost with it.

        Each lost attempt is interrupted before this returns, unless a realm's store does not say in time whether it committed
        the attempt's result: then it is interrupted, or succeeds, when the store answers. Attempts of other server processes
        are left alone. Nothing starts before :meth:`take_work`. Call it before the first acceptance, after all listeners have
        subscribed.
        """
        found: list[Execution] = []
        ids = [execution_id for _, execution_id in await log.live_deadlines(EXECUTION_MACHINE.kind)]
        for first in range(0, len(ids), _AT_ONCE):
            found += await asyncio.gather(*map(self._executions.load, ids[first : first + _AT_ONCE]))
        self._executions.live.restore(found)
        own = [each for each in found if each.node in {None, self._parts.node}]
        recovered = [asyncio.create_task(self._begin(each).recovered.wait()) for each in own]
        if recovered:
            _, late = await asyncio.wait(recovered, timeout=ANSWER_S)
            for each in late:
                each.cancel()
        return sum(each.node is not None for each in own)

    def take_work(self) -> None:
        """Start what waits, and from now on what is accepted. Call it once, after :meth:`recover`."""
        self._parts.working.set()

    def observe(self, record: Record, execution: Execution | None) -> None:
        """Begin what this process has accepted, and follow what becomes of it."""
        move = record.transition
        run = self._runs.get(move.instance_id)
        if run is not None:
            run.execution = execution or EXECUTION_MACHINE.evolve(run.execution, move)
            if run.over and run.code is not None and not run.code.done():
                # Another server process has ended it.
                run.stop("ended_elsewhere")
        elif isinstance(move.data, Accept) and execution is not None and not self._parts.draining.done():
            self._begin(execution)
        if move.target in EXECUTION_MACHINE.final:
            for waiter in self._waiters.pop(move.instance_id, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def observe_session(self, record: Record, _session: Session | None) -> None:
        """Stop the executions of a session that has ended."""
        if record.transition.target in FINAL_STATES:
            for run in self._runs_of("session", record.transition.instance_id):
                run.stop("session_ended")

    def observe_account(self, record: Record, _account: Account | None) -> None:
        """Stop the executions of the sessions that an account no longer backs. The ends of the sessions may follow later."""
        if record.transition.event in RAISE_EPOCH:
            check = asyncio.create_task(self._check_sessions(self._runs_of("account", record.transition.instance_id)))
            self._checks.add(check)
            check.add_done_callback(self._checks.discard)

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
        execution = await self._executions.owned(session, execution_id)
        if execution.state in EXECUTION_MACHINE.final:
            return execution
        await self._executions.ensure_valid(under)
        return await self._cancel(execution, under)

    async def cancel_any(self, execution_id: str, under: Authority, actor: str) -> Execution:
        """Cancel any execution for ``actor``, an administrator with the authority ``under``. Otherwise as :meth:`cancel`.

        Raises:
            ExecutionNotFound: there is none.
            Overloaded, SurfaceFailed: nothing was acknowledged.
        """
        execution = await self._executions.load(execution_id)
        if execution.state in EXECUTION_MACHINE.final:
            return execution
        return await self._cancel(execution, under, actor)

    async def outcome(self, execution_id: str) -> Execution:
        """Wait until the execution has ended, and return it. Wait without limit: the caller sets a timeout.

        Raises:
            ExecutionNotFound: there is none.
            SurfaceFailed: the log has stopped.
        """
        # Registered before the read, which may be older than the end that is recorded meanwhile.
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(execution_id, set())
        waiters.add(ended)
        try:
            execution = await self._executions.load(execution_id)
            if execution.state in EXECUTION_MACHINE.final:
                return execution
            await ended
        finally:
            waiters.discard(ended)
            if not waiters and self._waiters.get(execution_id) is waiters:
                del self._waiters[execution_id]
        return await self._executions.load(execution_id)

    async def run(self) -> None:
        """Watch deadlines until cancelled."""
        while True:
            progressed()
            if self._executions.failure is not None:
                self._stop_all(self._executions.failure)
            now_ms = self._clock.now_ms()
            for execution_id in self._deadlines.pop_due(now_ms, _AT_ONCE):
                self._overdue.add(execution_id)
                self._runs[execution_id].stop("timeout")
            for execution_id in self._graces.pop_due(now_ms, _AT_ONCE):
                self._in_grace.discard(execution_id)
                self._runs[execution_id].grace_over.set_result(None)
            self._earlier.clear()
            next_ms = [each for each in (self._deadlines.earliest_ms(), self._graces.earliest_ms()) if each is not None]
            self._wakes_at_ms = min([now_ms + round(_LONGEST_SLEEP_S * 1000), *next_ms])
            # Not wait_for: Python 3.11 loses a cancellation that arrives at the moment when the event is set.
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0, self._wakes_at_ms - now_ms) / 1000):
                    await self._earlier.wait()

    def drain(self) -> None:
        """Start nothing more. What has not started waits for the next start of the server."""
        if not self._parts.draining.done():
            self._parts.draining.set_result(None)

    async def close(self) -> None:
        """Stop. What still runs is left to the next start of the server, which interrupts it."""
        self.drain()
        await _ended(list(self._executions.accepting))
        # What is about to start or to end is recorded in a moment. Half done, it would count as interrupted.
        idle = [self._drivers[each] for each, run in self._runs.items() if run.code is None or run.code.done()]
        await _ended(idle)
        tasks: list[asyncio.Task[Any]] = [
            *self._drivers.values(),
            *self._checks,
            *self._parts.codes,
            *self._stores.calls,
        ]
        for task in tasks:
            task.cancel()
        for task in await _ended(tasks):
            _abandon(task)
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.cancel()

    def _begin(self, execution: Execution, lead: Callable[[Run], Coroutine[Any, Any, None]] = Run.drive) -> Run:
        """Have ``lead`` bring the execution to its outcome, in a task that begins after the caller's next pause."""
        run = self._runs[execution.execution_id] = Run(execution, self._parts)
        self._push(self._deadlines, execution.deadline_ms, execution.execution_id)
        name = f"interlock-{execution.execution_id}"
        self._drivers[execution.execution_id] = asyncio.create_task(self._drive(run, lead), name=name)
        return run

    async def _cancel(self, execution: Execution, under: Authority, actor: str | None = None) -> Execution:
        execution_id = execution.execution_id
        # Without a run, it waits for another server process or for the next start, or another process runs it.
        run = self._runs.get(execution_id) or self._begin(execution, Run.end_stopped)
        run.stop("asked", under, actor)
        await asyncio.wait({self._drivers[execution_id]}, timeout=GRACE_MS / 1000 + 2 * ANSWER_S)
        return await self._executions.load(execution_id)

    async def _drive(self, run: Run, lead: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
        try:
            try:
                await lead(run)
            except SurfaceFailed:
                self._executions.check_alive()
                raise
        except Exception as error:  # noqa: BLE001  # one execution's failure must not reach the others
            await self._failed(run, error)
        finally:
            run.recovered.set()
            self._forget(run.execution_id)

    async def _failed(self, run: Run, error: Exception) -> None:
        """End an execution that the server itself could not lead to its outcome. If that fails too, the next start does."""
        if self._executions.failure is not None:
            return
        _log.error("execution.failed", execution_id=run.execution_id, exc_info=error)
        try:
            await run.give_up()
        except Exception as again:  # noqa: BLE001  # as above
            _log.error("execution.failed", execution_id=run.execution_id, exc_info=again)

    def _forget(self, execution_id: str) -> None:
        del self._runs[execution_id], self._drivers[execution_id]
        if execution_id not in self._overdue:
            self._deadlines.drop(execution_id)
        self._overdue.discard(execution_id)
        if execution_id in self._in_grace:
            self._in_grace.discard(execution_id)
            self._graces.drop(execution_id)

    def _begin_grace(self, run: Run) -> None:
        self._in_grace.add(run.execution_id)
        self._push(self._graces, self._clock.now_ms() + GRACE_MS, run.execution_id)

    def _push(self, deadlines: Deadlines, at_ms: int, execution_id: str) -> None:
        deadlines.push(at_ms, execution_id)
        if at_ms < self._wakes_at_ms:
            self._earlier.set()

    def _runs_of(self, whose: Whose, name: str) -> list[Run]:
        runs = map(self._runs.get, self._executions.live.of(whose, name))
        return [run for run in runs if run is not None]

    async def _check_sessions(self, runs: list[Run]) -> None:
        for run in runs:
            try:
                await patiently(partial(self._executions.standing, run.execution.session_id))
            except (SessionEnded, SessionNotFound):
                run.stop("session_ended")
            except Exception as error:  # noqa: BLE001  # the other runs are checked all the same
                if self._executions.failure is not None:
                    return
                _log.error("task.failed", because="Check of an execution's session", exc_info=error)

    def _emitted(self, execution: Execution, value: bytes) -> None:
        guarded(self._sink, execution, value)

    def _late(self, execution: Execution) -> None:
        _log.warning("execution.late", execution_id=execution.execution_id, intent=execution.intent)
        self._on_late()

    def _held(self, execution: Execution, seconds: float) -> None:
        _log.warning(
            "execution.blocking",
            execution_id=execution.execution_id,
            intent=execution.intent,
            blocked_ms=round(seconds * 1000),
        )
        self._on_held(execution.realm, seconds)

    def _stop_all(self, failure: str) -> None:
        """Stop what runs after the log has stopped: no outcome can be recorded any more."""
        for code in self._parts.codes:
            code.cancel()
        waiting, self._waiters = self._waiters, {}
        for waiter in (each for waiters in waiting.values() for each in waiters):
            if not waiter.done():
                waiter.set_exception(SurfaceFailed(failure))


async def _ended(tasks: list[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Wait a moment for ``tasks``. Return those that have not ended."""
    return (await asyncio.wait(tasks, timeout=_CLOSE_S))[1] if tasks else set()


def _abandon(task: asyncio.Task[Any]) -> None:
    """End a task whose code swallows its cancellation. If even that fails, the end of the event loop does not wait for it."""
    with suppress(RuntimeError, ValueError):
        task.get_coro().close()
    task.cancel()
    task.add_done_callback(ignore_error)
    asyncio._unregister_task(task)  # noqa: SLF001  # "Extending asyncio" documents it
