"""The model trace: this process's actions as JSON lines, which :mod:`interlock.spec.model.trace.checker` checks afterwards.

The writer thread writes appended records, the event loop everything else. Each write is one ``write(2)`` on a descriptor
opened with O_APPEND, so lines never mix and a killed process loses none that it wrote. Nothing is synced.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, get_args

import msgspec
import structlog

from interlock.machine.errors import SettingsError
from interlock.machine.ledger import Record
from interlock.server.ids import new_id
from interlock.server.settings import Settings
from interlock.spec.model.trace.lines import (
    Ack,
    AnyLine,
    Append,
    Close,
    Drop,
    InstanceKind,
    Line,
    Open,
    Recover,
    TraceFault,
    parse,
)

_log = structlog.get_logger("interlock.model_trace")

_KINDS: Final[dict[str, InstanceKind]] = {kind: kind for kind in get_args(InstanceKind)}
"""The lifecycles that are traced."""

_APPEND: Final = b'{"type":"append",'
_RECOVER: Final = b'{"type":"recover",'
_BEGINNING: Final = b'{"type":"'
_LONGEST: Final = 1 << 20
_OTHERS: Final = ("interlock.db", "interlock.db-wal", "interlock.db-shm", "interlock.db-journal", "interlock.lock")
_encoder: Final = msgspec.json.Encoder()


class TraceContents(msgspec.Struct, frozen=True):
    """The content of an existing trace. ``position``: the log's last at its last record or recovery; 0 without any.

    ``last``: its last record. ``recovered``: a server's run got as far as its ``recover``.
    """

    position: int = 0
    last: Append | None = None
    recovered: bool = False


class TraceWriter:
    """The interface of the trace, and its no-op: every call does nothing. :class:`FileTraceWriter` writes."""

    def begin(self) -> TraceContents | None:
        """Open the file and return its content, or None without a file. The content is not changed.

        Raises:
            SettingsError: the file is unusable, or not a trace.
        """
        return None

    def go_on(self, newest: Record | None, at_last: Record | None) -> None:
        """Start writing. ``newest``: the log's last record; ``at_last``: the one at the position of the trace's last.

        Raises:
            SettingsError: the trace belongs to another log; nothing was written.
        """

    def missed(self, records: Sequence[Record], position: int) -> None:
        """Trace ``records``, which were durable before this run and not traced. The log was read up to ``position``."""

    def recovered(self) -> None:
        """Trace that recovery is complete, up to the log's last record."""

    def appended(self, outcomes: Sequence[object]) -> None:
        """Trace the records among ``outcomes``, now durable. Called in the writer thread, in log order."""

    def acknowledged(self, instance_id: str, version: int, records: Sequence[Record]) -> None:
        """Trace that a caller was answered: ``records`` are its commands', and the instance is at ``version``."""

    def opened(self, session_id: str, connection_id: str, version: int) -> None:
        """Trace that a socket was greeted with the session at ``version``."""

    def closed(self, session_id: str, connection_id: str, version: int, code: int) -> None:
        """Trace that the server ends an open socket, which last saw ``version``."""

    def dropped(self, session_id: str, connection_id: str, version: int) -> None:
        """Trace that an open socket, which last saw ``version``, is gone without the server having ended it."""

    def close(self) -> None:
        """Stop writing."""


