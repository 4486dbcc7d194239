"""Bugs in the connection layer. ``breaks`` is the section of the standard, or the setting, that no longer holds."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, replace
from tests.mutants.mutant import Mutant

OF_CONNECTION: Final[tuple[Mutant, ...]] = (
    Mutant(
        "A request that offers an upgrade ends with its head, as llhttp has it, and its body is the next request.",
        "RFC 9110, 7.8",
        "test_the_body_of_an_upgrade_offer_is_a_body",
        at(
            "reader:RequestReader._feed_head",
            replace("self.in_body and self.complete", "self.in_body and self.complete and False"),
        ),
    ),
    Mutant(
        "The chunks of a body are not counted, so that those of a byte keep the server busy.",
        "body_timeout_s",
        "test_a_request_with_an_uncertain_end_or_too_large_is_refused",
        at("reader:RequestReader._begin_chunk", replace("self._lines > MAX_CHUNKS", "False")),
    ),
    Mutant(
        "The path is decoded as a whole, so that an encoded slash separates.",
        "RFC 3986, 2.2",
        "test_only_a_plain_slash_separates_segments",
        at(
            "exchange:path_of",
            replace("unquote_to_bytes(each).replace(b'%', b'%25').replace(b'/', b'%2F')", "unquote_to_bytes(each)"),
        ),
    ),
    Mutant(
        "Two slashes are read as one.",
        "RFC 3986, 3.3",
        "test_only_a_plain_slash_separates_segments",
        at("exchange:path_of", replace("segment or b'%2F'", "segment or b'.'")),
    ),
    Mutant(
        "What a client sends before it has the answer to its handshake is dropped, and the handshake accepted.",
        "RFC 6455, 4.1",
        "test_a_malformed_handshake_is_refused_over_http",
        at("http:HttpConnection.heard_more", replace("bool(self._pending) or self._ended", "self._ended")),
    ),
    Mutant(
        "Frames are counted, and however many there are, nothing follows.",
        "limit_frames",
        "test_a_flood_of_frames_is_closed_with_4420",
        at("websocket:WebSocket._within_limits", drop("if self._used_until - now > burst_s:\n    ...")),
    ),
    Mutant(
        "A message of 64 KiB counts as one frame.",
        "limit_frames",
        "test_each_four_kib_of_a_message_count_as_another_frame",
        at(
            "websocket:WebSocket._within_limits",
            replace("self._limits.frame_interval_s * (1 + size // _FRAME_BYTES)", "self._limits.frame_interval_s"),
        ),
    ),
    Mutant(
        "The size of a message is that of each of its fragments.",
        "RFC 6455, 10.4",
        "test_frames_are_read_as_rfc_6455_says",
        at("websocket:WebSocket._fragment", replace("len(self._parts)", "frame.payload_size")),
    ),
    Mutant(
        "While a request is answered the connection goes on reading, and keeps what it reads.",
        "RFC 9112, 9.3.2",
        "test_pipelined_requests_wait_in_the_kernel_and_are_all_answered",
        at(
            "http:HttpConnection.buffer_updated",
            replace("self._pending += data\nself._pause()", "self._pending += data"),
        )
        + at("http:HttpConnection._answer", drop("if self._pending:\n    self._pause()")),
    ),
    Mutant(
        "The next request is answered whether or not the client takes the answers.",
        "send_timeout_s",
        "test_pipelined_requests_wait_in_the_kernel_and_are_all_answered",
        at("http:HttpConnection.finished", replace("if not self.write_paused:\n    ...", "self._next()"))
        + at("http:HttpConnection._next", drop("self.write_paused")),
    ),
    Mutant(
        "A peer that takes nothing of what is sent is looked at again and again.",
        "send_timeout_s",
        "test_a_peer_that_acknowledges_nothing_is_cut",
        at("stall:StallWatch._look", replace("self._on_stall", "self.start")),
    ),
    Mutant(
        "A peer that is not read from, because it is slow, is closed for its missing pong.",
        "ping_timeout_s",
        "test_a_peer_whose_input_is_paused_needs_no_pong",
        at("websocket:WebSocket.lost", replace("self._holds & _BLOCKED", "False")),
    ),
    Mutant(
        "A peer that does not close keeps its connection.",
        "RFC 6455, 7.1.1",
        "test_a_peer_that_does_not_close_after_the_close_frame_is_cut",
        at("lingering_close:LingeringClose.__init__", drop("self._timer = ...")),
    ),
)
