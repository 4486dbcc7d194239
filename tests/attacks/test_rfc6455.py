"""RFC 6455, section by section, over raw sockets: protocol errors end the connection with the right code."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Final

import httpx
import pytest

from tests.support.client import PASSWORD, new_email
from tests.support.raw_websocket import (
    ANSWER,
    ASK,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WAIT_S,
    Wire,
    closing,
    fragments,
    frame,
)
from tests.support.server import ServerProcess, running_server

MESSAGE_BYTES: Final = 64 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("rfc6455") / "data", connections_per_session=10_000) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@pytest.fixture
def bearer(server: ServerProcess) -> str:
    """Return the access token of a new user."""
    who = {"email": new_email(), "password": PASSWORD}
    with httpx.Client(base_url=server.url, timeout=WAIT_S) as http:
        http.post("/api/auth/register", json=who).raise_for_status()
        return str(http.post("/api/auth/login", json=who).raise_for_status().json()["access_token"])


def test_the_handshake_is_answered_as_section_4_2_2_says(server: ServerProcess, bearer: str) -> None:
    with Wire(server, bearer) as wire:
        digest = hashlib.sha1(f"{wire.key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324  # RFC 6455
        assert wire.status == 101
        assert wire.headers["upgrade"].lower() == "websocket"
        assert wire.headers["connection"].lower() == "upgrade"
        assert wire.headers["sec-websocket-accept"] == base64.b64encode(digest).decode()
        assert wire.headers["sec-websocket-protocol"] == "interlock.v1"
        assert "sec-websocket-extensions" not in wire.headers
        wire.asks()


_REFRESH: Final = '{"type":"refresh","access_token":"%s"}'
_HUGE: Final = {
    "2 ** 16": struct.pack("!BBQ", 0x81, 0xFF, 1 << 16),
    "one byte too many": struct.pack("!BBQ", 0x81, 0xFF, MESSAGE_BYTES + 1),
    "2 ** 31": struct.pack("!BBQ", 0x81, 0xFF, 1 << 31),
    "2 ** 32": struct.pack("!BBQ", 0x81, 0xFF, 1 << 32),
    "2 ** 62": struct.pack("!BBQ", 0x81, 0xFF, 1 << 62),
}

BROKEN: Final[dict[str, tuple[bytes, set[int]]]] = {
    # 5.1: a client masks every frame.
    "text without a mask": (frame(TEXT, ASK, mask=None), {1002}),
    "empty text without a mask": (frame(TEXT, mask=None), {1002}),
    "a ping without a mask": (frame(PING, b"x", mask=None), {1002}),
    "a close without a mask": (frame(CLOSE, b"\x03\xe8", mask=None), {1002}),
    "a rest without a mask": (frame(TEXT, ASK[:5], fin=False) + frame(CONTINUATION, ASK[5:], mask=None), {1002}),
    # 5.2: no extension gives the reserved bits a meaning.
    **{
        f"reserved bits {rsv:03b}, opcode {opcode}": (frame(opcode, ASK, rsv=rsv), {1002})
        for rsv in (1, 2, 4, 7)
        for opcode in (TEXT, BINARY, PING, PONG)
    },
    "reserved bits on a rest": (frame(TEXT, ASK[:5], fin=False) + frame(CONTINUATION, ASK[5:], rsv=4), {1002}),
    "reserved bits on a close": (frame(CLOSE, b"\x03\xe8", rsv=2), {1002}),
    # 5.2: undefined opcodes.
    **{
        f"opcode {opcode}{', ' + what if what else ''}": (frame(opcode, payload, fin=fin), {1002})
        for opcode in (*range(3, 8), *range(11, 16))
        for what, payload, fin in (("", ASK, True), ("empty", b"", True), ("not final", b"", False))
    },
    "an unknown opcode in a message": (frame(TEXT, ASK[:5], fin=False) + frame(3, ASK[5:]), {1002}),
    # 5.2: the highest bit of a 64-bit length is 0.
    "a negative length": (struct.pack("!BBQ", 0x81, 0xFF, 1 << 63 | 5) + bytes(4) + b"hello", {1002, 1009}),
    "a length of -1": (struct.pack("!BBQ", 0x82, 0xFF, (1 << 64) - 1) + bytes(4), {1002, 1009}),
    # 5.4: fragments.
    "a rest of nothing": (frame(CONTINUATION, ASK), {1002}),
    "an empty rest of nothing": (frame(CONTINUATION), {1002}),
    "a rest that goes on, of nothing": (frame(CONTINUATION, ASK, fin=False), {1002}),
    "text within a message": (frame(TEXT, ASK[:5], fin=False) + frame(TEXT, ASK), {1002}),
    "the beginning of text within a message": (frame(TEXT, ASK[:5], fin=False) + frame(TEXT, ASK, fin=False), {1002}),
    "binary within a message": (frame(TEXT, ASK[:5], fin=False) + frame(BINARY, ASK), {1002}),
    "text within an empty message": (frame(TEXT, fin=False) + frame(TEXT, ASK), {1002}),
    # 5.5: control frames are unfragmented and short.
    **{
        f"opcode {opcode} in parts": (frame(opcode, payload, fin=False), {1002})
        for opcode, payload in ((PING, b"x"), (PING, b""), (PONG, b"x"), (CLOSE, b"\x03\xe8"))
    },
    "a ping in parts within a message": (frame(TEXT, ASK[:5], fin=False) + frame(PING, b"x", fin=False), {1002}),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), {1002}),
    "a ping of 64 KiB": (frame(PING, b"x" * 65_536), {1002, 1009}),
    "a pong of 126 bytes": (frame(PONG, b"x" * 126), {1002}),
    "a close of 126 bytes": (closing(1000, b"x" * 124), {1002}),
    # 5.5.1, 7.1.5, 7.4: what a close frame holds.
    "a close of one byte": (frame(CLOSE, b"\x03"), {1002}),
    **{
        f"close code {code}": (closing(code), {1002})
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65_535)
    },
    "a reason that is no UTF-8": (closing(1000, b"\xff"), {1002, 1007}),
    "a reason that ends in the middle": (closing(1000, "é".encode()[:1]), {1002, 1007}),
    "a reason with a surrogate": (closing(4000, b"x\xed\xa0\x80"), {1002, 1007}),
    # 8.1: text is UTF-8.
    **{
        f"text {text!r}": (frame(TEXT, _REFRESH.encode() % text), {1007})
        for text in (
            b"\x80",
            b"\xbf\xbf",
            b"\xc0\xaf",
            b"\xc1\xbf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf8\x88\x80\x80\x80",
            b"\xfe",
            b"\xff",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce",
            b"\xe2\x82",
            b"\xf0\x9f\x98",
        )
    },
    "text that ends in the middle": (frame(TEXT, "κόσμε".encode()[:-1]), {1007}),
    "text in parts that ends in the middle": (fragments(TEXT, b"\xf0\x9f", b"\x98"), {1007}),
    "text in parts that goes on wrong": (fragments(TEXT, b"\xf0\x9f", b"\x98", b"x"), {1007}),
    "text in parts with a surrogate": (fragments(TEXT, b"\xed", b"\xa0\x80"), {1007}),
    "text in parts that is wrong in the first": (fragments(TEXT, b"\xff", ASK), {1007}),
    # The server's own limit: 64 KiB per message, however it is framed. The announced data need not arrive.
    **{
        f"a length of {name} is announced": (head + bytes(4), {1009})
        for name, head in _HUGE.items()
        if name != "2 ** 16"
    },
    "a message of 64 KiB and a byte": (frame(TEXT, b" " * MESSAGE_BYTES + b"x"), {1009}),
    "one in two parts": (fragments(TEXT, b" " * MESSAGE_BYTES, b"x"), {1009}),
    "one in many parts": (fragments(TEXT, *[b" " * 1000] * 66), {1009}),
    "one that doesn't end": (
        frame(TEXT, b"x" * 40_000, fin=False) + frame(CONTINUATION, b"x" * 40_000, fin=False),
        {1009},
    ),
    "a binary message of 64 KiB and a byte": (frame(BINARY, bytes(MESSAGE_BYTES + 1)), {1009}),
}


@pytest.mark.parametrize(("data", "codes"), BROKEN.values(), ids=BROKEN)
def test_a_protocol_error_ends_the_connection_with_its_code(
    server: ServerProcess, bearer: str, data: bytes, codes: set[int]
) -> None:
    with Wire(server, bearer) as wire:
        wire.send(data)
        assert wire.read_close()[0] in codes
    with Wire(server, bearer) as wire:
        # Later frames are not answered (7.1.7), even in the same segment; earlier ones may be.
        wire.send(frame(TEXT, ASK) + data + frame(TEXT, ASK) + frame(PING, b"late"))
        assert wire.read_close((TEXT, ANSWER))[0] in codes


@pytest.mark.parametrize(
    ("data", "codes"),
    [pair for pair in BROKEN.values() if len(pair[0]) < 200],
    ids=[name for name, pair in BROKEN.items() if len(pair[0]) < 200],
)
def test_a_protocol_error_sent_byte_by_byte_has_the_same_code(
    server: ServerProcess, bearer: str, data: bytes, codes: set[int]
) -> None:
    with Wire(server, bearer) as wire:
        wire.send_slowly(data)
        assert wire.read_close()[0] in codes


def long_head(opcode: int, payload: bytes, bits: int) -> bytes:
    """Return a frame whose length field takes more bytes than necessary."""
    length = struct.pack("!BH", 0xFE, len(payload)) if bits == 16 else struct.pack("!BQ", 0xFF, len(payload))
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


SOUND: Final[dict[str, tuple[bytes, list[tuple[int, bytes]]]]] = {
    "a message": (frame(TEXT, ASK), [(TEXT, ANSWER)]),
    "another mask": (frame(TEXT, ASK, mask=b"\xff\x00\x80\x7f"), [(TEXT, ANSWER)]),
    "a mask of zeros": (frame(TEXT, ASK, mask=bytes(4)), [(TEXT, ANSWER)]),
    **{f"a message cut at {at}": (fragments(TEXT, ASK[:at], ASK[at:]), [(TEXT, ANSWER)]) for at in range(len(ASK) + 1)},
    "a frame a byte": (fragments(TEXT, *(ASK[at : at + 1] for at in range(len(ASK)))), [(TEXT, ANSWER)]),
    "empty frames among them": (fragments(TEXT, b"", ASK[:5], b"", b"", ASK[5:], b""), [(TEXT, ANSWER)]),
    "a ping": (frame(PING, b"hello"), [(PONG, b"hello")]),
    "an empty ping": (frame(PING), [(PONG, b"")]),
    "a ping of bytes that are no text": (frame(PING, b"\x00\xff\xfe\xed\xa0"), [(PONG, b"\x00\xff\xfe\xed\xa0")]),
    "a ping of 125 bytes": (frame(PING, b"x" * 125), [(PONG, b"x" * 125)]),
    "a ping within a message": (
        frame(TEXT, ASK[:5], fin=False) + frame(PING, b"1") + frame(CONTINUATION, ASK[5:]),
        [(PONG, b"1"), (TEXT, ANSWER)],
    ),
    "a pong that nobody has asked for": (frame(PONG, b"x") + frame(TEXT, ASK), [(TEXT, ANSWER)]),
    "a pong of 125 bytes within a message": (
        frame(TEXT, ASK[:5], fin=False) + frame(PONG, b"x" * 125) + frame(CONTINUATION, ASK[5:]),
        [(TEXT, ANSWER)],
    ),
    "two messages": (fragments(TEXT, ASK[:5], ASK[5:]) * 2, [(TEXT, ANSWER)] * 2),
}


@pytest.mark.parametrize(("data", "answers"), SOUND.values(), ids=SOUND)
def test_valid_frames_are_answered(
    server: ServerProcess, bearer: str, data: bytes, answers: list[tuple[int, bytes]]
) -> None:
    with Wire(server, bearer) as wire:
        wire.send(data)
        assert [wire.read() for _ in answers] == answers
        wire.send_slowly(data)
        assert [wire.read() for _ in answers] == answers
        wire.asks()


@pytest.mark.parametrize("bits", [16, 64])
@pytest.mark.parametrize(
    ("opcode", "payload", "answer"),
    [(TEXT, ASK, (TEXT, ANSWER)), (PING, b"hello", (PONG, b"hello"))],
    ids=["text", "ping"],
)
def test_an_overlong_length_field_is_read_correctly_or_refused(
    server: ServerProcess, bearer: str, bits: int, opcode: int, payload: bytes, answer: tuple[int, bytes]
) -> None:
    with Wire(server, bearer) as wire:
        wire.send(long_head(opcode, payload, bits) + closing(1000))
        assert wire.read_close(answer)[0] in {1000, 1002}


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_a_message_of_64_kib_is_not_too_big(server: ServerProcess, bearer: str, parts: int) -> None:
    text, size = b" " * (MESSAGE_BYTES - len(ASK)) + ASK, MESSAGE_BYTES // parts + 1
    with Wire(server, bearer) as wire:
        wire.send(fragments(TEXT, *(text[at : at + size] for at in range(0, MESSAGE_BYTES, size))))
        assert wire.read() == (TEXT, ANSWER)


@pytest.mark.parametrize(
    "text", ["κόσμε", "\x7f\u0080\u07ff\u0800\uffff", "\ud7ff\ue000\ufffd\ufeff", "\U00010000\U0010ffff😀"]
)
def test_utf_8_text_is_read_wherever_it_is_split(server: ServerProcess, bearer: str, text: str) -> None:
    """The server's refusal shows that it read the text: it is no access token."""
    message = (_REFRESH % text).encode()
    for at in range(len(message) - len(text.encode()) - 2, len(message)):
        with Wire(server, bearer) as wire:
            wire.send(fragments(TEXT, message[:at], message[at:]))
            assert wire.read_close() == (4401,), at


