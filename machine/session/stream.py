"""The stream of one session: numbered messages about its executions, of which the newest are kept.

Offsets rise by one with each message, from 1. A reader names the offset it has, and gets every later message once and in
order. If some of those are no longer kept, it can tell by :attr:`Stream.start`.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec
from msgspec import Raw

from interlock.machine.session.messages import AcceptedMessage, OutcomeMessage, Progress, StreamMessage, encode


class StreamLimits(msgspec.Struct, frozen=True):
    """How much of a stream is kept: number of messages, their bytes and their age.

    ``frame_bytes`` is how many bytes of values one ``progress`` collects. A larger value has a message of its own.
    """

    messages: int
    bytes: int
    age_ms: int
    frame_bytes: int


class _Kept(NamedTuple):
    """A message that is kept. ``ended`` is the execution that it is the outcome of."""

    text: bytes
    at_ms: int
    ended: str | None


class _Collected:
    """The values of an execution's attempt that are not in a message yet."""

    __slots__ = ("attempt", "intent_id", "size", "values")

    def __init__(self, intent_id: str, attempt: int) -> None:
        self.intent_id = intent_id
        self.attempt = attempt
        self.values: list[Raw] = []
        self.size = 0


class Stream:
    """One stream. ``epoch`` is its random name. Times are arguments, in integer milliseconds, and do not decrease."""

    __slots__ = ("_collected", "_collected_bytes", "_ended", "_kept", "_kept_bytes", "_limits", "epoch", "offset")

    def __init__(self, epoch: str, limits: StreamLimits) -> None:
        self.epoch = epoch
        self.offset = 0
        """The offset of the last message; 0 before the first."""
        self._limits = limits
        # Created with the first message: most sessions never have one.
        self._kept: deque[_Kept] | None = None
        self._kept_bytes = 0
        self._collected: dict[str, _Collected] = {}
        self._collected_bytes = 0
        # Execution id → offset of its outcome, while that is kept.
        self._ended: dict[str, int] = {}

    @property
    def start(self) -> int:
        """The smallest offset after which every message is kept."""
        return self.offset - len(self._kept or ())

    @property
    def size(self) -> int:
        """The bytes of all kept messages and collected values."""
        return self._kept_bytes + self._collected_bytes

    @property
    def collecting(self) -> bool:
        """Whether values wait for :meth:`flush`."""
        return bool(self._collected)

    def accept(self, message: AcceptedMessage, now_ms: int) -> None:
        """Append ``message``."""
        self._append(message, now_ms)

    def collect(self, execution_id: str, intent_id: str, attempt: int, value: bytes, now_ms: int) -> None:
        """Add ``value``, which is JSON, to the next ``progress`` of the execution. After its outcome, ignore it."""
        if execution_id in self._ended:
            return
        collected = self._collected.get(execution_id)
        if collected is not None and (
            collected.attempt != attempt or collected.size + len(value) > self._limits.frame_bytes
        ):
            self._progress(execution_id, now_ms)
            collected = None
        if collected is None:
            collected = self._collected[execution_id] = _Collected(intent_id, attempt)
        collected.values.append(Raw(value))
        collected.size += len(value)
        self._collected_bytes += len(value)

    def flush(self, now_ms: int) -> None:
        """Append one ``progress`` for each execution with collected values."""
        for execution_id in list(self._collected):
            self._progress(execution_id, now_ms)

    def end(self, outcome: OutcomeMessage, now_ms: int) -> None:
        """Append what the execution emitted, then its ``outcome``."""
        execution_id = outcome.execution_id
        if execution_id in self._collected:
            self._progress(execution_id, now_ms)
        self._ended[execution_id] = self.offset + 1
        self._append(outcome, now_ms, ended=execution_id)

    def forget(self, now_ms: int) -> None:
        """Drop messages that are too old at ``now_ms``."""
        while self._kept and self._kept[0].at_ms <= now_ms - self._limits.age_ms:
            self._drop(self._kept)

    def forget_all(self) -> None:
        """Drop every message that is kept. Readers that have not read them see a gap."""
        while self._kept:
            self._drop(self._kept)

    def after(self, offset: int, most_bytes: int) -> list[bytes]:
        """Return the first messages after ``offset``: at most ``most_bytes``, or one. They must be kept: see ``start``."""
        kept = self._kept
        if kept is None:
            return []
        found: list[bytes] = []
        for index in range(len(kept) - (self.offset - offset), len(kept)):
            text = kept[index].text
            most_bytes -= len(text)
            if found and most_bytes < 0:
                break
            found.append(text)
        return found

    def _progress(self, execution_id: str, now_ms: int) -> None:
        collected = self._collected.pop(execution_id)
        self._collected_bytes -= collected.size
        self._append(Progress(execution_id, collected.intent_id, collected.attempt, collected.values), now_ms)

    def _append(self, message: StreamMessage, now_ms: int, ended: str | None = None) -> None:
        self.offset += 1
        text = encode(msgspec.structs.replace(message, offset=self.offset))
        kept = self._kept = deque() if self._kept is None else self._kept
        kept.append(_Kept(text, now_ms, ended))
        self._kept_bytes += len(text)
        # The newest is kept in any case: a reader that waits for it must not miss it.
        while len(kept) > 1 and (len(kept) > self._limits.messages or self._kept_bytes > self._limits.bytes):
            self._drop(kept)
        self.forget(now_ms)

    def _drop(self, kept: deque[_Kept]) -> None:
        offset = self.start + 1
        dropped = kept.popleft()
        self._kept_bytes -= len(dropped.text)
        if dropped.ended is not None and self._ended.get(dropped.ended) == offset:
            del self._ended[dropped.ended]
