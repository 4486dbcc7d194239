"""The end of a connection: what was written is still sent; what comes is thrown away, until the peer closes or its time is up.

A connection that is closed while unread bytes wait is reset, and the peer may lose the last answer (RFC 9112, 9.6; RFC 6455,
7.1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from interlock.server.experience.transport.stall import StallWatch

LINGER_S: Final = 3.0
"""How long a peer may take for its end."""

_MOST_BYTES: Final = 256 * 1024
"""What is read and thrown away at most: a peer that sends more wants no answer."""

_sink: Final = memoryview(bytearray(64 * 1024))


class LingeringClose(asyncio.BufferedProtocol):
    """The last protocol of ``transport``, whose writing end it closes. ``on_lost`` is called when the connection is gone.

    ``seconds`` is the time for the peer's end; with ``while_it_reads`` it begins anew whenever the peer acknowledges something.
    If the peer's end came already, the connection closes as soon as the peer has what was written.
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
        """Where to read into: all connections share what nobody looks at."""
        return _sink

    def buffer_updated(self, count: int) -> None:
        """Throw it away."""
        self._read += count
        if self._read > _MOST_BYTES and not self._transport.is_closing():
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The peer's end: close."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone."""
        if self._stall is not None:
            self._stall.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost()
