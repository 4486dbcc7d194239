"""The trace: what this process does, one JSON line at a time, for :mod:`spec.model.traces` to check afterwards.

Appended records are written by the writer's thread, everything else by the event loop. Each write is one ``write(2)`` on a
descriptor opened with O_APPEND, so lines never mix and a killed process loses none that it wrote. Nothing is synced.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from machine.errors import SettingsError
from machine.ledger import Record
from server.ids import new_id
from spec.model.lines import Ack, Append, Close, Drop, Line, Open, Recover

_log = structlog.get_logger("interlock.trace")

_APPEND: Final = b'{"kind":"append",'
_encoder: Final = msgspec.json.Encoder()


class Untraced:
    """A trace that nobody asked for: every call does nothing."""

    def begin(self) -> int | None:
        """Open the file; return the position of the last record it tells of, 0 when it is new, None when there is none.

        Raises:
            SettingsError: the file can't be used.
        """
        return None

    def missed(self, records: Sequence[Record], position: int) -> None:
        """``records``, none of them traced, were durable before this life; the log has been read up to ``position``."""

    def recovered(self) -> None:
        """What the former life left has been put right, up to the log's last record."""

    def appended(self, outcomes: Sequence[object]) -> None:
        """``outcomes``, lists of records among them, are durable. Called in the writer's thread, in the order of the log."""

    def acknowledged(self, session_id: str, version: int, records: Sequence[Record]) -> None:
        """A caller is answered: ``records`` are its commands', and the session is at ``version``."""

    def opened(self, session_id: str, connection_id: str, version: int) -> None:
        """A socket is greeted with the session at ``version``."""

    def closed(self, session_id: str, connection_id: str, version: int, code: int) -> None:
        """The server ends an open socket that has heard of ``version`` last."""

    def dropped(self, session_id: str, connection_id: str, version: int) -> None:
        """An open socket that has heard of ``version`` last is gone, and the server had not ended it."""

    def close(self) -> None:
        """Write nothing any more."""


class Trace(Untraced):
    """A trace in a file. A file that can't be written any more ends the trace, never the server."""

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        self._node = node
        self._life = new_id("life")
        self._position = 0
        self._descriptor = -1
        self._writable = False

    def begin(self) -> int | None:
        """See :meth:`Untraced.begin`."""
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._cut()
            self._position = _last_position(self._descriptor)
            self._writable = True
        except (OSError, msgspec.MsgspecError) as error:
            self.close()
            raise SettingsError(f"the trace {self._path} can't be used: {error}") from error
        return self._position

    def missed(self, records: Sequence[Record], position: int) -> None:
        """See :meth:`Untraced.missed`."""
        self._write([self._append(record, late=True) for record in records])
        self._position = position

    def recovered(self) -> None:
        """See :meth:`Untraced.recovered`."""
        self._write([Recover(self._node, self._life, self._position)])

    def appended(self, outcomes: Sequence[object]) -> None:
        """See :meth:`Untraced.appended`. What a repeat gives again is older than the last, and was traced then."""
        lines: list[Line] = []
        for outcome in outcomes:
            for record in outcome if isinstance(outcome, list) else ():
                if isinstance(record, Record) and record.position > self._position:
                    lines.append(self._append(record, late=False))
                    self._position = record.position
        self._write(lines)

    def acknowledged(self, session_id: str, version: int, records: Sequence[Record]) -> None:
        """See :meth:`Untraced.acknowledged`."""
        node, life = self._node, self._life
        told = [record.transition for record in records]
        self._write([Ack(node, life, session_id, move.command_id, move.version, version) for move in told])

    def opened(self, session_id: str, connection_id: str, version: int) -> None:
        """See :meth:`Untraced.opened`."""
        self._write([Open(self._node, self._life, session_id, connection_id, version)])

    def closed(self, session_id: str, connection_id: str, version: int, code: int) -> None:
        """See :meth:`Untraced.closed`."""
        self._write([Close(self._node, self._life, session_id, connection_id, version, code)])

    def dropped(self, session_id: str, connection_id: str, version: int) -> None:
        """See :meth:`Untraced.dropped`."""
        self._write([Drop(self._node, self._life, session_id, connection_id, version)])

    def close(self) -> None:
        """See :meth:`Untraced.close`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _append(self, record: Record, *, late: bool) -> Append:
        move = record.transition
        return Append(
            self._node,
            self._life,
            session=move.session_id,
            command=move.command_id,
            version=move.version,
            view=move.version - 1,
            position=record.position,
            event=move.event,
            source=move.source,
            target=move.target,
            at_ms=move.at_ms,
            data=msgspec.to_builtins(move.data),
            late=late,
        )

    def _write(self, lines: Sequence[Line]) -> None:
        if not lines or not self._writable:
            return
        text = _encoder.encode_lines(lines)
        try:
            if os.write(self._descriptor, text) == len(text):
                return
            # A full disk took a part. A reader must find whole lines.
            self._cut()
            error = "the disk is full"
        except OSError as failed:
            error = str(failed)
        # Not closed here: the other thread may be about to write to this very descriptor.
        self._writable = False
        _log.error("trace.ended", path=str(self._path), error=error)

    def _cut(self) -> None:
        """Drop what a write that was cut short left behind the last whole line."""
        size = os.fstat(self._descriptor).st_size
        if size:
            with mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ) as text:
                end = text.rfind(b"\n") + 1
            if end < size:
                os.ftruncate(self._descriptor, end)


def _last_position(descriptor: int) -> int:
    """The position of the last record that the file tells of; 0 when it tells of none."""
    size = os.fstat(descriptor).st_size
    if not size:
        return 0
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as text:
        start = text.rfind(_APPEND)
        if start < 0:
            return 0
        return msgspec.json.decode(text[start : text.find(b"\n", start)], type=Append).position


@asynccontextmanager
async def open_trace(path: str, node: str) -> AsyncIterator[Untraced]:
    """The trace that setting ``trace`` asks for, until the context ends; :meth:`Untraced.begin` opens its file."""
    trace = Trace(Path(path), node) if path else Untraced()
    try:
        yield trace
    finally:
        trace.close()
