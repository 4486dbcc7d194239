"""Pipelined requests: they take no memory, and each is answered in its turn."""

from __future__ import annotations

import fcntl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.raw import (
    Ended,
    Raw,
    Response,
    bearer,
    frame,
    handshake,
    head,
    log_in,
    unacknowledged,
)
from tests.support.running import until
from tests.support.server import ServerProcess, running_server
from tests.support.small_buffers import small_buffers

CONNECTIONS: Final = 20
REQUESTS: Final = 1_000
KIB: Final = 64
"""How much more memory a connection with a pipeline may take than an idle one."""
OWN_KIB: Final = 512
"""How much the process may grow meanwhile on its own."""

PATIENT: Final[dict[str, Any]] = {
    "trust_request_ids": True,
    "send_timeout_s": 600,
    "header_timeout_s": 600,
    "body_timeout_s": 600,
    "keep_alive_s": 600,
}
LIVE: Final = head("GET /health/live HTTP/1.1")
JSON: Final = "Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that uses the client's request ids, so that a response shows its request."""
    folder = tmp_path_factory.mktemp("pipelines") / "data"
    with running_server(folder, **PATIENT) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


def memory_kib(server: ServerProcess) -> int:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def unread(raw: Raw) -> int:
    """Return how many bytes wait in the kernel for ``raw`` to read them."""
    return int(struct.unpack("i", fcntl.ioctl(raw.socket, termios.FIONREAD, bytes(4)))[0])


def settled_kib(server: ServerProcess, raws: list[Raw], other: Raw) -> int:
    """Return the server's peak memory until it sends nothing more to ``raws``. ``other`` is answered meanwhile."""
    most, sent, calm = 0, -1, 0
    while calm < 5:
        other.send(LIVE)
        assert other.response().status == 200
        time.sleep(0.1)
        most, before, sent = max(most, memory_kib(server)), sent, sum(map(unread, raws))
        calm = calm + 1 if sent == before else 0
    return most


def named(number: int, first: str = "GET /health/live", lines: str = "") -> bytes:
    return f"{first} HTTP/1.1\r\nHost: x\r\nX-Request-Id: r{number}\r\n{lines}\r\n".encode()


def names(raw: Raw, count: int) -> list[str | None]:
    return [raw.response().header("x-request-id") for _ in range(count)]


REQUEST_KINDS: Final[dict[str, Callable[[int], bytes]]] = {
    "a short answer": named,
    "an answer longer than the request": lambda number: named(number, "GET /.well-known/jwks.json"),
    "refused": lambda number: named(number, "GET /api/session"),
    "a body": lambda number: named(number, "POST /api/auth/logout", JSON + "Content-Length: 2\r\n") + b"{}",
}


@pytest.mark.parametrize("kind", REQUEST_KINDS)
def test_pipelines_take_no_memory_and_are_answered_once_read(tmp_path: Path, kind: str) -> None:
    """The kernel's buffers are small, so the server soon waits for its peers."""
    requests = b"".join(map(REQUEST_KINDS[kind], range(REQUESTS)))
    with small_buffers(tmp_path / "data", **PATIENT) as server, ExitStack() as stack:
        raws = [stack.enter_context(Raw(server.url, receive_buffer=16_384)) for _ in range(CONNECTIONS)]
        other = stack.enter_context(Raw(server.url))
        for raw in raws:
            # Each was answered before, so everything is initialised.
            raw.send(REQUEST_KINDS[kind](0) * 2)
            names(raw, 2)
        idle_kib = settled_kib(server, raws, other)
        threads = [threading.Thread(target=raw.send, args=(requests,), daemon=True) for raw in raws]
        for thread in threads:
            thread.start()
        until(lambda: all(map(unread, raws)))
        grown_kib = settled_kib(server, raws, other) - idle_kib
        assert grown_kib <= CONNECTIONS * KIB + OWN_KIB
        for raw in raws[:5]:
            assert names(raw, REQUESTS) == [f"r{number}" for number in range(REQUESTS)]


