"""Detects a peer that takes nothing of what was written to it. A slow but steady reader is no such peer."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Any


class StallWatch:
    """Calls ``on_stall`` when, while writing is paused, the peer has acknowledged no byte for ``seconds``."""

    __slots__ = ("_loop", "_on_stall", "_outstanding", "_seconds", "_timer", "_transport")

    def __init__(self, transport: Any, seconds: float, on_stall: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._seconds = seconds
        self._on_stall = on_stall
        self._outstanding = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start watching. Nothing more may be written until :meth:`stop`."""
        self.stop()
        self._outstanding = outstanding(self._transport)
        self._timer = self._loop.call_later(self._seconds, self._look)

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if outstanding(self._transport) < self._outstanding:
            self.start()
        else:
            self._on_stall()


def outstanding(transport: Any) -> int:
    """Return how many written bytes the peer has not acknowledged, in the process and the kernel (tcp(7), SIOCOUTQ)."""
    waiting: int = transport.get_write_buffer_size()
    try:
        sent = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return waiting
    return waiting + int(struct.unpack("i", sent)[0])
