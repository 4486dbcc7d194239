"""A logging handler that never blocks its callers: a bounded queue, and one thread that writes to a descriptor.

The standard library's ``QueueHandler`` and ``QueueListener`` bound the number of lines and not their size, print a traceback to
standard error when the queue is full, write line by line, and wait without a limit at the end.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

import structlog

from interlock.server.system.streams import write_some

_log = structlog.get_logger("interlock.log")

LINES: Final = 8192
BYTES: Final = 2 * 1024 * 1024
"""Size of the queue. A line about a request has some 250 bytes."""

_FOR_ALL: Final = 0.75
"""The part of the queue that every level may use. The rest is kept for errors, so that nothing else can crowd them out."""

_BATCH_BYTES: Final = 64 * 1024
"""Approximate size of one write: as much as a pipe holds."""

_LAST_S: Final = 1.0
"""How long :meth:`LineWriter.flush` waits for a reader."""


class LineWriter(logging.Handler):
    """Writes lines to ``descriptor``. Lines that don't fit into the queue or can't be written are dropped and counted.

    Once lines can be written again, a line ``log.dropped`` tells how many were dropped.

    ``report`` is called in the writer thread ``every_s`` seconds after a line was written, and by :meth:`flush`. The lines that
    it logs bypass the queue.
    """

    def __init__(self, descriptor: int, report: Callable[[], None], every_s: float) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._report = report
        self._every_s = every_s
        self._closed = False
        self._reset()
        _writers.add(self)

    def _reset(self) -> None:
        """Start with an empty queue and no thread. A forked process has a copy of the queue, and no threads."""
        # Both are reentrant: a garbage collection within may log.
        self._putting = threading.RLock()
        self._queue: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # Callers change the first of each pair, under the lock; the writer thread changes the second.
        self._put_lines = self._taken_lines = 0
        self._put_bytes = self._taken_bytes = 0
        self._refused = self._lost = 0
        self._told = 0
        self._own: list[bytes] = []
        self._torn = False

    def createLock(self) -> None:  # noqa: N802  # logging's name
        """Create no lock around :meth:`emit`: formatting needs none, and :func:`logging.shutdown` would flush under it."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit ``record`` unless a filter drops it. Since Python 3.13 the inherited method takes the lock unasked."""
        kept = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    @property
    def dropped(self) -> int:
        """Number of dropped lines."""
        return self._refused + self._lost

    def emit(self, record: logging.LogRecord) -> None:
        """Format ``record`` and queue the line."""
        self.add(record.levelno, lambda: self.format(record))

    def add(self, level: int, make: Callable[[], str]) -> None:
        """Queue the line that ``make`` returns. It is made at once: what it is made of may change, and keeps frames alive."""
        own = threading.current_thread() is self._thread
        if not own and not self._fits(level, 0):
            self._refuse()
            return
        try:
            line = make().encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001  # logging would print it to standard error, and block here
            self._refuse()
            return
        if own:
            self._own.append(line)
        elif self._fits(level, len(line)):
            self.put(line)
        else:
            self._refuse()

    def put(self, line: bytes) -> None:
        """Queue ``line`` even if the queue is full."""
        size = len(line)
        with self._putting:
            if self._closed:
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="interlock-log", daemon=True)
                self._thread.start()
            self._put_lines += 1
            self._put_bytes += size
            self._queue.put(line)

    def flush(self) -> None:
        """Wait until all queued lines and the report are written, for a second at most."""
        self._flush()

    def close(self) -> None:
        """Flush, then end the thread and discard whatever is logged afterwards."""
        flushed = self._flush()
        with self._putting:
            self._closed = True
            self._queue.put(None)
        # A thread that is blocked in a write is left behind.
        if flushed and self._thread is not None:
            self._thread.join(_LAST_S)
        super().close()

    def _flush(self) -> bool:
        """Return whether everything could be written in time."""
        if self._thread is None or self._closed:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(_LAST_S)

    def _fits(self, level: int, size: int) -> bool:
        part = 1 if level >= logging.ERROR else _FOR_ALL
        lines, waiting = self._put_lines - self._taken_lines, self._put_bytes - self._taken_bytes
        return lines < LINES * part and waiting + size <= BYTES * part

    def _refuse(self) -> None:
        with self._putting:
            self._refused += 1

    def _run(self) -> None:
        """Write lines until the handler is closed: the writer thread."""
        report_at = math.inf
        running = True
        while running:
            lines: list[bytes] = []
            flushed: list[threading.Event] = []
            for item in self._take(report_at):
                if isinstance(item, bytes):
                    lines.append(item)
                elif item is None:
                    running = False
                else:
                    flushed.append(item)
            self._taken_lines += len(lines)
            self._taken_bytes += sum(map(len, lines))
            written = self._write(lines)
            reported = bool(flushed) or time.monotonic() >= report_at
            if reported:
                report_at = math.inf
                self._report()
            elif lines:
                report_at = min(report_at, time.monotonic() + self._every_s)
            # After the lines that wait, which are older than the dropped ones; but not never, if lines always wait.
            self._write_own(tell_dropped=written and (reported or self._queue.empty()))
            for event in flushed:
                event.set()

    def _take(self, until: float) -> list[bytes | threading.Event | None]:
        """Wait for an item and return what goes into one write. Return nothing if no item comes ``until`` then."""
        taken: list[bytes | threading.Event | None] = []
        size = 0
        try:
            wait_s = None if until == math.inf else max(0.0, until - time.monotonic())
            item = self._queue.get(timeout=wait_s)
            while True:
                taken.append(item)
                size += len(item) if isinstance(item, bytes) else 0
                if item is None or size >= _BATCH_BYTES:
                    break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        return taken

    def _write(self, lines: list[bytes]) -> bool:
        """Write ``lines`` and return whether that succeeded. Each line that was not written whole counts as dropped."""
        data = memoryview(b"".join(lines))
        try:
            if data and self._torn:
                # The next line must start on a line of its own, after a disk that was full for a while.
                write_some(self._descriptor, memoryview(b"\n"))
                self._torn = False
            while data:
                size = write_some(self._descriptor, data)
                self._torn = data[size - 1] != ord("\n")
                data = data[size:]
        except OSError:
            self._lost += bytes(data).count(b"\n")
            return False
        return True

    def _write_own(self, *, tell_dropped: bool) -> None:
        """Write the lines that this thread has logged, and a number of dropped lines if it has grown."""
        dropped, told = self.dropped, self._told
        if tell_dropped and dropped > told:
            _log.error("log.dropped", dropped=dropped - told)
            self._told = dropped
        own, self._own = self._own, []
        if not self._write(own) and self._told > told:
            # Tell it later. The line that could not be written is itself no dropped line.
            self._told = told
            self._lost -= 1


_writers: Final[WeakSet[LineWriter]] = WeakSet()


def _after_fork() -> None:
    for writer in _writers:
        writer._reset()  # noqa: SLF001  # it is this module's


os.register_at_fork(after_in_child=_after_fork)
