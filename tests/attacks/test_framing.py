"""Ambiguous requests, beyond those of test_smuggling.py: refused, and the connection ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.raw import NEXT, Raw, asked, bearer, head, log_in
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("framing") / "data"
    with running_server(folder, access_token_s=3600) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@pytest.fixture(scope="module")
def tokens(server: ServerProcess) -> dict[str, Any]:
    return log_in(server)


_POST: Final = b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
_GET: Final = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
_CHUNKS: Final = b"2\r\n{}\r\n0\r\n\r\n"

MALFORMED: Final = {
    "the same length twice": _POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "lengths in a list": _POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a negative length": _POST + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": _POST + b"Content-Length: 0x2\r\n\r\n{}",
    "an empty length": _POST + b"Content-Length: \r\n\r\n",
    "a length with a fraction": _POST + b"Content-Length: 2.0\r\n\r\n{}",
    "a length beyond 64 bits": _POST + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "chunked twice": _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKS,
    "chunked, chunked": _POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + _CHUNKS,
    "gzip, chunked": _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _CHUNKS,
    "identity": _POST + b"Transfer-Encoding: identity\r\n\r\n",
    "an empty coding": _POST + b"Transfer-Encoding: \r\n\r\n" + _CHUNKS,
    "a coding in quotes": _POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + _CHUNKS,
    "chunked with a parameter": _POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + _CHUNKS,
    "a coding after a vertical tab": _POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + _CHUNKS,
    "a coding on a line of its own": _POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + _CHUNKS,
    "a coding in HTTP/1.0": _POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS,
    "a name with an underscore and a length": _POST + b"Content_Length: 5\r\nContent-Length : 2\r\n\r\n{}",
    "a tab before the colon": _GET + b"X\t: y\r\n\r\n",
    "a header without a colon": _GET + b"nonsense\r\n\r\n",
    "a header without a name": _GET + b": y\r\n\r\n",
    "a name in brackets": _GET + b"X(y): z\r\n\r\n",
    "a name that is no ASCII": _GET + b"X\xc3\xa9: y\r\n\r\n",
    "a space before the first header": b"GET /health/live HTTP/1.1\r\n Host: x\r\n\r\n",
    "a folded value": _GET + b"X: y\r\n\tz\r\n\r\n",
    "a NUL in a value": _GET + b"X: a\0b\r\n\r\n",
    "a CR in a value": _GET + b"X: a\rb\r\n\r\n",
    "a LF in a value": _GET + b"X: a\nY: b\r\n\r\n",
    "a bell in a value": _GET + b"X: a\x07b\r\n\r\n",
    "a NUL in a name": _GET + b"X\0: a\r\n\r\n",
    "a NUL in the target": b"GET /health/live\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a line that ends in LF": b"GET /health/live HTTP/1.1\nHost: x\r\n\r\n",
    "a head that ends in LF": _GET + b"\n",
    "a line that ends in CR": b"GET /health/live HTTP/1.1\rHost: x\r\n\r\n",
    "a tab in the first line": b"GET\t/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space at its end": b"GET /health/live HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /health/live /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space first": b" GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
}

BAD_CHUNKS: Final = {
    "a size with a sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "a negative size": b"-2\r\n{}\r\n0\r\n\r\n",
    "a size with a space in front": b" 2\r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "a size that is no number": b"g\r\n{}\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a chunk that is too long": b"2\r\n{}x\r\n0\r\n\r\n",
    "a chunk that ends in LF": b"2\r\n{}\n0\r\n\r\n",
    "a size that ends in LF": b"2\n{}\r\n0\r\n\r\n",
    "a size that ends in CR": b"2\r{}\r\n0\r\n\r\n",
    "a NUL in an extension": b"2;a=\0\r\n{}\r\n0\r\n\r\n",
    "a CR in an extension": b"2;a=\rb\r\n{}\r\n0\r\n\r\n",
    "a LF in an extension": b"2;a=\nb\r\n{}\r\n0\r\n\r\n",
    "a trailer without a colon": b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n",
    "a trailer that ends in LF": b"2\r\n{}\r\n0\r\nX: y\n\r\n",
    "chunks that end in LF": b"2\r\n{}\r\n0\n\n",
}


@pytest.mark.asvs("4.2.1")
@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED)
def test_an_ambiguous_request_is_refused_and_ends_the_connection(server: ServerProcess, message: bytes) -> None:
    refused_and_ended(server, message)


@pytest.mark.asvs("4.2.1")
@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_ambiguous_chunks_are_refused_and_end_the_connection(server: ServerProcess, chunks: bytes) -> None:
    refused_and_ended(server, _POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)


def refused_and_ended(server: ServerProcess, message: bytes) -> None:
    """Check that there is one 400 however the request is split, whatever follows, and that nothing is executed."""
    before = stored(server.data)
    whole = message + NEXT
    for segments in ([whole], [message, NEXT], [bytes([each]) for each in whole]):
        with Raw(server.url) as raw:
            raw.send(*segments)
            said = raw.rest()
        assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), said
        assert said.count(b"HTTP/1.1 ") == 1, said
        assert b"connection: close" in said.lower()
    assert stored(server.data) == before


WELL_FORMED: Final = {
    "chunks in capitals": (b"Transfer-Encoding: Chunked\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "zeros before a size": (b"Transfer-Encoding: chunked\r\n\r\n", b"0002\r\n{}\r\n000\r\n\r\n"),
    "an extension": (b"Transfer-Encoding: chunked\r\n\r\n", b'2;a="b c";d\r\n{}\r\n0;e\r\n\r\n'),
    "trailers": (b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n0\r\nX-Checksum: 9\r\nHost: y\r\n\r\n"),
    "trailers that mean something in a head": (
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"2\r\n{}\r\n0\r\nConnection: close, upgrade\r\nProxy-Connection: close\r\nUpgrade: foo\r\n\r\n",
    ),
    "chunks of a byte": (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
    "a length with zeros": (b"Content-Length: 02\r\n\r\n", b"{}"),
    "spaces around a value": (b"Content-Length: \t 2 \t\r\n\r\n", b"{}"),
    "no space before a value": (b"Content-Length:2\r\n\r\n", b"{}"),
}


@pytest.mark.parametrize(("lines", "body"), WELL_FORMED.values(), ids=WELL_FORMED)
def test_an_unusual_but_unambiguous_request_is_accepted(server: ServerProcess, lines: bytes, body: bytes) -> None:
    whole = _POST + lines + body
    for segments in ([whole], [bytes([each]) for each in whole]):
        assert asked(server, *segments, method="POST").status == 201


def test_trailers_do_not_change_the_request(server: ServerProcess, tokens: dict[str, Any]) -> None:
    """RFC 9110, 6.5.1: a credential in a trailer is ignored."""
    late = "".join(f"{name}: {value}\r\n" for name, value in bearer(tokens).items()).encode()
    message = head("GET /api/session HTTP/1.1", {"Transfer-Encoding": "chunked"}) + b"0\r\n" + late + b"\r\n"
    assert asked(server, message).status == 401


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_ignored(server: ServerProcess, lines: bytes) -> None:
    """RFC 9112, 2.2: old clients send one after a body."""
    with Raw(server.url) as raw:
        for _ in range(2):
            raw.send(lines + head("GET /health/live HTTP/1.1"))
            assert raw.response().status == 200
