"""One established WebSocket (RFC 6455). picows handles frames; messages, limits and the end are handled here.

No task runs for a connection, idle or not. A peer gets a bounded part of each turn of the event loop; one that floods is
cut. Numbers in brackets are sections of RFC 6455.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from interlock.machine.closing import CLOSE_CODES, Close
from interlock.server.experience.transport.heartbeat import Heartbeat
from interlock.server.experience.transport.limits import ConnectionSlot
from interlock.server.experience.transport.lingering_close import LINGER_S, LingeringClose
from interlock.server.experience.transport.stall import StallWatch
from interlock.server.system.loop_turns import LoopTurns

MESSAGE_BYTES: Final = 64 * 1024
"""Maximum size of a message, over all its fragments."""

NO_CODE: Final = 1005
ABNORMAL: Final = 1006

_TURN_FRAMES: Final = 64
"""Approximate number of frames per connection and turn of the event loop; a buffer may hold more.

Turns are told apart by the loop's clock, in milliseconds: of several within one, each but the first has one buffer."""
_FRAME_BYTES: Final = 4 * 1024
"""Each block of this many bytes of a message counts as one more frame against the limit."""

_CLOSE: Final = 8
_PRIVATE: Final = range(3000, 5000)
_SENT_BY_PEERS: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_BY_CODE: Final = {row.code: name for name, row in CLOSE_CODES.items()}

_TURN, _BLOCKED, _BUSY = 1, 2, 4
"""Why a connection is not read: its turn is over; the peer does not take what is sent; the handler asked for it."""


class WebSocketHandler(Protocol):
    """The application's end of a WebSocket. No method waits or raises."""

    def opened(self, wire: WebSocket) -> None:
        """Handle the answered handshake. ``wire`` can send from now on."""
        ...

    def text(self, text: str) -> None:
        """Handle a text message."""
        ...

    def binary(self) -> None:
        """Handle a binary message."""
        ...

    def writable(self) -> None:
        """Continue sending: the peer takes it again."""
        ...

    def broken(self, closing: Close) -> None:
        """End the connection with ``closing``: the peer broke the protocol or a limit."""
        ...

    def lost(self, code: int) -> None:
        """Handle the end. ``code`` is the peer's close code: 1005 if it gave none, 1006 without a close frame."""
        ...