@pytest.mark.parametrize("target", ["/health/live", "/schema/openapi.json"])
def test_the_kernel_holds_little_for_a_client_that_does_not_read(server: ServerProcess, target: str) -> None:
    """Otherwise it would hold megabytes even after the connection is cut."""
    requests = head(f"GET {target} HTTP/1.1") * REQUESTS
    with Raw(server.url, receive_buffer=4096) as raw:
        threading.Thread(target=raw.send, args=(requests,), daemon=True).start()
        until(lambda: unread(raw) > 0 and unacknowledged(server.url, raw) > 0)
        most = 0
        for _ in range(20):
            most = max(most, unacknowledged(server.url, raw))
            time.sleep(0.1)
    assert most <= KIB * 1024


@pytest.mark.parametrize("kind", REQUEST_KINDS)
@pytest.mark.parametrize("count", [1, 2, 300])
def test_requests_before_a_half_close_are_answered(server: ServerProcess, kind: str, count: int) -> None:
    with Raw(server.url) as raw:
        raw.send(b"".join(map(REQUEST_KINDS[kind], range(count))))
        raw.finish()
        assert names(raw, count) == [f"r{number}" for number in range(count)]
        assert raw.rest() == b""


def test_half_a_request_before_a_half_close_gets_no_success(server: ServerProcess) -> None:
    for half in (named(2)[:30], named(2, "POST /api/session", "Content-Length: 9\r\n") + b"{}"):
        with Raw(server.url) as raw:
            raw.send(named(1) + half)
            raw.finish()
            assert names(raw, 1) == ["r1"]
            rest = raw.rest()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 400 "), rest


MIXED: Final = (
    named(0, "POST /api/session", "Content-Length: 0\r\n"),
    named(1, "POST /api/auth/login", JSON + "Content-Length: 41\r\n")
    + b'{"email":"a@b.example","password":"12345"}'[:41],
    named(2, "POST /api/auth/login", JSON + "Transfer-Encoding: chunked\r\n")
    + b'1\r\n{\r\n28\r\n"email":"a@b.example","password":"12345"\r\n1\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n',
    named(3, "HEAD /api/session"),
    named(4, "OPTIONS /api/session"),
    named(5, "DELETE /api/sessions"),
    named(6, "GET /nothing/here", "Content-Length: 5\r\n") + b"GET /",
    named(7, "GET /.well-known/jwks.json"),
    named(8, "POST /api/session", JSON + "Content-Length: 2\r\n") + b"{}",
)
METHODS: Final = ("POST", "POST", "POST", "HEAD", "OPTIONS", "DELETE", "GET", "GET", "POST")
STATUSES: Final = (201, 400, 401, 401, 204, 401, 404, 200, 201)


def in_turn(raw: Raw) -> None:
    responses = [raw.response(method) for method in METHODS]
    assert [response.header("x-request-id") for response in responses] == [f"r{number}" for number in range(9)]
    assert tuple(response.status for response in responses) == STATUSES


