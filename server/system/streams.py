"""Standard streams of a server: possibly closed, or without a reader."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import suppress
from typing import Final

STDOUT: Final = 1
STDERR: Final = 2


def prepare_streams() -> None:
    """Make the standard streams safe to write to. Call this first, in the main thread.

    Open the null device in place of a closed stream. Otherwise the next file or socket that the process opens would get
    that number, and everything written to the stream. Ignore SIGTTOU, by which a terminal stops background jobs that write
    to it (``stty tostop``).
    """
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    for descriptor in (0, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one, since those below it are open by now.
            os.open(os.devnull, os.O_RDWR)


def write_some(descriptor: int, data: memoryview) -> int:
    """Write a part of ``data`` and return its size. Block until that is possible, even on a non-blocking descriptor.

    Raises:
        OSError: the reader is gone, or the disk is full.
    """
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()


def print_in_background(text: bytes) -> None:
    """Write ``text`` to standard output in a daemon thread. Discard it if that fails."""

    def write() -> None:
        data = memoryview(text)
        with suppress(OSError):
            while data:
                data = data[write_some(STDOUT, data) :]

    threading.Thread(target=write, name="interlock-stdout", daemon=True).start()


def printable(text: str) -> str:
    """Return ``text`` with its line ends, ESC, bidirectional and other control characters escaped (ASVS 16.4.1)."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
