"""The way of one execution in this process, from its acceptance or its recovery to its outcome."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

import msgspec
import structlog

from interlock.context import Invocation
from interlock.machine.account.commitments import KEY_BYTES
from interlock.machine.errors import (
    CredentialRefused,
    IntentFailed,
    IntentUnknown,
    Overloaded,
    ParametersRefused,
    SessionEnded,
    SessionNotFound,
    SurfaceFailed,
    TransitionRefused,
)
from interlock.machine.execution.commands import Cancel, Data, Fail, Interrupt, Start, Succeed
from interlock.machine.execution.execution import MAX_ATTEMPTS, Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machine import Authority
from interlock.realm import Intent, Store
from interlock.server.runtime.door import commands, patiently
from interlock.server.runtime.executions.attempt import AttemptHost, begin, text_of
from interlock.server.runtime.executions.parts import RunParts
from interlock.server.surface.executions import ExecutionData
from interlock.server.surface.log import Along

_log = structlog.get_logger("interlock.executions")

StopReason: TypeAlias = Literal["asked", "session_ended", "timeout", "unreadable", "ended_elsewhere"]
"""Why an execution ends without an outcome of its code. ``unreadable``: its stored parameters are not the recorded ones.
``ended_elsewhere``: another process has recorded its end."""


class Run:
    """One execution. ``execution`` is its state as recorded: the runner updates it in the order of the log.

    ``stopped`` is done once the execution is to end without an outcome of its code; the first reason counts. ``grace_over`` is
    done when its code has had enough time to stop. ``recovered`` is set once no lost attempt is in the way of new work.
    """

    def __init__(self, execution: Execution, parts: RunParts) -> None:
        self.execution = execution
        self.parts: Final = parts
        loop = asyncio.get_running_loop()
        self.stopped: Final[asyncio.Future[StopReason]] = loop.create_future()
        self.grace_over: Final[asyncio.Future[None]] = loop.create_future()
        self.recovered: Final = asyncio.Event()
        self.code: asyncio.Task[bytes] | None = None
        # Whether the execution was stopped before its code had ended: then what the code returns does not count.
        self._cut_off = False
        self._asked_under: Authority | None = None
        self._asked_by: str | None = None
        self._data = parts.executions.recording.of(execution)
        self._forged = False

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self.execution.execution_id

    @property
    def over(self) -> bool:
        """Whether the execution has its outcome."""
        return self.execution.state in EXECUTION_MACHINE.final

    def stop(self, reason: StopReason, under: Authority | None = None, actor: str | None = None) -> None:
        """End the execution for ``reason``, which ``actor`` (None: its owner) asked for under the authority ``under``.

        Code that runs is cancelled. The end of the session does not stop code that may finish; it stops what waits.
        """
        finishes = self.execution.on_session_end == "finish" and self.execution.node is not None
        if self.stopped.done() or (reason == "session_ended" and finishes):
            return
        self._asked_under, self._asked_by = under, actor
        self.stopped.set_result(reason)
        if self.code is not None and not self.code.done():
            self._cut_off = True
            self.code.cancel()
            self.parts.grace(self)

    async def drive(self) -> None:
        """Lead the execution to its outcome. If the server is draining, leave one that has not started as it is."""
        if self.execution.node is not None:
            await self._end_lost_attempt()
        self.recovered.set()
        if self.over:
            return
        await self.parts.working.wait()
        intent, store = self._intent()
        if intent is None:
            await self._end(lambda: Fail("realm_missing"))
            return
        try:
            started = await self._start(intent, store)
        except ParametersRefused as refused:
            # The realm declares other parameters than when it was accepted.
            await self._fail(text_of(refused))
            return
        if started is None:
            if self.stopped.done():
                await self.end_stopped()
            return
        await self._run_code(intent, store, *started)

    async def end_stopped(self) -> None:
        """Record the end of a stopped execution, or its result if the realm's store has committed it."""
        running = self.execution.node is not None
        await self._end_stopped(await self._committed(self._intent()[1]) if running else None)

    async def _end_stopped(self, committed: bytes | None) -> None:
        if committed is not None:
            await self._succeed(committed, under_session=False)
            return
        match self.stopped.result():
            case "timeout":
                await self._end(lambda: self._failure("timeout"))
            case "unreadable":
                await self._end(lambda: self._failure("error"))
            case "asked":
                await self._cancel_as_asked()
            case "session_ended":
                await self._end(lambda: Cancel("session_ended"))
            case "ended_elsewhere":
                pass  # It has its outcome.

    async def give_up(self) -> None:
        """End the execution as failed after an error of the server itself."""
        if self.code is not None and not self.code.done():
            self.code.cancel()
        if self.execution.node is not None and (committed := await self._committed(self._intent()[1])) is not None:
            await self._succeed(committed, under_session=False)
            return
        await self._end(lambda: self._failure("error"))

    def _intent(self) -> tuple[Intent | None, Store | None]:
        """Return the intent, None if its realm is gone, and the store that decides whether its result was committed."""
        with suppress(IntentUnknown):
            intent = self.parts.realms.intent(self.execution.intent)
            transactional = "transactional" in {self.execution.effects, intent.effects}
            return intent, intent.store if transactional else None
        return None, None

    async def _end_lost_attempt(self) -> None:
        """End the attempt that this process's predecessor was running.

        The store is asked first: once the attempt is interrupted, nothing but another attempt can succeed.
        """
        committed = await self._committed(self._intent()[1])
        if committed is not None:
            await self._succeed(committed, under_session=False)
            return
        node, attempt = self.execution.node or "", self.execution.attempt
        with suppress(TransitionRefused):
            await self._record(Interrupt(node, attempt))
        if self.execution.effects != "once" and self.execution.attempt >= MAX_ATTEMPTS:
            _log.warning("execution.given_up", execution_id=self.execution_id, intent=self.execution.intent)

    async def _start(self, intent: Intent, store: Store | None) -> tuple[msgspec.Struct, int] | None:
        """Record the start of the next attempt. Return its parameters and its position in the log, None if it may not start.

        Raises:
            ParametersRefused: the intent does not accept the parameters any more.
        """
        if store is not None:
            await self._wait(asyncio.ensure_future(self.parts.stores.prepare(store, self.execution)))
        parameters: msgspec.Struct | None = None
        # Another server process may start it meanwhile.
        while self.execution.node is None and not self.stopped.done() and not self.parts.draining.done():
            try:
                if self.execution.deadline_ms <= self.parts.now_ms():
                    self.stop("timeout")
                if parameters is None and not self.stopped.done():
                    parameters = intent.decode_parameters(await self._parameters())
                if parameters is None or self.stopped.done():
                    break
                _, under = await self.parts.executions.standing(self.execution.session_id)
                asked = commands("server", Start(self.parts.node))
                outcome = await self.parts.executions.submit(self.execution_id, *asked, under=under)
                return parameters, outcome.records[-1].position
            except (SessionEnded, SessionNotFound):
                self.stop("session_ended")
            except Overloaded as overloaded:
                await self._wait(asyncio.ensure_future(asyncio.sleep(overloaded.retry_after_s)))
            except CredentialRefused:
                # A login on the session, or a change of its account, was recorded meanwhile: the next try sees it.
                continue
            except TransitionRefused:
                # Another server process has started or ended it.
                return None
        return None

    async def _wait(self, work: asyncio.Future[None]) -> None:
        """Wait for ``work``, but no longer than until the execution is stopped or nothing more may start."""
        try:
            ends: list[asyncio.Future[Any]] = [work, self.stopped, self.parts.draining]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()

    async def _parameters(self) -> bytes:
        """Return the stored parameters. If there are none to run with, stop the execution."""
        await self._read_data()
        if self._forged:
            self.stop("unreadable")
        elif self._data is None:
            # They were erased with the account.
            self.stop("session_ended")
        return b"{}" if self._data is None else self._data.parameters.encode()

    async def _read_data(self) -> None:
        if self._data is not None or self._forged:
            return
        try:
            self._data = await patiently(lambda: self.parts.executions.store.by_id(self.execution_id))
        except SurfaceFailed:
            self.parts.executions.check_alive()
            self._forged = True
            _log.critical("execution.forged", execution_id=self.execution_id)

    async def _run_code(self, intent: Intent, store: Store | None, parameters: msgspec.Struct, position: int) -> None:
        execution = self.execution
        invocation = Invocation(
            session_id=execution.session_id,
            subject=execution.subject or "",
            groups=await patiently(lambda: self.parts.executions.groups(execution.subject or "")),
            execution_id=execution.execution_id,
            intent_id=execution.intent_id,
            attempt=execution.attempt,
            deadline_ms=execution.deadline_ms,
            position=position,
        )
        if not self.stopped.done():
            self.code = begin(intent, invocation, AttemptHost(self), parameters)
            self.parts.codes.add(self.code)
            self.code.add_done_callback(self.parts.codes.discard)
            ends: list[asyncio.Future[Any]] = [self.code, self.stopped]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self.code is None or self._cut_off:
            # The store is closed while the code has its grace: code that goes on can't commit any more.
            closing = asyncio.ensure_future(self._committed(store))
            try:
                await self._await_stop(store)
                await self._end_stopped(await closing)
            finally:
                closing.cancel()
            return
        try:
            result = self.code.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # foreign code
            if isinstance(error, IntentFailed):
                _log.info("execution.refused", execution_id=self.execution_id, intent=intent.name)
            else:
                _log.warning("execution.error", execution_id=self.execution_id, intent=intent.name, exc_info=error)
            committed = await self._committed(store)
            if committed is not None:
                await self._succeed(committed, under_session=False)
            else:
                await self._fail(text_of(error))
        else:
            await self._succeed(result, under_session=store is None)

    async def _await_stop(self, store: Store | None) -> None:
        """Wait until the cancelled code has ended, but no longer than the grace."""
        if self.code is None:
            return
        ends: list[asyncio.Future[Any]] = [self.code, self.grace_over]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self.code.done():
            _log.warning("execution.not_stopping", execution_id=self.execution_id, intent=self.execution.intent)
        if store is None:
            # Otherwise the store decides what comes too late.
            self.code.add_done_callback(self._ended_late)

    def _ended_late(self, code: asyncio.Task[bytes]) -> None:
        if not code.cancelled() and code.exception() is None:
            self.parts.late(self.execution)

    async def _committed(self, store: Store | None) -> bytes | None:
        """Return the result that the present attempt has committed to ``store``. If there is none, it never will."""
        if store is None:
            return None
        return await self.parts.stores.close(store, self.execution)

    async def _succeed(self, result: bytes, *, under_session: bool) -> None:
        """Record ``result``. Without ``under_session``, the realm's transaction has committed it, whatever the session is."""
        data = await self._data_with(result=result.decode())
        command = Succeed(self.execution.node or "", self.execution.attempt, data.committed_result or "")
        await self._record_outcome(command, data, under_session=under_session)

    async def _fail(self, error: str) -> None:
        data = await self._data_with(error=error)
        await self._record_outcome(
            self._failure("error", data.committed_error), data, under_session=self.execution.node is not None
        )

    def _failure(self, reason: Literal["error", "timeout"], error: str | None = None) -> Fail:
        execution = self.execution
        if execution.node is None:
            return Fail(reason, error=error)
        return Fail(reason, execution.node, execution.attempt, error)

    async def _data_with(self, *, result: str | None = None, error: str | None = None) -> ExecutionData:
        """Return the data with its outcome. If there is none (the account was deleted, say), a new key is used once."""
        await self._read_data()
        data = self._data or ExecutionData(self.execution_id, secrets.token_bytes(KEY_BYTES), "")
        return msgspec.structs.replace(data, result=result, error=error)

    async def _record_outcome(self, command: Data, data: ExecutionData, *, under_session: bool) -> None:
        """Record what the code made of the attempt, under the session's authority if its end cancels the execution."""
        executions = self.parts.executions
        along = executions.store.finish(self.execution_id, result=data.result, error=data.error)
        while True:
            try:
                under = None
                if self.execution.on_session_end == "cancel" and under_session:
                    _, under = await patiently(lambda: executions.standing(self.execution.session_id))
                with executions.recording.hold(data):
                    await self._record(command, under=under, along=along)
            except (SessionEnded, SessionNotFound):
                self.parts.late(self.execution)
                await self._end(lambda: Cancel("session_ended"))
            except CredentialRefused:
                # As for a start.
                continue
            except TransitionRefused:
                # It was cancelled at the same moment.
                self.parts.late(self.execution)
            return

    async def _cancel_as_asked(self) -> None:
        """Record the cancellation under the authority of the request.

        If that was lost since, the end of the session is the reason, unless it does not cancel, or an administrator asked.
        """
        actor = self._asked_by or self.execution.subject or "server"
        if self._asked_under is not None:
            try:
                await self._record(Cancel("asked"), actor, under=self._asked_under)
            except CredentialRefused:
                if self._asked_by is not None:
                    actor = "server"
                elif self.execution.on_session_end == "cancel" or self.execution.node is None:
                    await self._end(lambda: Cancel("session_ended"))
                    return
            except TransitionRefused:
                return
            else:
                return
        await self._end(lambda: Cancel("asked"), actor)

    async def _end(self, command: Callable[[], Data], actor: str = "server") -> None:
        """Record an end that needs no authority. If the execution has changed meanwhile, decide again."""
        while not self.over:
            version = self.execution.version
            try:
                await self._record(command(), actor)
            except TransitionRefused:
                self.execution = await patiently(lambda: self.parts.executions.load(self.execution_id))
                if self.execution.version == version:
                    raise

    async def _record(
        self, command: Data, actor: str = "server", *, under: Authority | None = None, along: Along | None = None
    ) -> None:
        outcome = await self.parts.executions.insist(self.execution_id, actor, command, under=under, along=along)
        self.execution = outcome.instance
