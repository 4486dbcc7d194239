"""Requests as clients might write them, and what a connection reads from them."""

from __future__ import annotations

from hypothesis import strategies as st

from interlock.server.experience.problems import RequestRefused
from interlock.server.experience.transport.reader import Request, RequestReader

HEADER_BYTES = 4096
BODY_BYTES = 1024
SMUGGLED = b"GET /api/admin/accounts HTTP/1.1\r\nHost: x\r\n\r\n"


def new_reader() -> RequestReader:
    return RequestReader(header_bytes=HEADER_BYTES, body_bytes=BODY_BYTES)


def read_all(segments: list[bytes]) -> list[Request | int]:
    """Return what a connection reads from ``segments``: its requests, and the status that ends it, if any."""
    reader, read = new_reader(), list[Request | int]()
    for segment in segments:
        rest = segment
        while rest:
            try:
                request, rest = reader.feed(rest)
            except RequestRefused as refused:
                return [*read, refused.status]
            if request is not None:
                read.append(request)
    return read


def request(method: str = "GET", lines: bytes = b"", body: bytes = b"") -> bytes:
    return method.encode() + b" /a HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n" + body


def with_body(method: str, body: bytes, sizes: list[int]) -> bytes:
    """Return a request whose body is chunked in pieces of ``sizes``; without sizes, of one length."""
    if not sizes:
        return request(method, b"Content-Length: %d\r\n" % len(body), body)
    chunks = b""
    for size in sizes:
        chunk, body = body[:size], body[size:]
        if chunk:
            chunks += b"%x;note=1\r\n%b\r\n" % (len(chunk), chunk)
    if body:
        chunks += b"%X\r\n%b\r\n" % (len(body), body)
    return request(method, b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n", chunks + b"0\r\nX-T: 1\r\n\r\n")


bodies = st.one_of(st.binary(max_size=200), st.just(SMUGGLED), st.just(b"0\r\n\r\n" + SMUGGLED))
messages = st.one_of(
    st.builds(request, st.sampled_from(["GET", "HEAD", "DELETE"])),
    st.builds(with_body, st.sampled_from(["POST", "PUT"]), bodies, st.lists(st.integers(1, 60), max_size=4)),
)
offers = st.sampled_from(
    [b"", b"Connection: upgrade\r\nUpgrade: foo\r\n", b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket\r\n"]
)


def offering(message: bytes, offer: bytes) -> bytes:
    head, blank, rest = message.partition(b"\r\n")
    return head + blank + offer + rest


noise = st.sampled_from(
    [b"\r\n", b"GET ", b"0\r\n\r\n", b"\x16\x03", b"HELO x\r\n", b"\n\n", b"Host: y\r\n"]
) | st.binary(max_size=8)
streams = st.lists(st.one_of(*[st.builds(offering, messages, offers)] * 3, noise), max_size=5).map(b"".join)
"""Generate a connection's data: requests, with noise between and within."""
