"""Reads and writes WebSocket frames with picows on an existing connection.

picows has no call for that, so its protocol object is created here and gets a synthetic handshake: it never reads the
client's. Only this uses undocumented behaviour of picows; its version is pinned below the next minor one.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import structlog
from picows import WSAutoPingStrategy, WSProtocolError, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # what it does not document

from interlock.machine.closing import CLOSE_CODES
from interlock.server.experience.headers import RawHeaders
from interlock.server.experience.transport.websocket import MESSAGE_BYTES, WebSocket

_log = structlog.get_logger("interlock.http")

_HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: %b\r\n\r\n"
)
_ANY_KEY: Final = b"AAAAAAAAAAAAAAAAAAAAAA=="

_READ_BYTES: Final = 4 * 1024
"""Size of one read."""
_BUFFER_BYTES: Final = 2048
"""Size of the buffer that picows holds per connection for an unfinished frame."""
_KEPT_BYTES: Final = 16 * 1024
"""picows grows its buffer for a large frame. One above this size is replaced after that frame."""

_shared: Final = memoryview(bytearray(_READ_BYTES))
"""The read buffer, shared by all connections."""


class FrameReader(asyncio.BufferedProtocol):
    """The protocol of a connection that is a WebSocket. It reports frames, pauses and the end to ``socket``."""

    def __init__(self, transport: Any, socket: WebSocket, headers: RawHeaders, key: bytes) -> None:
        self._transport = transport
        self._socket = socket
        self._line = _Line(transport, socket)
        answer = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        transport.set_protocol(self)
        self._begin(WSUpgradeResponse.create_101_response(extra_headers=answer), key)

    def _begin(self, response: Any, key: bytes) -> None:
        """Make picows answer a handshake with ``key`` by ``response``, and read frames from now on."""
        # picows must not reference this object: only the garbage collector would free such a cycle.
        socket = self._socket
        self._picows = WSProtocol(
            None,  # host and port, of a client
            None,  # path, of a client
            False,  # noqa: FBT003  # is_client_side
            lambda _request: WSUpgradeResponseWithListener(response, socket),
            _PicowsLogger(self._line, socket),
            True,  # noqa: FBT003  # disconnect_on_exception
            None,  # handshake timeout: it is here
            False,  # noqa: FBT003  # pings by itself
            1,
            1,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # noqa: FBT003  # pongs by itself, uncounted
            MESSAGE_BYTES,
            None,  # headers, of a client
            _BUFFER_BYTES,
        )
        self._picows.connection_made(self._line)
        self._size = len(self._picows.get_buffer(-1))
        handshake = _HANDSHAKE % key
        self._picows.get_buffer(-1)[: len(handshake)] = handshake
        self._picows.buffer_updated(len(handshake))

    def get_buffer(self, _size: int) -> memoryview:
        """Return the buffer to read into."""
        return _shared

    def buffer_updated(self, count: int) -> None:
        """Feed picows in pieces that fit its buffer, which it doubles permanently when nearly full."""
        at = 0
        while at < count and not self._socket.over:
            space = self._picows.get_buffer(-1)
            filled = self._size - len(space)
            spare = self._size * 7 // 8 - 256 - filled
            length = min(count - at, spare if spare > 0 else len(space))
            space[:length] = _shared[at : at + length]
            at += length
            filled += length
            if 100 * filled // self._size > 90 or self._size - filled <= 256:  # noqa: PLR2004  # picows' own rule
                self._size *= 2
            self._picows.buffer_updated(length)
        if self._size > _KEPT_BYTES and len(self._picows.get_buffer(-1)) == self._size and not self._socket.over:
            # No frame is unfinished: start again with a small buffer.
            self._line.muted = True
            self._begin(WSUpgradeResponse.create_101_response(), _ANY_KEY)
            self._line.muted = False

    def eof_received(self) -> bool:
        """Handle the end of the peer's data, without a close frame."""
        self._socket.peer_ended()
        return True

    def pause_writing(self) -> None:
        """Note that the peer does not take what is sent."""
        self._socket.blocked()

    def resume_writing(self) -> None:
        """Note that the peer takes it again."""
        self._socket.unblocked()

    def connection_lost(self, _error: Exception | None) -> None:
        """Handle the loss of the TCP connection."""
        self._socket.connection_lost()


class _Line:
    """Stands in for picows' transport and socket: passes writes on, and leaves the end of the connection to this server.

    While ``muted`` it drops writes. While ``muted``, or while ``socket`` collects the handshake's answer, it reports
    waiting bytes, so that picows writes to it instead of the socket.
    """

    __slots__ = ("_socket", "_transport", "muted")

    def __init__(self, transport: Any, socket: WebSocket) -> None:
        self._transport = transport
        self._socket = socket
        self.muted = False

    def get_extra_info(self, name: str) -> _Line | None:
        """Return the socket."""
        return self if name == "socket" else None

    def fileno(self) -> int:
        """Return the file descriptor of the socket."""
        number: int = self._transport.get_extra_info("socket").fileno()
        return number

    def setsockopt(self, *_: object) -> None:
        """Ignore: the event loop has set TCP_NODELAY, and each option would cost two system calls."""

    def getsockopt(self, *_: object) -> int:
        """Return a dummy value; picows only logs it."""
        return 0

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return 1 if self.muted or self._socket.answering else int(self._transport.get_write_buffer_size())

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if not self.muted:
            self._socket.write(data)

    def writelines(self, parts: list[Any]) -> None:
        """Send ``parts``."""
        if not self.muted:
            self._socket.write(b"".join(parts))

    def close(self) -> None:
        """Ignore: picows closes a few milliseconds after an unreadable frame, too early."""


class _PicowsLogger:
    """Stands in for picows' logger. An error is the only sign of an unreadable frame before picows answers it itself.

    Then ``line`` is muted, and ``socket`` handles the fault.
    """

    __slots__ = ("_line", "_socket")

    def __init__(self, line: _Line, socket: WebSocket) -> None:
        self._line = line
        self._socket = socket

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802  # the name in logging
        return False

    def info(self, *_: object) -> None:
        """Ignore: connections are logged where they are refused."""

    debug = warning = info

    def error(self, *_: object) -> None:
        """Report a protocol error of the peer, or a failed handler; the latter is logged."""
        error = sys.exc_info()[1]
        if isinstance(error, WSProtocolError):
            self._fault(int(error.args[0]))
            return
        _log.error("socket.failed", exc_info=error)
        self._fault(CLOSE_CODES["internal_error"].code)

    exception = error

    def _fault(self, code: int) -> None:
        self._line.muted = True
        self._socket.faulted(code)
