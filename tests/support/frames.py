"""Frames as clients might write them, and a plain reading of them. Numbers in brackets are sections of RFC 6455."""

from __future__ import annotations

import struct

import msgspec
from hypothesis import strategies as st

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MESSAGE_BYTES = 65_536


class Frame(msgspec.Struct, frozen=True):
    """A frame as a client might write it. ``wide``: how many unnecessary length bytes it has."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    wide: int = 0

    def encode(self) -> bytes:
        length, mask = len(self.payload), 0x80 if self.masked else 0
        form = max(self.wide, 0 if length < 126 else 1 if length < 65_536 else 2)
        head = bytes([(0x80 if self.fin else 0) | self.rsv << 4 | self.opcode])
        head += (
            struct.pack("!B", mask | length)
            if form == 0
            else struct.pack("!BH" if form == 1 else "!BQ", mask | (126 if form == 1 else 127), length)
        )
        if not self.masked:
            return head + self.payload
        key = b"\x5a\x00\xff\x13"
        return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(self.payload))

    @property
    def unreadable(self) -> int | None:
        """The close code for a frame that is wrong by itself, or None (5.2, 5.5)."""
        control, length = self.opcode >= CLOSE, len(self.payload)
        if (
            self.opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
            or not self.masked
            or (control and (not self.fin or length > 125 or self.wide))
            or self.wide > (0 if length < 126 else 1 if length < 65_536 else 2)
        ):
            return 1002
        if self.opcode == CLOSE and length:
            return self._bad_close()
        return 1009 if length > MESSAGE_BYTES else None

    def _bad_close(self) -> int | None:
        code = int.from_bytes(self.payload[:2], "big")
        if len(self.payload) == 1 or not (code in {1000, 1001, 1002, 1003, *range(1007, 1015)} or 3000 <= code < 5000):
            return 1002
        return None if is_text(self.payload[2:]) else 1007


def is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


class Reading:
    """A plain reading of frames: the messages so far, and the code that ends the connection."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.binaries = 0
        self.code: int | None = None
        self._parts: list[bytes] | None = None
        self._binary = False

    def read(self, frame: Frame) -> None:
        if frame.unreadable is not None or frame.rsv:
            self.code = frame.unreadable or 1002
        elif frame.opcode == CLOSE:
            self.code = int.from_bytes(frame.payload[:2], "big") if frame.payload else 1005
        elif frame.opcode < CLOSE:
            self._data(frame)

    def _data(self, frame: Frame) -> None:
        if (frame.opcode == CONTINUATION) == (self._parts is None):
            self.code = 1002
            return
        if self._parts is None:
            self._parts, self._binary = [], frame.opcode == BINARY
        self._parts.append(frame.payload)
        if sum(map(len, self._parts)) > MESSAGE_BYTES:
            self.code = 1009
        elif frame.fin:
            message, self._parts = b"".join(self._parts), None
            if self._binary:
                self.binaries += 1
            elif is_text(message):
                self.texts.append(message.decode())
            else:
                self.code = 1007


class Expected(msgspec.Struct, frozen=True):
    """The possible results of frames: text messages, the number of binary ones, and the possible close codes."""

    texts: list[str]
    binaries: int
    codes: set[int]
    without_last: tuple[list[str], int] | None
    """The messages if the frame before the unreadable one is dropped with it."""

    def fits(self, texts: list[str], binaries: int, code: int) -> bool:
        """Return whether this may be the result."""
        return code in self.codes and (texts, binaries) in ((self.texts, self.binaries), self.without_last)


def read(frames: list[Frame]) -> Expected:
    """Return the possible results of ``frames``, the last of which is a close frame.

    An unreadable frame may be noticed before the frame in front of it is processed, which is then dropped, unless it is a
    close frame, which is the end.
    """
    reading, before = Reading(), (list[str](), 0)
    for frame, following in zip(frames, [*frames[1:], None], strict=True):
        if reading.code is None:
            last, before = before, (list(reading.texts), reading.binaries)
            reading.read(frame)
        if reading.code is not None:
            ahead = following.unreadable if following is not None and frame.opcode != CLOSE else None
            # A close code of 0 counts as none if more follows.
            none = 1005 if frame.opcode == CLOSE and frame.payload[:2] == b"\0\0" and following is not None else None
            codes = {code for code in (reading.code, ahead, none) if code is not None}
            dropped = last if frame.unreadable is not None else None
            return Expected(reading.texts, reading.binaries, codes, dropped)
    raise AssertionError("the last one is a close frame")


payloads = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"", b"x" * 126, b"\xff", b"\xed\xa0\x80"]),
)
honest = st.builds(
    Frame, st.sampled_from([TEXT, BINARY, PING, PONG, CONTINUATION]), payloads.filter(lambda p: len(p) < 126)
)
fragments = st.builds(Frame, st.sampled_from([TEXT, BINARY, CONTINUATION]), payloads, st.booleans())
closes = st.builds(
    lambda both: Frame(CLOSE, struct.pack("!H", both[0]) + both[1]),
    st.tuples(
        st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1006, 1011, 1015, 2999, 3000, 4999, 5000, 65535]),
        st.sampled_from([b"", b"bye"]),
    )
    | st.just((1000, b"\xff")),
) | st.just(Frame(CLOSE))
odd = st.builds(Frame, st.integers(0, 15), payloads, st.booleans(), st.integers(0, 7), st.booleans(), st.integers(0, 2))
sequences = st.lists(st.one_of(honest, honest, fragments, fragments, closes, odd), max_size=8)


def split(whole: bytes, cuts: list[int]) -> list[bytes]:
    """Split ``whole`` into segments."""
    places = sorted(min(cut, len(whole)) for cut in cuts)
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]


def encode(frames: list[Frame]) -> bytes:
    """Encode ``frames``."""
    return b"".join(frame.encode() for frame in frames)


LAST = Frame(CLOSE, struct.pack("!H", 4321))
"""The client's end of a connection that is still open."""
