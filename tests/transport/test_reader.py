"""Splitting bytes into requests, wherever they are cut, whatever they offer, and never past the end of one request."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock.server.experience.transport.exchange import path_of, split_target
from interlock.server.experience.transport.reader import MAX_HEADERS, Request
from tests.support.requests import (
    HEADER_BYTES,
    SMUGGLED,
    messages,
    new_reader,
    offering,
    offers,
    read_all,
    request,
    with_body,
)


@given(st.lists(st.builds(offering, messages, offers), min_size=1, max_size=4), st.data())
def test_segment_boundaries_do_not_change_the_requests_read(stream: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    segments = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    read = read_all([whole])
    assert len(read) == len(stream)
    assert read_all(segments) == read
    assert read_all([bytes([byte]) for byte in whole]) == read


@given(messages, offers)
def test_the_reader_stops_at_the_end_of_a_request(message: bytes, offer: bytes) -> None:
    _, rest = new_reader().feed(offering(message, offer) + SMUGGLED)
    assert rest == SMUGGLED


@given(st.binary(max_size=300), st.integers(0, 300))
@example(b"\r\n" * 150, 3)
@example(b"GET / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 10)
def test_noise_ends_the_connection_without_other_errors(noise: bytes, cut: int) -> None:
    read = read_all([noise])
    assert read_all([noise[:cut], noise[cut:]]) == read
    assert all(isinstance(each, Request) or 400 <= each < 500 for each in read)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("token", [b"foo", b"h2c", b"websocket", b"TLS/1.0, HTTP/1.1", b""])
@pytest.mark.parametrize("sizes", [[], [5, 7]], ids=["length", "chunked"])
def test_the_body_of_an_upgrade_offer_is_a_body(method: str, token: bytes, sizes: list[int]) -> None:
    offer = b"Connection: upgrade\r\nUpgrade: " + token + b"\r\n"
    read = read_all([offering(with_body(method, SMUGGLED, sizes), offer) + request()])
    assert [(each.method, each.body) for each in read if isinstance(each, Request)] == [
        (method, SMUGGLED),
        ("GET", b""),
    ]


def test_an_upgrade_offer_without_a_body_is_recognised() -> None:
    (read,) = read_all([request(lines=b"Connection: Upgrade\r\nUpgrade: websocket\r\n")])
    assert isinstance(read, Request)
    assert (read.offers_upgrade, read.has_body) == (True, False)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (request(lines=b"Host: y\r\n"), 400),
        (b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 400),
        (b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (request(lines=b"Transfer-Encoding: gzip, chunked\r\n"), 400),
        (request(lines=b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        (b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (request("POST", b"Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: gzip\r\n", SMUGGLED), 400),
        (request("POST", b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n"), 400),
        (request("POST", b"Content-Length: 1025\r\n"), 413),
        (request("POST", b"Transfer-Encoding: chunked\r\n", b"401\r\n" + b"x" * 1025), 413),
        (request("POST", b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 1025), 413),
        (request("POST", b"Transfer-Encoding: chunked\r\n", b"0\r\n" + b"T: 1\r\n" * 1500), 413),
        (request(lines=b"A: 1\r\n" * MAX_HEADERS), 431),
        (request(lines=b"A: " + b"x" * HEADER_BYTES + b"\r\n"), 431),
        (b"\r\n" * HEADER_BYTES, 431),
    ],
)
def test_a_request_with_an_uncertain_end_or_too_large_is_refused(text: bytes, status: int) -> None:
    assert read_all([text]) == [status]
    assert read_all([bytes([byte]) for byte in text]) == [status]


def test_100_continue_is_wanted_only_before_the_content_begins() -> None:
    head = request("POST", b"Content-Length: 2\r\nExpect: 100-continue\r\n")
    waiting, begun, idle = new_reader(), new_reader(), new_reader()
    assert waiting.feed(head) == (None, b"")
    assert begun.feed(head + b"{") == (None, b"")
    assert idle.feed(head + b"{}")[0] is not None
    assert [reader.wants_continue for reader in (waiting, begun, idle)] == [True, False, False]


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/api/session", "/api/session"),
        (b"/api/%73ession", "/api/session"),
        (b"/api/%2Fadmin/accounts", "/api/%2Fadmin/accounts"),
        (b"/api%2fsession", "/api%2Fsession"),
        (b"//api/session", "/%2F/api/session"),
        (b"/api//session", "/api/%2F/session"),
        (b"/api/%2e%2e/x", "/api/../x"),
        (b"/", "/"),
    ],
)
def test_only_a_plain_slash_separates_segments(raw: bytes, path: str) -> None:
    assert path_of(raw) == path


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/a?b=/c?d", (b"/a", b"b=/c?d")),
        (b"http://x/a?b", (b"/a", b"b")),
        (b"http://x?b=/c", (b"/", b"b=/c")),
        (b"http://x", (b"/", b"")),
        (b"*", (b"*", b"")),
    ],
)
def test_a_target_is_split_into_path_and_query(target: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize(
    "line",
    [
        b"DESCRIBE rtsp://x/ RTSP/1.0",
        b"SETUP rtsp://x/ RTSP/1.1",
        b"GET / RTSP/1.0",
        b"GET / RTSP/1.1",
        b"OPTIONS * RTSP/1.0",
        b"SOURCE / ICE/1.0",
        b"SOURCE / HTTP/1.1 ICE/1.0",
    ],
)
@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_requests_of_other_protocols_are_refused(line: bytes, before: bytes) -> None:
    """llhttp parses some of them."""
    stream = before + line + b"\r\nHost: x\r\nX: HTTP/1.1\r\n\r\n"
    assert read_all([stream]) == [400]
    assert read_all([bytes([byte]) for byte in stream]) == [400]
    assert read_all([request() + stream])[1:] == [400], "nor behind one that is"


@pytest.mark.parametrize("scheme", [b"http", b"https", b"HTTP", b"ws"])
@pytest.mark.parametrize("host", [b"", b":", b":80"])
def test_a_target_in_absolute_form_names_a_host(scheme: bytes, host: bytes) -> None:
    """RFC 9110, 4.2.1."""
    for path in (b"/health/live", b"", b"?a=1"):
        for version, header in ((b"1.1", b"Host: " + host + b"\r\n"), (b"1.0", b"")):
            stream = b"GET " + scheme + b"://" + host + path + b" HTTP/" + version + b"\r\n" + header + b"\r\n"
            assert read_all([stream]) == [400], stream
