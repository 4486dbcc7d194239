"""Peers that are slow, silent, oversized or too many, with real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from interlock.server.settings import Settings
from tests.support.asynchronous import asynchronous
from tests.support.client import hello, logged_in, new_email
from tests.support.server import ServerProcess, running_server
from tests.support.small_buffers import small_buffers

HEADER_BYTES = Settings().header_bytes
LONG_S = 30
"""Upper bound: what is cut is cut after a second or two."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with short timeouts."""
    folder: Path = tmp_path_factory.mktemp("patience") / "data"
    with small_buffers(folder, header_timeout_s=2, body_timeout_s=2, keep_alive_s=1, send_timeout_s=2) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


def wire(server: ServerProcess) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=LONG_S)


def rest(raw: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    received = b""
    try:
        while chunk := raw.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["type"].rpartition(":")[2]


REQUEST = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def answered(raw: socket.socket) -> None:
    """Send one request, and return its whole answer."""
    raw.sendall(REQUEST)
    received = b""
    while not received.endswith(b"}"):
        chunk = raw.recv(65536)
        assert chunk, received
        received += chunk
    assert received.startswith(b"HTTP/1.1 200")


def test_a_silent_connection_is_cut(server: ServerProcess) -> None:
    with wire(server) as raw:
        assert rest(raw) == b""


@pytest.mark.parametrize("part", [b"G", b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"\r\n"])
def test_half_a_request_head_is_cut(server: ServerProcess, part: bytes) -> None:
    with wire(server) as raw:
        raw.sendall(part)
        assert problem(rest(raw)) == (408, "request-timeout")


def test_a_slowly_dripping_request_head_is_cut(server: ServerProcess) -> None:
    with wire(server) as raw:
        raw.settimeout(0.05)
        raw.sendall(b"GET /health/live HTTP/1.1\r\n")
        received = b""
        for _ in range(round(LONG_S / 0.05)):
            try:
                raw.sendall(b"X-Drip: 1\r\n")
                received = raw.recv(65536)
                break
            except TimeoutError:
                continue
            except OSError:
                # The server cut it between write and read, so its answer is lost.
                return
        assert received.startswith(b"HTTP/1.1 408")


def test_half_a_head_of_a_second_request_is_cut(server: ServerProcess) -> None:
    with wire(server) as raw:
        answered(raw)
        raw.sendall(b"GET /health")
        assert problem(rest(raw)) == (408, "request-timeout")


def test_empty_lines_keep_no_connection_open(server: ServerProcess) -> None:
    """An empty line starts no request, but its first byte may stop the idle timer."""
    with wire(server) as raw:
        answered(raw)
        raw.sendall(b"\r\n")
        assert problem(rest(raw)) == (408, "request-timeout")


def test_an_idle_connection_is_cut(server: ServerProcess) -> None:
    with wire(server) as raw:
        answered(raw)
        assert rest(raw) == b""


HEAD = b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "part",
    [
        HEAD + b"Content-Length: 100\r\n\r\n",
        HEAD + b'Content-Length: 100\r\n\r\n{"half": ',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{   \n\r\n",
    ],
    ids=["none", "half", "chunks"],
)
def test_half_a_body_is_cut(server: ServerProcess, part: bytes) -> None:
    with wire(server) as raw:
        raw.sendall(part)
        assert problem(rest(raw)) == (408, "request-timeout")


def test_a_refused_body_is_not_awaited(server: ServerProcess) -> None:
    with wire(server) as raw:
        raw.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 1000)
        answer = rest(raw)
        assert answer.startswith(b"HTTP/1.1 413")
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * HEADER_BYTES + b"\r\n\r\n",
        b"GET /health/live?" + b"x" * HEADER_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * (HEADER_BYTES // 8) + b"\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"x" * (HEADER_BYTES + 100),
        b"GET /api/connect HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Long: "
        + b"x" * 40_000
        + b"\r\n\r\n",
    ],
    ids=["a long header", "a long target", "many headers", "an endless header", "a WebSocket handshake"],
)
def test_an_oversized_request_head_is_refused(server: ServerProcess, head: bytes) -> None:
    """The client is told so, even if it had more to send at that moment."""
    with wire(server) as raw:
        raw.sendall(head)
        assert problem(rest(raw)) == (431, "headers-too-large")