_CODES: Final = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4401, 4999)


@pytest.mark.parametrize("reason", ["", "é", "x" * 123], ids=["no reason", "a reason", "a long reason"])
@pytest.mark.parametrize("code", _CODES)
def test_a_close_frame_is_answered_with_its_code(server: ServerProcess, bearer: str, code: int, reason: str) -> None:
    with Wire(server, bearer) as wire:
        wire.send(closing(code, reason.encode()))
        assert wire.read_close() == (code,)


BEHIND: Final = {
    "text": frame(TEXT, ASK),
    "a ping": frame(PING, b"late"),
    "another close": closing(1001),
    "a rest of nothing": frame(CONTINUATION, ASK),
    "text without a mask": frame(TEXT, ASK, mask=None),
    "an unknown opcode": frame(3),
    "a length that is too long": _HUGE["2 ** 62"],
    "what is no frame": b"\xff" * 100,
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_data_after_a_close_frame_is_ignored(server: ServerProcess, bearer: str, behind: bytes) -> None:
    for data in (closing(4000), frame(TEXT, ASK) + closing(4000)):
        with Wire(server, bearer) as wire:
            wire.send(data + behind)
            assert wire.read_close((TEXT, ANSWER)) == (4000,)


def test_a_close_frame_without_a_code_is_answered_with_one_without(server: ServerProcess, bearer: str) -> None:
    with Wire(server, bearer) as wire:
        wire.send(frame(CLOSE))
        assert wire.read_close() == ()


def test_a_close_frame_within_a_message_is_a_close(server: ServerProcess, bearer: str) -> None:
    """Control frames, such as a close, may come between fragments (5.4)."""
    with Wire(server, bearer) as wire:
        wire.send(frame(TEXT, ASK[:5], fin=False) + closing(1000) + frame(CONTINUATION, ASK[5:]))
        assert wire.read_close() == (1000,)