def test_requests_of_many_kinds_are_answered_in_their_turn(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        for _ in range(10):
            raw.send(b"".join(MIXED))
            in_turn(raw)


def test_segment_boundaries_in_a_pipeline_make_no_difference(server: ServerProcess) -> None:
    whole = b"".join(MIXED)
    with Raw(server.url) as raw:
        for at in range(1, len(whole), 7):
            raw.send(whole[:at], whole[at:])
            in_turn(raw)
        raw.send(*(bytes([each]) for each in whole))
        in_turn(raw)


def test_a_request_that_ends_the_connection_is_the_last(server: ServerProcess) -> None:
    for last in (named(2, lines="Connection: close\r\n"), named(2).replace(b"HTTP/1.1", b"HTTP/1.0")):
        with Raw(server.url) as raw:
            raw.send(named(1) + last + named(3) * 3)
            assert names(raw, 2) == ["r1", "r2"]
            assert raw.rest() == b""


@pytest.mark.parametrize(
    "bad",
    [b"nonsense\r\n\r\n", named(9, lines="Content-Length: 1\r\nContent-Length: 2\r\n"), named(9, lines="A : b\r\n")],
    ids=["no HTTP", "two lengths", "a space before the colon"],
)
def test_requests_before_an_invalid_one_are_answered(server: ServerProcess, bad: bytes) -> None:
    """The invalid request ends the connection; its own answer may be missing after those that wait."""
    with Raw(server.url) as raw:
        raw.send(named(1) + named(2, "POST /api/session", "Content-Length: 0\r\n") + bad + named(3))
        assert names(raw, 2) == ["r1", "r2"]
        rest = raw.rest()
        assert rest == b"" or (rest.startswith(b"HTTP/1.1 400 ") and rest.count(b"HTTP/1.1 ") == 1)


def test_a_handshake_behind_a_request_is_answered_in_its_turn(server: ServerProcess) -> None:
    credential = bearer(log_in(server))
    with Raw(server.url) as raw:
        raw.send(named(1) + named(2) + handshake(credential))
        assert names(raw, 2) == ["r1", "r2"]
        assert raw.response().status == 101
        assert raw.frame()[1].startswith(b'{"type":"hello"')
        raw.send(frame(1, b'{"type":"ping"}'))
        assert raw.frame() == (1, b'{"type":"pong"}')


def test_a_request_behind_a_handshake_is_not_answered(server: ServerProcess) -> None:
    """That connection continues with frames, and not before the 101."""
    credential = bearer(log_in(server))
    for shown in (credential, {}):
        with Raw(server.url) as raw:
            raw.send(handshake(shown) + named(1) + named(2))
            said = raw.rest()
            assert said == b"" or said.startswith(b"HTTP/1.1 400 "), said
            assert said.count(b"HTTP/1.1 ") <= 1


def expecting(number: int, length: int, version: str = "1.1") -> bytes:
    lines = f"{JSON}Expect: 100-continue\r\nContent-Length: {length}\r\n"
    return named(number, "POST /api/session", lines).replace(b"HTTP/1.1", f"HTTP/{version}".encode())


def test_a_client_that_waits_for_100_continue_gets_it(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        for number in range(3):
            raw.send(expecting(number, 2))
            assert raw.response() == Response(100, [])
            raw.send(b"{}")
            response = raw.response("POST")
            assert (response.status, response.header("x-request-id")) == (201, f"r{number}")


def test_100_continue_is_sent_when_it_is_the_requests_turn(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        raw.send(named(1) + named(2) + expecting(3, 2))
        assert names(raw, 2) == ["r1", "r2"]
        assert raw.response().status == 100
        raw.send(b"{}" + named(4))
        assert names(raw, 2) == ["r3", "r4"]


def test_a_client_that_does_not_wait_for_100_continue_is_answered(server: ServerProcess) -> None:
    """RFC 9110, 10.1.1: the server may then omit it."""
    with Raw(server.url) as raw:
        raw.send((expecting(1, 2) + b"{}") * 2 + named(1))
        statuses: list[int] = []
        while len(statuses) < 3:
            response = raw.response()
            assert response.header("x-request-id") == "r1" or response.status == 100
            if response.status != 100:
                statuses.append(response.status)
        assert statuses == [201, 201, 200]


def test_a_body_that_will_be_refused_gets_no_100_continue(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        raw.send(expecting(1, 10_000_000))
        response = raw.response("POST")
        assert (response.status, response.problem) == (413, "too-large")


def test_http_1_0_gets_no_100_continue(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        raw.send(expecting(1, 2, "1.0") + b"{}")
        assert raw.response("POST").status == 201
        with pytest.raises(Ended):
            raw.response()


def test_an_unknown_expectation_is_answered_once(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        raw.send(named(1, "POST /api/session", "Expect: a-miracle\r\nContent-Length: 0\r\n"))
        response = raw.response("POST")
        assert response.status in {201, 417}
        if response.closes:
            assert raw.rest() == b""
        else:
            raw.send(named(2))
            assert names(raw, 1) == ["r2"]
