"""The streams of sessions: what their WebSockets hear about executions, kept for those that resume.

A stream lives in the memory of this process (ADR 68): a restart begins new ones.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any, Final, cast

import structlog
from msgspec import UNSET, Raw

from interlock.machine.errors import ExecutionNotFound, SurfaceFailed
from interlock.machine.execution.commands import Accept
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Receipt, Record
from interlock.machine.session.messages import AcceptedMessage, EndState, OutcomeMessage
from interlock.machine.session.session import FINAL_STATES
from interlock.machine.session.stream import Stream, StreamLimits
from interlock.server.clock import Clock
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.door import patiently
from interlock.server.runtime.executions.executions import ExecutionData, Executions
from interlock.server.settings import Settings

_log = structlog.get_logger("interlock.server")

_TICK_S: Final = 0.05
"""How long the values of an execution are collected for one message."""
_EACH_TURN: Final = 32
"""Streams whose collected values are sent in one turn of the event loop."""
_LOOKS: Final = 8
"""How often, in the time that messages are kept, old ones are looked for."""
_EPOCH_BYTES: Final = 9
_STREAM_BYTES: Final = 512
"""About the memory of a stream without messages."""
_KEPT_MESSAGES: Final = 1024
_KEPT_BYTES: Final = 1024 * 1024
_FRAME_BYTES: Final = 32 * 1024


class Streams:
    """The stream of each session that has a WebSocket, or had one less than ``resume_s`` ago.

    ``settings`` has this time, and the limit of the memory of all streams together. Beyond it, the messages of the stream that
    has been silent for longest are dropped.
    """

    def __init__(self, executions: Executions, connections: Connections, clock: Clock, settings: Settings) -> None:
        self._executions = executions
        self._connections = connections
        self._clock = clock
        age_ms = round(settings.resume_s * 1000)
        self._limits = StreamLimits(_KEPT_MESSAGES, _KEPT_BYTES, age_ms, _FRAME_BYTES)
        self._total_bytes = settings.streams_mib << 20
        self._streams: dict[str, Stream] = {}
        # Those that keep messages: the one that has been silent for longest is first.
        self._kept: dict[str, Stream] = {}
        self._bytes = 0
        # Session id → since when it has no WebSocket, oldest first.
        self._unused: dict[str, int] = {}
        self._collecting: dict[str, Stream] = {}
        # Execution id → sessions that repeated an intent which another session of their account had submitted.
        self._followers: dict[str, set[str]] = {}
        # Executions whose end is recorded, and whose outcome is being read; None if it is unknown whose they are.
        self._ending: dict[str, Execution | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tick_timer: asyncio.Handle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        connections.subscribe_last(self._note_unused)

    def __len__(self) -> int:
        """Return the number of streams."""
        return len(self._streams)

    @property
    def size(self) -> int:
        """About the bytes of memory that all streams use."""
        return self._bytes + len(self._streams) * _STREAM_BYTES

    def close(self) -> None:
        """Stop all timers and tasks."""
        for each in (self._tick_timer, self._look_timer, *self._tasks):
            if each is not None:
                each.cancel()

    def of(self, session_id: str) -> Stream:
        """Return the stream of a session that has a WebSocket, or begin it."""
        self._unused.pop(session_id, None)
        stream = self._streams.get(session_id)
        if stream is None:
            stream = self._streams[session_id] = Stream(secrets.token_urlsafe(_EPOCH_BYTES), self._limits)
        return stream

    def expects_outcome(self, session_id: str) -> bool:
        """Return whether an execution of the session runs here, or an outcome is about to be sent."""
        of_session = map(self._executions.cached, self._executions.live.of("session", session_id))
        return any(each is not None and each.state == "running" for each in of_session) or any(
            each is None or session_id in self._followed_by(each) for each in self._ending.values()
        )

    # What the streams hear

    def progress(self, execution: Execution, value: bytes) -> None:
        """Send ``value``, JSON that the running ``execution`` has emitted. See ``Runner.subscribe_progress``."""
        execution_id = execution.execution_id
        if execution_id in self._ending:
            return
        for session_id in self._followed_by(execution):
            stream = self._streams.get(session_id)
            if stream is None:
                continue
            offset, size = stream.offset, stream.size
            stream.collect(execution_id, execution.intent_id, execution.attempt, value, self._clock.now_ms())
            self._changed(session_id, stream, offset, size)

    def observe(self, record: Record, execution: Execution | None) -> None:
        """Send what a ``record`` of an execution says, whichever process wrote it."""
        move = record.transition
        if isinstance(move.data, Accept):
            accepted = AcceptedMessage(move.data.intent_id, move.instance_id, record.receipt)
            self._accept(move.data.session_id, accepted)
        elif move.target in EXECUTION_MACHINE.final:
            if execution is not None and not any(map(self._streams.get, self._followed_by(execution))):
                self._followers.pop(move.instance_id, None)
                return
            data = None if execution is None else self._executions.recording.of(execution)
            if execution is not None and data is not None:
                self._finish_all(execution, _outcome(execution, record.receipt, data))
                return
            self._ending[move.instance_id] = execution
            self._spawn(self._end(move.instance_id, record.receipt))

    def observe_session(self, record: Record, _session: object) -> None:
        """Forget the stream of a session that has ended."""
        if record.transition.target in FINAL_STATES:
            self._forget(record.transition.instance_id)

    async def repeat(self, session_id: str, execution: Execution, receipt: Receipt) -> None:
        """Answer a repeated intent of the session: it is accepted as ``execution``, and its outcome follows.

        Raises:
            InterlockError: the outcome can't be read.
        """
        self._accept(session_id, AcceptedMessage(execution.intent_id, execution.execution_id, receipt))
        await self.follow(session_id, execution)

    async def follow(self, session_id: str, execution: Execution) -> None:
        """Send the outcome of ``execution`` to the session: now if it has ended, else with its progress when it comes.

        Raises:
            InterlockError: the outcome can't be read.
        """
        execution_id = execution.execution_id
        # It may have ended since the caller read it.
        execution = await self._executions.load(execution_id)
        if execution.state not in EXECUTION_MACHINE.final or execution_id in self._ending:
            if execution.session_id != session_id:
                self._followers.setdefault(execution_id, set()).add(session_id)
            return
        outcome = await self._read_outcome(execution, await self._executions.receipt(execution))
        self._finish(session_id, outcome)

    def _accept(self, session_id: str, message: AcceptedMessage) -> None:
        stream = self._streams.get(session_id)
        if stream is not None:
            offset, size = stream.offset, stream.size
            stream.accept(message, self._clock.now_ms())
            self._changed(session_id, stream, offset, size)

    def _finish(self, session_id: str, outcome: OutcomeMessage) -> None:
        stream = self._streams.get(session_id)
        if stream is not None:
            offset, size = stream.offset, stream.size
            stream.end(outcome, self._clock.now_ms())
            self._changed(session_id, stream, offset, size)

    async def _end(self, execution_id: str, receipt: Receipt) -> None:
        """Send the outcome of an execution whose end is recorded."""
        try:
            execution = await patiently(lambda: self._executions.load(execution_id))
            self._finish_all(execution, await self._read_outcome(execution, receipt))
        except SurfaceFailed as failed:
            # The log has stopped: nothing more is said about any execution.
            _log.error("execution.outcome_unsent", because=str(failed))
        except Exception as error:  # noqa: BLE001  # else nobody would hear of it
            _log.error("task.failed", because="Outcome of an execution", exc_info=error)
        finally:
            self._ending.pop(execution_id, None)
            self._followers.pop(execution_id, None)

    def _finish_all(self, execution: Execution, outcome: OutcomeMessage) -> None:
        for session_id in self._followed_by(execution):
            self._finish(session_id, outcome)
        self._followers.pop(execution.execution_id, None)

    async def _read_outcome(self, execution: Execution, receipt: Receipt) -> OutcomeMessage:
        """Return the message about the end of ``execution``.

        It is without its result or error if its account was deleted, or if they are not the recorded ones.
        """
        data = None
        try:
            data = await patiently(lambda: self._executions.data(execution.execution_id))
        except ExecutionNotFound:
            pass
        except SurfaceFailed:
            self._executions.check_alive()
            _log.critical("execution.forged", execution_id=execution.execution_id)
        return _outcome(execution, receipt, data)

    def _followed_by(self, execution: Execution) -> list[str]:
        return [execution.session_id, *self._followers.get(execution.execution_id, ())]

    # What is kept, and for how long

    def _changed(self, session_id: str, stream: Stream, offset: int, size: int) -> None:
        """Note that ``stream`` has changed since it had this ``offset`` and ``size``, and wake the WebSockets."""
        self._bytes += stream.size - size
        self._kept.pop(session_id, None)
        self._kept[session_id] = stream
        while self._bytes > self._total_bytes and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))
        if stream.collecting and session_id not in self._collecting:
            self._collecting[session_id] = stream
            if self._tick_timer is None:
                self._tick_timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        self._set_look_timer()
        if stream.offset != offset:
            self._connections.wake(session_id)

    def _drop(self, session_id: str) -> None:
        """Drop the messages of a stream, which keeps what it is collecting."""
        stream = self._kept.pop(session_id)
        size = stream.size
        stream.forget_all()
        self._bytes += stream.size - size

    def _tick(self) -> None:
        """Send what was collected. Of many streams, some wait for the next turn of the event loop."""
        self._tick_timer = None
        for session_id in list(self._collecting)[:_EACH_TURN]:
            stream = self._collecting.pop(session_id)
            offset, size = stream.offset, stream.size
            stream.flush(self._clock.now_ms())
            self._changed(session_id, stream, offset, size)
        if self._collecting and self._tick_timer is None:
            self._tick_timer = asyncio.get_running_loop().call_soon(self._tick)

    def _note_unused(self, session_id: str) -> None:
        """Keep the stream of a session whose last WebSocket is gone for a while."""
        if session_id in self._streams:
            self._unused[session_id] = self._clock.now_ms()
            self._set_look_timer()

    def _set_look_timer(self) -> None:
        if self._look_timer is None and (self._unused or self._kept):
            delay_s = self._limits.age_ms / 1000 / _LOOKS
            self._look_timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        """Forget streams that are unused, and messages that are old, for too long."""
        self._look_timer = None
        now_ms = self._clock.now_ms()
        for session_id, since_ms in list(self._unused.items()):
            if since_ms > now_ms - self._limits.age_ms:
                break
            self._forget(session_id)
        for session_id, stream in list(self._kept.items()):
            size = stream.size
            stream.forget(now_ms)
            self._bytes += stream.size - size
            if stream.size:
                break
            del self._kept[session_id]
        self._set_look_timer()

    def _forget(self, session_id: str) -> None:
        self._unused.pop(session_id, None)
        self._collecting.pop(session_id, None)
        self._kept.pop(session_id, None)
        stream = self._streams.pop(session_id, None)
        if stream is not None:
            self._bytes -= stream.size

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _outcome(execution: Execution, receipt: Receipt, data: ExecutionData | None) -> OutcomeMessage:
    """Return the message about the end of ``execution``, with the result or the error that ``data`` has."""
    return OutcomeMessage(
        execution.execution_id,
        execution.intent_id,
        cast("EndState", execution.state),
        receipt,
        result=UNSET if data is None or data.result is None else Raw(data.result.encode()),
        reason=execution.reason or UNSET,
        error=UNSET if data is None or data.error is None else data.error,
    )