def test_a_request_head_within_the_limit_is_answered(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.url}/health/live", headers={"X-Long": "x" * (HEADER_BYTES - 1000)})
    assert answer.status_code == 200
    for size in (HEADER_BYTES // 2, HEADER_BYTES + 1):
        body = {"email": new_email(), "password": "x" * size}
        assert httpx.post(f"{server.url}/api/auth/login", json=body).status_code == 400


@pytest.mark.parametrize("text", [b"\x16\x03\x01\x02\x00\x01\x00", b"HELO x\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_invalid_http_is_refused_with_the_reason(server: ServerProcess, text: bytes) -> None:
    with wire(server) as raw:
        raw.sendall(text)
        assert problem(rest(raw)) == (400, "bad-request")


@pytest.mark.asvs("4.2.1")
@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: +2\r\n\r\n{}",
    ],
    ids=["both", "two lengths", "unknown coding", "a signed length"],
)
def test_a_message_of_two_lengths_is_refused(server: ServerProcess, lines: bytes) -> None:
    with wire(server) as raw:
        raw.sendall(HEAD + lines)
        assert problem(rest(raw))[0] in {400, 408}


def test_an_unread_response_is_dropped(server: ServerProcess) -> None:
    before = len(sockets(server))
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        parts = urlsplit(server.url)
        raw.connect((parts.hostname, parts.port))
        raw.settimeout(LONG_S)
        wanted = b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        try:
            for _ in range(100):
                raw.sendall(wanted)
        except ConnectionError:
            return
        # The kernel may still hold data for it; the server has closed it.
        within = time.monotonic() + LONG_S
        while len(sockets(server)) > before:
            assert time.monotonic() < within
            time.sleep(0.05)


def test_a_slowly_read_response_arrives_whole(server: ServerProcess) -> None:
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        parts = urlsplit(server.url)
        raw.connect((parts.hostname, parts.port))
        raw.settimeout(LONG_S)
        document = httpx.get(f"{server.url}/schema/openapi.json").content
        count = 2 * 1024 * 1024 // len(document)
        raw.sendall(b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * count)
        received = b""
        while received.count(document) < count:
            chunk = raw.recv(65536)
            assert chunk, f"{received.count(document)} of {count} arrived"
            received += chunk


def sockets(server: ServerProcess) -> list[str]:
    """Return the server's open sockets."""
    folder = Path(f"/proc/{server.pid}/fd")
    found = []
    for entry in folder.iterdir():
        with suppress(OSError):
            found.append(str(entry.readlink()))
    return [each for each in found if each.startswith("socket:")]


@asynchronous
async def test_http_time_limits_do_not_apply_to_websockets(server: ServerProcess) -> None:
    """It outlives every limit of head, body and idle connections, and has its own."""
    async with await logged_in(server.url) as client, client.connect() as socket:
        await hello(socket)
        with wire(server) as raw:
            answered(raw)
            assert await asyncio.to_thread(rest, raw) == b"", "the idle one is cut meanwhile"
        await socket.send('{"type": "ping"}')
        assert json.loads(await socket.recv()) == {"type": "pong"}


def test_a_pipeline_is_answered_in_order(server: ServerProcess) -> None:
    with wire(server) as raw:
        raw.sendall(REQUEST * 3)
        received = b""
        while received.count(b'{"status":"ok"}') < 3:
            chunk = raw.recv(65536)
            assert chunk, received
            received += chunk


def test_connections_per_address_are_limited(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", tcp_per_address=3, trusted_proxies="127.0.0.9") as server:
        parts = urlsplit(server.url)
        with ExitStack() as stack:
            for _ in range(3):
                answered(stack.enter_context(wire(server)))
            with wire(server) as fourth:
                assert rest(fourth) == b""
            for source in ("127.0.0.2", "127.0.0.9", "127.0.0.9", "127.0.0.9", "127.0.0.9"):
                raw = socket.create_connection((parts.hostname or "", parts.port or 0), LONG_S, (source, 0))
                answered(stack.enter_context(raw))
        for _ in range(200):
            with wire(server) as raw:
                try:
                    answered(raw)
                except (ConnectionError, AssertionError):
                    continue  # the earlier ones are not quite gone yet
                break
        else:
            raise AssertionError("a connection that is gone still counts")


def test_connections_in_total_are_limited(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", tcp_total=3) as server, ExitStack() as stack:
        for _ in range(3):
            answered(stack.enter_context(wire(server)))
        with wire(server) as fourth:
            assert rest(fourth) == b""
