"""Bugs in the connection layer. ``breaks`` is the section of the standard, or the setting, that no longer holds."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_FOLDER: Final = "server/experience/transport/"
_READER: Final = _FOLDER + "reader.py"
_EXCHANGE: Final = _FOLDER + "exchange.py"
_HTTP: Final = _FOLDER + "http.py"
_HANDSHAKE: Final = _FOLDER + "handshake.py"
_WEBSOCKET: Final = _FOLDER + "websocket.py"
_STALL: Final = _FOLDER + "stall.py"
_FAREWELL: Final = _FOLDER + "lingering_close.py"

_CUTS: Final = "tests/transport/test_reader.py::"
_REFUSED: Final = _CUTS + "test_what_has_no_certain_end_or_is_too_large_is_refused"
_LIMITS: Final = "tests/transport/test_limits.py::"
_FRAMES: Final = "tests/transport/test_frames.py::test_frames_are_read_as_the_standard_says"
_MALFORMED: Final = "tests/server/test_protocol.py::test_a_malformed_handshake_is_refused_over_http"
_AHEAD: Final = _LIMITS + "test_requests_that_are_sent_ahead_wait_in_the_kernel_and_are_all_answered"

OF_CONNECTION: Final[tuple[Mutant, ...]] = (
    Mutant(
        "the-body-of-an-offer-is-a-request",
        _READER,
        "A request that offers an upgrade ends with its head, as llhttp has it, and its body is the next request.",
        "RFC 9110, 7.8",
        _CUTS + "test_the_body_of_an_upgrade_offer_is_a_body",
        "assert [",
        (
            (
                "            if self.in_body and self.complete:\n",
                "            if self.in_body and self.complete and False:\n",
            ),
        ),
    ),
    Mutant(
        "two-hosts-are-one",
        _READER,
        "Of two Host headers nobody takes notice.",
        "RFC 9112, 3.2",
        _REFUSED,
        "assert [",
        (("        if len(hosts) > 1 or (not hosts", "        if (not hosts"),),
    ),
    Mutant(
        "a-target-that-names-another-host",
        _READER,
        "A target in absolute-form may name another host than Host does.",
        "RFC 9112, 3.2.2",
        _REFUSED,
        "assert [",
        (
            (
                '            raise RequestRefused(400, "the request target and Host name different hosts")\n',
                "            pass\n",
            ),
        ),
    ),
    Mutant(
        "chunks-of-one-byte-without-end",
        _READER,
        "The chunks of a body are not counted, so that those of a byte keep the server busy.",
        "body_timeout_s",
        _REFUSED,
        "assert [",
        (("        if self._lines > MAX_CHUNKS:", "        if False:"),),
    ),
    Mutant(
        "any-number-of-headers",
        _READER,
        "A head has as many headers as fit into it.",
        "header_bytes",
        _REFUSED,
        "assert [",
        (("        if len(self._headers) >= MAX_HEADERS:\n", "        if False:\n"),),
    ),
    Mutant(
        "an-encoded-slash-is-a-slash",
        _EXCHANGE,
        "The path is decoded as a whole, so that an encoded slash separates.",
        "RFC 3986, 2.2",
        _CUTS + "test_only_a_plain_slash_separates_segments",
        "== '/api/%2Fadmin/accounts'",
        (('.replace(b"%", b"%25").replace(b"/", b"%2F")', ""),),
    ),
    Mutant(
        "empty-segments-are-none",
        _EXCHANGE,
        "Two slashes are read as one.",
        "RFC 3986, 3.3",
        _CUTS + "test_only_a_plain_slash_separates_segments",
        "== '/%2F/api/session'",
        (('    kept = [segment or b"%2F" if', '    kept = [segment or b"." if'),),
    ),
    Mutant(
        "frames-before-the-answer",
        _HTTP,
        "What a client sends before it has the answer to its handshake is dropped, and the handshake accepted.",
        "RFC 6455, 4.1",
        _MALFORMED,
        "assert 101 == 400",
        (("        return bool(self._pending) or self._ended\n", "        return self._ended\n"),),
    ),
    Mutant(
        "head-opens-a-websocket",
        _HANDSHAKE,
        "A handshake may have any method that is routed as GET.",
        "RFC 6455, 4.1",
        _MALFORMED,
        "assert 101 == 426",
        (('    if request.method != "GET" or request.http_version', "    if request.http_version"),),
    ),
    Mutant(
        "a-handshake-with-content",
        _HANDSHAKE,
        "A handshake may have content.",
        "RFC 6455, 4.1",
        _MALFORMED,
        "assert 101 == 400",
        (("    if request.has_body:\n", "    if False:\n"),),
    ),
    Mutant(
        "a-flood-goes-on",
        _WEBSOCKET,
        "Frames are counted, and however many there are, nothing follows.",
        "limit_frames",
        _LIMITS + "test_a_flood_of_frames_is_closed_with_4420",
        "Error",
        (
            (
                "            if self._used_until - now > burst_s:\n                return False\n",
                "            pass\n",
            ),
        ),
    ),
    Mutant(
        "large-messages-count-as-small-ones",
        _WEBSOCKET,
        "A message of 64 KiB counts as one frame.",
        "limit_frames",
        _LIMITS + "test_each_four_kib_of_a_message_count_as_one_more_frame",
        "Error",
        (("self._limits.frame_interval_s * (1 + size // _FRAME_BYTES)", "self._limits.frame_interval_s"),),
    ),
    Mutant(
        "reserved-bits-are-ignored",
        _WEBSOCKET,
        "Frames with bits of extensions that nobody agreed on are read as if those were not there.",
        "RFC 6455, 5.2",
        _FRAMES,
        "in test_frames_are_read_as_the_standard_says",
        (("        elif frame.rsv1 or frame.rsv2 or frame.rsv3:\n", "        elif False:\n"),),
    ),
    Mutant(
        "fragments-of-a-message-without-end",
        _WEBSOCKET,
        "The size of a message is that of each of its fragments.",
        "RFC 6455, 10.4",
        _FRAMES,
        "in test_frames_are_read_as_the_standard_says",
        (("        if len(self._parts) > MESSAGE_BYTES:", "        if frame.payload_size > MESSAGE_BYTES:"),),
    ),
    Mutant(
        "requests-are-read-ahead",
        _HTTP,
        "While a request is answered the connection goes on reading, and keeps what it reads.",
        "RFC 9112, 9.3.2",
        _AHEAD,
        "the server reads on while its answers are not taken",
        (
            (
                "            self._pending += data\n            self._pause()\n",
                "            self._pending += data\n",
            ),
            ("        if self._pending:\n            self._pause()\n", ""),
        ),
    ),
    Mutant(
        "answers-pile-up",
        _HTTP,
        "The next request is answered whether or not the client takes the answers.",
        "send_timeout_s",
        _AHEAD,
        "the server reads on while its answers are not taken",
        (
            (
                "        if self.write_paused or self._transport.is_closing() or self._left:\n",
                "        if self._transport.is_closing() or self._left:\n",
            ),
            ("        elif not self.write_paused:\n", "        else:\n"),
        ),
    ),
    Mutant(
        "who-takes-nothing-is-waited-for",
        _STALL,
        "A peer that takes nothing of what is sent is looked at again and again.",
        "send_timeout_s",
        _LIMITS + "test_a_peer_that_takes_nothing_is_cut",
        "Error",
        (("            self._on_stall()\n", "            self.start()\n"),),
    ),
    Mutant(
        "a-pong-that-nobody-reads-is-missed",
        _WEBSOCKET,
        "A peer that is not read from, because it is slow, is closed for its missing pong.",
        "ping_timeout_s",
        _LIMITS + "test_a_peer_that_is_not_read_from_is_not_asked_for_its_pong",
        "assert ['heartbeat_lost'] == []",
        (("        if self._holds & _BLOCKED:\n            # Its pong", "        if False:\n            # Its pong"),),
    ),
    Mutant(
        "a-goodbye-without-end",
        _FAREWELL,
        "A peer that does not close keeps its connection.",
        "RFC 6455, 7.1.1",
        _LIMITS + "test_a_peer_that_does_not_close_after_the_close_frame_is_cut",
        "TimeoutError",
        (
            (
                "            self._timer = asyncio.get_running_loop().call_later(seconds, transport.abort)\n",
                "            pass\n",
            ),
        ),
    ),
)
"""Bugs in what a stranger meets first."""
