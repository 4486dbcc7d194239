"""Lingering close: send what was written and discard what arrives, until the peer closes or its time is up.

Closing a connection with unread bytes resets it, and the peer may lose the last answer (RFC 9112, 9.6; RFC 6455, 7.1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from interlock.server.experience.transport.stall import StallWatch

LINGER_S: Final = 3.0
"""How long a peer has to close its end."""

_MOST_BYTES: Final = 256 * 1024
"""Limit of discarded bytes: a peer that sends more wants no answer."""

_sink: Final = memoryview(bytearray(64 * 1024))


class LingeringClose(asyncio.BufferedProtocol):
    """The last protocol of ``transport``: closes its writing end, and calls ``on_lost`` when the connection is gone.

    ``seconds`` is the peer's time to close; with ``while_it_reads`` it restarts whenever the peer acknowledges bytes. If
    the peer's end came already, the connection closes as soon as the peer has what was written.
    """

    def __init__(
        self,
        transport: Any,
        on_lost: Callable[[], None],
        seconds: float,
        *,
        while_it_reads: bool = False,
        peer_ended: bool = False,
    ) -> None:
        self._transport = transport
        self._on_lost = on_lost
        self._read = 0
        self._stall: StallWatch | None = None
        self._timer: asyncio.TimerHandle | None = None
        if while_it_reads:
            self._stall = StallWatch(transport, seconds, transport.abort)
            self._stall.start()
        else:
            self._timer = asyncio.get_running_loop().call_later(seconds, transport.abort)
        transport.set_protocol(self)
        if peer_ended:
            transport.close()
        elif not transport.is_closing():
            transport.write_eof()
            transport.resume_reading()

    def get_buffer(self, _size: int) -> memoryview:
        """Return the buffer to read into. All connections share it, since nothing reads it."""
        return _sink

    def buffer_updated(self, count: int) -> None:
        """Discard what was read."""
        self._read += count
        if self._read > _MOST_BYTES and not self._transport.is_closing():
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Close after the peer's end."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop the timers, and report the loss."""
        if self._stall is not None:
            self._stall.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost()