class WebSocket(WSListener):
    """The connection below a :class:`WebSocketHandler`."""

    __slots__ = (
        "_answer",
        "_binary",
        "_closing",
        "_faulted",
        "_frames",
        "_handler",
        "_heartbeat",
        "_holds",
        "_limits",
        "_loop",
        "_parts",
        "_peer_ended",
        "_ping",
        "_received_code",
        "_slot",
        "_stall",
        "_transport",
        "_turn",
        "_turn_frames",
        "_turns",
        "_unfinished",
        "_used_until",
    )

    def __init__(
        self, transport: Any, handler: WebSocketHandler, slot: ConnectionSlot, heartbeat: Heartbeat, turns: LoopTurns
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._handler = handler
        self._heartbeat = heartbeat
        self._turns = turns
        self._slot = slot
        self._limits = slot.limits
        self._frames: WSTransport = None  # type: ignore[assignment]  # until the handshake is answered, before anything else
        # Data sent before the handler knows of the connection.
        self._answer: bytearray | None = bytearray()
        self._stall: StallWatch | None = None
        self._holds = 0
        self._closing = False
        self._faulted = False
        self._received_code = ABNORMAL
        self._peer_ended = False
        self._ping = 0
        # Fragments of a message so far (5.4), and whether it is binary.
        self._parts: bytearray | None = None
        self._binary = False
        # Whether the last ping found that message unfinished.
        self._unfinished = False
        self._used_until = 0.0
        self._turn = 0.0
        self._turn_frames = 0

    # Called by the handler

    @property
    def writable(self) -> bool:
        """Whether the peer takes what is sent."""
        return not self._holds & _BLOCKED

    def send(self, text: bytes) -> None:
        """Send a text message."""
        if not self._closing:
            self._frames.send(WSMsgType.TEXT, text)

    def close(self, closing: Close) -> None:
        """Send a close frame. The peer has a few seconds to close, whatever it does."""
        if not self._closing:
            self._send_close(closing.code.to_bytes(2, "big") + closing.reason.encode())

    def pause_reading(self) -> None:
        """Stop reading from the peer. Messages already read are still delivered."""
        self._hold(_BUSY)

    def resume_reading(self) -> None:
        """Resume reading."""
        self._let_go(_BUSY)

    def abort(self) -> None:
        """Drop the TCP connection and all unsent data."""
        self._transport.abort()
        self._end()

    # Called by the heartbeat

    def ping(self) -> None:
        """See :class:`interlock.server.experience.transport.heartbeat.Pinged`."""
        if self._unfinished and not self._holds:
            self._handler.broken(Close("bad_message", "the rest of it did not come in time"))
            return
        self._unfinished = self._parts is not None
        self._ping += 1
        self._frames.send_ping(b"%d" % self._ping)

    def lost(self) -> None:
        """See :class:`interlock.server.experience.transport.heartbeat.Pinged`."""
        if self._holds & _BLOCKED:
            # The server is not reading, so it can't see the pong. The stall watch decides whether the peer is alive.
            self._heartbeat.add(self)
        else:
            self._handler.broken(Close("heartbeat_lost"))

    # Called by picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Handle the written handshake answer. picows calls this again after a restart."""
        first, self._frames = self._frames is None, transport
        if first:
            self._heartbeat.add(self)
            self._handler.opened(self)
            self._send_answer()

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        """Handle a frame."""
        if self.over:
            return
        kind = frame.msg_type
        if not self._within_limits(frame.payload_size):
            self._handler.broken(Close("flood"))
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            # No extension was negotiated (5.2).
            self._handler.broken(Close("protocol_error"))
        elif kind == WSMsgType.TEXT and frame.fin and self._parts is None:
            self._message(frame.get_payload_as_bytes(), binary=False)
        elif kind == WSMsgType.PING:
            self._frames.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            if frame.get_payload_as_bytes() == b"%d" % self._ping:
                self._heartbeat.heard(self)
        elif kind == WSMsgType.CLOSE:
            self._close_frame(frame)
        else:
            self._fragment(kind, frame)

    # Called by the connection

    @property
    def answering(self) -> bool:
        """Whether the handshake's answer, and what is sent with it, is still being collected."""
        return self._answer is not None

    def write(self, data: bytes) -> None:
        """Send bytes. The handshake's answer waits for what the handler sends at once: each write is a system call."""
        if self._answer is None:
            self._transport.write(data)
        else:
            self._answer += data

    @property
    def over(self) -> bool:
        """Whether further input is ignored."""
        return self._closing or self._faulted

    def blocked(self) -> None:
        """Stop reading while the peer does not take what is sent, so that answers don't pile up."""
        self._hold(_BLOCKED)
        self._stall = StallWatch(self._transport, self._limits.settings.send_timeout_s, self._stalled)
        self._stall.start()

    def unblocked(self) -> None:
        """Continue reading: the peer takes again what is sent."""
        if self._stall is not None:
            self._stall.stop()
            self._stall = None
        self._let_go(_BLOCKED)
        self._handler.writable()

    def peer_ended(self) -> None:
        """Close after the peer closed its end without a close frame (7.1.1, 7.1.5)."""
        self._peer_ended = True
        if not self._faulted:
            self._finish()

    def connection_lost(self) -> None:
        """Handle the loss of the TCP connection."""
        try:
            self._end()
        finally:
            self._slot.release()

    def faulted(self, code: int) -> None:
        """End the connection with ``code`` after unreadable input or a failed handler. picows may go on reading, in vain.

        If the peer's close frame came before, that was the end, and what follows is ignored (1.4).
        """
        if not self.over:
            self._faulted = True
            handshake = self._frames.close_handshake
            received = cast("int", handshake.recv.code) or NO_CODE if handshake and handshake.recv else None
            self._loop.call_soon(self._leave_fault, code, received)

    def _leave_fault(self, code: int, received: int | None) -> None:
        try:
            if received is not None:
                self._answer_close(received)
            else:
                self._handler.broken(Close(_BY_CODE.get(code, "protocol_error")))
        finally:
            self._finish()

    # Messages

    def _message(self, payload: bytes, *, binary: bool) -> None:
        if binary:
            self._handler.binary()
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self._handler.broken(Close("invalid_text"))
        else:
            self._handler.text(text)

    def _fragment(self, kind: WSMsgType, frame: WSFrame) -> None:
        """Handle a binary message, or part of a fragmented one (5.4)."""
        if (kind == WSMsgType.CONTINUATION) == (self._parts is None):
            self._handler.broken(Close("protocol_error"))
            return
        if self._parts is None:
            self._parts, self._binary = bytearray(), kind == WSMsgType.BINARY
        self._parts += frame.get_payload_as_memoryview()
        if len(self._parts) > MESSAGE_BYTES:
            self._handler.broken(Close("message_too_big"))
        elif frame.fin:
            parts, self._parts, self._unfinished = self._parts, None, False
            self._message(bytes(parts), binary=self._binary)

    def _close_frame(self, frame: WSFrame) -> None:
        """Handle the peer's close frame."""
        self._answer_close(cast("int", frame.get_close_code()) if frame.payload_size else NO_CODE)

    def _answer_close(self, code: int) -> None:
        """Answer the peer's close frame with the same code, and close (5.5.1, 7.4)."""
        if code != NO_CODE and code not in _SENT_BY_PEERS and code not in _PRIVATE:
            self._handler.broken(Close("protocol_error"))
            return
        self._received_code = code
        self._send_close(b"" if code == NO_CODE else code.to_bytes(2, "big"))

    # Limits

    def _within_limits(self, size: int) -> bool:
        """Count a frame (GCRA over ``limit_frames``), and pause after the peer's part of the turn."""
        now = self._loop.time()
        burst_s = self._limits.frame_burst_s
        if burst_s is not None:
            cost_s = self._limits.frame_interval_s * (1 + size // _FRAME_BYTES)
            self._used_until = max(self._used_until, now) + cost_s
            if self._used_until - now > burst_s:
                return False
        if now != self._turn:
            self._turn, self._turn_frames = now, 0
        self._turn_frames += 1
        if self._turn_frames >= _TURN_FRAMES and not self._holds & _TURN:
            self._hold(_TURN)
            self._turns.add(self._next_turn)
        return True

    def _next_turn(self) -> None:
        """Resume reading after other connections had their turn."""
        self._let_go(_TURN)

    def _stalled(self) -> None:
        """Drop a peer that has taken nothing for too long; a close frame would not reach it."""
        try:
            self._handler.broken(Close("slow_consumer"))
        finally:
            self.abort()

    def _send_close(self, payload: bytes) -> None:
        """Write a close frame (5.5.1) regardless of picows' state."""
        if not self._transport.is_closing():
            self.write(bytes((0x80 | _CLOSE, len(payload))) + payload)
        self._finish()

    def _send_answer(self) -> None:
        """Send the handshake's answer and all that goes with it, once."""
        answer, self._answer = self._answer, None
        if answer and not self._transport.is_closing():
            self._transport.write(answer)

    def _finish(self) -> None:
        """Close after everything is written. Input is ignored; the peer has a few seconds to take the data and close."""
        if self._closing:
            return
        self._send_answer()
        self._end()
        seconds = min(LINGER_S, self._limits.settings.send_timeout_s)
        LingeringClose(self._transport, self._slot.release, seconds, peer_ended=self._peer_ended)

    def _end(self) -> None:
        """Tell the handler, once, that the connection is over."""
        if self._closing:
            return
        self._closing = True
        self._heartbeat.remove(self)
        if self._stall is not None:
            self._stall.stop()
            self._stall = None
        # It references this object: a cycle that only the garbage collector would free.
        del self._frames
        self._handler.lost(self._received_code)

    def _hold(self, why: int) -> None:
        if not self._holds and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds |= why

    def _let_go(self, why: int) -> None:
        if self._holds == why and not self._closing and not self._transport.is_closing():
            self._transport.resume_reading()
        self._holds &= ~why
