"""Requests whose end is ambiguous: refused, so that Interlock and a proxy in front can't disagree."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

_HEAD: Final = b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
_CHUNKS: Final = b"2\r\n{}\r\n0\r\n\r\n"
_HIDDEN: Final = b"POST /api/session HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

AMBIGUOUS: Final = {
    "a length and chunks": _HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKS,
    "chunks and a length": _HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + _CHUNKS,
    "two lengths": _HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length with a sign": _HEAD + b"Content-Length: +2\r\n\r\n{}",
    "a coding that is almost chunked": _HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + _CHUNKS,
    "chunked is not the last coding": _HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + _CHUNKS,
    "a space before the colon": _HEAD + b"Content-Length : 2\r\n\r\n{}",
    "a chunk's size in C": _HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "lines that end in LF alone": _HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
    "a folded line": _HEAD + b"X: y\r\n Content-Length: 2\r\n\r\n{}",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("smuggling") / "data") as process:
        yield process


@pytest.mark.asvs("4.2.1")
@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_request_with_an_ambiguous_end_is_refused(server: ServerProcess, request_: bytes) -> None:
    before = stored(server.data)
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 30) as connection:
        connection.sendall(request_ + _HIDDEN)
        said = b""
        while part := connection.recv(4096):
            said += part
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1, "what was hidden behind it is not answered"
    assert stored(server.data) == before


def test_the_same_request_with_one_end_is_accepted(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 30) as connection:
        connection.sendall(_HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + _CHUNKS)
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")