class FileTraceWriter(TraceWriter):
    """A trace in a file. A write error ends the trace, never the server."""

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        self._node = node
        self._life = new_id("life")
        self._told = TraceContents()
        self._position = 0
        self._descriptor = -1
        self._writable = False

    def look(self) -> None:
        """Check that an existing file is a trace, before anything is opened for writing.

        Raises:
            SettingsError: it is not.
        """
        try:
            # Check before opening: opening a pipe or a device can have effects.
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise SettingsError(f"the trace {self._path} can't be used: it is not a regular file")
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._refused(error) from error
        try:
            _read(descriptor)
        except (OSError, ValueError, TraceFault) as error:
            raise self._refused(error) from error
        finally:
            os.close(descriptor)

    def begin(self) -> TraceContents | None:
        """See :meth:`TraceWriter.begin`."""
        self.look()
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._told = _read(self._descriptor)
        except (OSError, ValueError, TraceFault) as error:
            self.close()
            raise self._refused(error) from error
        return self._told

    def go_on(self, newest: Record | None, at_last: Record | None) -> None:
        """See :meth:`TraceWriter.go_on`."""
        told, last = self._told, self._told.last
        end = newest.position if newest else 0
        if told.position > end:
            raise self._of_another(f"it tells of position {told.position}, and the log ends at {end}")
        if last is not None:
            move = at_last.transition if at_last is not None and at_last.position == last.position else None
            if move is None or (move.kind, move.instance_id, move.version, move.command_id) != (
                last.kind,
                last.instance,
                last.version,
                last.command,
            ):
                raise self._of_another(
                    f"it has command {last.command} as version {last.version} of {last.kind} {last.instance} at position"
                    f" {last.position}, and the log has another record there"
                )
        try:
            self._cut()
        except OSError as error:
            raise self._refused(error) from error
        self._position = told.position
        self._writable = True

    def missed(self, records: Sequence[Record], position: int) -> None:
        """See :meth:`TraceWriter.missed`."""
        self._write([self._append(record, late=True) for record in records if record.transition.kind in _KINDS])
        self._position = position

    def recovered(self) -> None:
        """See :meth:`TraceWriter.recovered`."""
        self._write([Recover(self._node, self._life, self._position)])

    def appended(self, outcomes: Sequence[object]) -> None:
        """See :meth:`TraceWriter.appended`. A repeated command's record is older than the last, and was traced before."""
        lines: list[Line] = []
        for outcome in outcomes:
            for record in outcome if isinstance(outcome, list) else ():
                if isinstance(record, Record) and record.position > self._position:
                    if record.transition.kind in _KINDS:
                        lines.append(self._append(record, late=False))
                    self._position = record.position
        self._write(lines)

    def acknowledged(self, instance_id: str, version: int, records: Sequence[Record]) -> None:
        """See :meth:`TraceWriter.acknowledged`."""
        node, life = self._node, self._life
        told = [record.transition for record in records if record.transition.kind in _KINDS]
        self._write(
            [Ack(node, life, _KINDS[move.kind], instance_id, move.command_id, move.version, version) for move in told]
        )

    def opened(self, session_id: str, connection_id: str, version: int) -> None:
        """See :meth:`TraceWriter.opened`."""
        self._write([Open(self._node, self._life, session_id, connection_id, version)])

    def closed(self, session_id: str, connection_id: str, version: int, code: int) -> None:
        """See :meth:`TraceWriter.closed`."""
        self._write([Close(self._node, self._life, session_id, connection_id, version, code)])

    def dropped(self, session_id: str, connection_id: str, version: int) -> None:
        """See :meth:`TraceWriter.dropped`."""
        self._write([Drop(self._node, self._life, session_id, connection_id, version)])

    def close(self) -> None:
        """See :meth:`TraceWriter.close`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _refused(self, error: Exception) -> SettingsError:
        if isinstance(error, TraceFault):
            why = f"{error}; a new file, an empty one, or a trace of this log is needed"
        else:
            why = str(error)
        return SettingsError(f"the trace {self._path} can't be used: {why}")

    def _of_another(self, why: str) -> SettingsError:
        return SettingsError(
            f"the trace {self._path} can't be used: it is of another log, or of a newer copy of this one: {why}. Name a file of"
            " its own for this log"
        )

    def _append(self, record: Record, *, late: bool) -> Append:
        move = record.transition
        return Append(
            self._node,
            self._life,
            kind=_KINDS[move.kind],
            instance=move.instance_id,
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
            # A full disk accepted only a part. Readers must find whole lines.
            self._cut()
            error = "the disk is full"
        except OSError as failed:
            error = str(failed)
        # Not closed here: the other thread may be about to write to this descriptor.
        self._writable = False
        _log.error("model_trace.ended", path=str(self._path), error=error)

    def _cut(self) -> None:
        """Remove a partial line at the end."""
        size = os.fstat(self._descriptor).st_size
        if size:
            with mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ) as text:
                end = text.rfind(b"\n") + 1
            if end < size:
                os.ftruncate(self._descriptor, end)


def _read(descriptor: int) -> TraceContents:
    """Read the content of a trace. A torn last line is ignored.

    Raises:
        TraceFault, ValueError: it is not a trace.
    """
    size = os.fstat(descriptor).st_size
    if not size:
        return TraceContents()
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as text:
        end = text.rfind(b"\n") + 1
        # Without an early line end, the file has no line that a server wrote.
        parse(text[: text.find(b"\n", 0, _LONGEST) + 1])
        if not _BEGINNING.startswith(torn := text[end : end + len(_BEGINNING)]):
            raise ValueError(f"it ends with {torn!r}, which is not a line of a trace; nothing was changed")

        def last(beginning: bytes) -> AnyLine | None:
            start = text.rfind(beginning, 0, end)
            return None if start < 0 else parse(text[start : text.find(b"\n", start)])

        record, recover = last(_APPEND), last(_RECOVER)
    positions = [line.position for line in (record, recover) if isinstance(line, Append | Recover)]
    return TraceContents(max(positions, default=0), record if isinstance(record, Append) else None, recover is not None)


def _refuse_what_is_in_use(path: Path, settings: Settings) -> None:
    """Refuse a path of the server's own files, whether they exist or not."""
    data, head = Path(settings.data), settings.head_path
    used = [*(data / name for name in _OTHERS), head, head.with_name(f"{head.name}.new")]
    real = path.resolve()
    if (data / "keys").resolve() in (real, *real.parents) or any(
        real == other.resolve() or (other.exists() and path.exists() and path.samefile(other)) for other in used
    ):
        raise SettingsError(f"the trace {path} can't be used: the server keeps something else there")


@asynccontextmanager
async def open_trace(settings: Settings) -> AsyncIterator[TraceWriter]:
    """Yield the trace of the setting ``model_trace`` until the context ends. :meth:`TraceWriter.begin` opens its file.

    Raises:
        SettingsError: the file is not a trace. Nothing was written.
    """
    trace = TraceWriter()
    if settings.model_trace:
        path = Path(settings.model_trace)
        try:
            _refuse_what_is_in_use(path, settings)
        except (OSError, RuntimeError) as error:
            raise SettingsError(f"the trace {path} can't be used: {error}") from error
        trace = FileTraceWriter(path, settings.node)
        trace.look()
    try:
        yield trace
    finally:
        trace.close()
