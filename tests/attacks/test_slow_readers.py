"""Clients that don't read are cut soon after a revocation. Clients that read slowly get everything."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.client import PASSWORD
from tests.support.raw import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Raw,
    bearer,
    events,
    frame,
    handshake,
    head,
    held,
    log_in,
)
from tests.support.running import until
from tests.support.server import ServerProcess
from tests.support.small_buffers import small_buffers

SEND_S: Final = 2
SOON_S: Final = 4 * SEND_S
"""The time limit of a peer that doesn't read is a setting; a busy machine takes longer."""

SMALL: Final = 4096


def serving(folder: Path, **settings: Any) -> Any:
    return small_buffers(folder / "data", send_timeout_s=SEND_S, access_token_s=3600, **settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("slow")) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@contextmanager
def deaf(server: ServerProcess, tokens: dict[str, Any]) -> Iterator[Raw]:
    """Return an open socket whose client has read the greeting, and reads no more."""
    with Raw(server.url, receive_buffer=SMALL) as raw:
        raw.send(handshake(bearer(tokens)))
        assert raw.response().status == 101
        assert raw.frame()[1].startswith(b'{"type":"hello"')
        assert held(server.url, raw), "or that it is gone would say nothing"
        yield raw


def refresh(server: ServerProcess, tokens: dict[str, Any], count: int) -> None:
    """Refresh, which is pushed to the session's sockets."""
    token = tokens["refresh_token"]
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for _ in range(count):
            answer = http.post("/api/auth/refresh", json={"refresh_token": token}).raise_for_status()
            token = answer.json()["refresh_token"]


def push(server: ServerProcess, tokens: dict[str, Any], _: Raw) -> None:
    """Push more than the kernel takes."""
    refresh(server, tokens, 60)


def push_much(server: ServerProcess, tokens: dict[str, Any], _: Raw) -> None:
    """Push more than the server holds."""
    refresh(server, tokens, 400)


FILLS: Final[dict[str, Callable[[ServerProcess, dict[str, Any], Raw], None]]] = {
    "nothing to say": lambda *_: None,
    "pushed": push,
    "pushed much": push_much,
    "pongs": lambda _server, _tokens, raw: raw.send(frame(PING, b"x" * 125) * 300),
    "answers": lambda _server, _tokens, raw: raw.send(frame(TEXT, b'{"type":"ping"}') * 300),
    "half a frame": lambda _server, _tokens, raw: raw.send(frame(TEXT, b'{"type":"ping"}')[:-5]),
}
"""Ways to fill the server's buffers for a client that doesn't read."""


@contextmanager
def filled(server: ServerProcess) -> Iterator[dict[str, tuple[dict[str, Any], Raw]]]:
    """Return a socket of a new session for each of them."""
    with ExitStack() as stack:
        sockets = {}
        for name, fill in FILLS.items():
            tokens = log_in(server)
            raw = stack.enter_context(deaf(server, tokens))
            fill(server, tokens, raw)
            sockets[name] = (tokens, raw)
        yield sockets


def revoked(server: ServerProcess, tokens: dict[str, Any]) -> None:
    httpx.delete(f"{server.url}/api/sessions/{tokens['session_id']}", headers=bearer(tokens)).raise_for_status()


def logged_out(server: ServerProcess, tokens: dict[str, Any]) -> None:
    httpx.post(f"{server.url}/api/auth/logout", headers=bearer(tokens)).raise_for_status()


def password_changed(server: ServerProcess, tokens: dict[str, Any]) -> None:
    body = {"current_password": PASSWORD, "new_password": PASSWORD + "r"}
    httpx.post(f"{server.url}/api/auth/password", json=body, headers=bearer(tokens)).raise_for_status()


ENDS: Final = (revoked, logged_out, password_changed)


def gone_soon(server: ServerProcess, raws: Mapping[str, Raw]) -> None:
    began = time.monotonic()
    while left := [name for name, raw in raws.items() if held(server.url, raw)]:
        assert time.monotonic() - began < SOON_S, left
        time.sleep(0.05)


@pytest.mark.parametrize("end", ENDS)
def test_unread_sockets_are_cut_soon_after_the_session_ends(
    server: ServerProcess, end: Callable[[ServerProcess, dict[str, Any]], None]
) -> None:
    with filled(server) as sockets:
        for tokens, _ in sockets.values():
            end(server, tokens)
        gone_soon(server, {name: raw for name, (_, raw) in sockets.items()})


def test_unread_displaced_sockets_are_cut_soon(tmp_path: Path) -> None:
    displacing = serving(tmp_path, connections_policy="displace", connections_per_session=1)
    with displacing as server, filled(server) as sockets, ExitStack() as stack:
        for tokens, _ in sockets.values():
            stack.enter_context(deaf(server, tokens))
        gone_soon(server, {name: raw for name, (_, raw) in sockets.items()})


def test_a_drain_does_not_wait_for_unread_sockets(tmp_path: Path) -> None:
    """Its own limit is much longer."""
    with serving(tmp_path, drain_s=80) as server, filled(server):
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < SOON_S


def test_many_unread_sockets_are_cut_as_soon_as_one(server: ServerProcess) -> None:
    tokens = log_in(server)
    with ExitStack() as stack:
        raws = [stack.enter_context(deaf(server, tokens)) for _ in range(8)]
        refresh(server, tokens, 60)
        revoked(server, tokens)
        gone_soon(server, {str(number): raw for number, raw in enumerate(raws)})


def test_an_unread_socket_that_keeps_sending_is_cut_as_soon(server: ServerProcess) -> None:
    """It answers no close, and sends data that looks alive."""
    tokens = log_in(server)
    with deaf(server, tokens) as raw:
        revoked(server, tokens)
        began = time.monotonic()
        while held(server.url, raw):
            assert time.monotonic() - began < SOON_S
            raw.send(frame(PONG) + frame(TEXT, b'{"type":"ping"}'))
            time.sleep(0.05)


@pytest.mark.parametrize("count", [60, 250])
def test_a_late_reader_receives_everything_up_to_the_sessions_end(tmp_path: Path, count: int) -> None:
    """Messages pushed before the end are not lost with it, since this many may wait."""
    with small_buffers(tmp_path / "data", send_timeout_s=60) as server:
        tokens = log_in(server)
        with deaf(server, tokens) as raw:
            refresh(server, tokens, count)
            revoked(server, tokens)
            heard = []
            while (told := raw.frame())[0] != CLOSE:
                if told[0] == TEXT:
                    heard.append(json.loads(told[1])["event"])
    assert told[1] == (4403).to_bytes(2, "big") + b"session ended: revoked"
    assert heard == ["refresh"] * count + ["revoke"]


def test_a_socket_whose_reader_stalls_is_recorded_as_disconnected(server: ServerProcess) -> None:
    """The session does not end: its pushed messages find no reader for longer than the limit."""
    tokens = log_in(server)
    with deaf(server, tokens) as raw:
        push_much(server, tokens, raw)
        gone_soon(server, {"it": raw})
        until(lambda: events(server, tokens)["disconnect"])


WANTED: Final = head("GET /schema/openapi.json HTTP/1.1")
STEP: Final = 4096


def read_steadily(raw: Raw, size: int, seconds: float) -> None:
    """Read ``size`` bytes steadily over this time, in many small steps."""
    steps = size // STEP
    began = time.monotonic()
    for number in range(steps):
        left = STEP
        while left:
            received = raw.socket.recv(left)
            assert received, f"cut after {time.monotonic() - began:.1f} s, {number * STEP} bytes"
            left -= len(received)
        time.sleep(max(0.0, began + (number + 1) * seconds / steps - time.monotonic()))


def whole(url: str, count: int, size: int, seconds: float) -> bytes:
    """Request the document ``count`` times, read ``size`` bytes slowly, then the rest at full speed."""
    with Raw(url, receive_buffer=SMALL) as raw:
        raw.send(WANTED * count)
        read_steadily(raw, size * count, seconds)
        raw.send(head("GET /health/live HTTP/1.1", {"Connection": "close"}))
        return raw.rest()


def test_a_slow_but_steady_reader_gets_a_whole_long_response(tmp_path: Path) -> None:
    """It takes four times the limit, which applies to stalled peers only."""
    limit_s = 3
    with small_buffers(tmp_path / "data", send_timeout_s=limit_s) as server, ThreadPoolExecutor() as threads:
        size = len(httpx.get(f"{server.url}/schema/openapi.json").raise_for_status().content)
        reading = [threads.submit(whole, server.url, count, size, 4 * limit_s) for count in (1, 3)]
        assert all(each.result().endswith(b'{"status":"ok"}') for each in reading)


def test_a_reader_that_stalls_is_cut_wherever_it_stopped(server: ServerProcess) -> None:
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(server.url, receive_buffer=SMALL)) for _ in range(3)]
        for number, raw in enumerate(raws):
            raw.send(WANTED * 3)
            read_steadily(raw, number * STEP, 0.1)
        gone_soon(server, {str(number): raw for number, raw in enumerate(raws)})


UNFINISHED: Final = {
    "nothing": b"",
    "half a head": b"GET /",
    "half a body": head("POST /api/session HTTP/1.1", {"Content-Length": "2"}) + b"{",
}
"""The end of what a client sends."""


@pytest.mark.parametrize("last", UNFINISHED.values(), ids=UNFINISHED)
def test_a_half_closed_client_that_does_not_read_is_cut_soon(tmp_path: Path, last: bytes) -> None:
    """For some all answers are in the kernel, for some a few in the process, and some are cut for too many."""
    live = head("GET /health/live HTTP/1.1")
    waiting = serving(tmp_path, header_timeout_s=SEND_S, body_timeout_s=SEND_S, keep_alive_s=SEND_S)
    with waiting as server, ExitStack() as stack:
        raws = {}
        for count in range(15, 165, 15):
            raw = raws[str(count)] = stack.enter_context(Raw(server.url, receive_buffer=SMALL))
            raw.send(live * count)
        # Not before all of it was answered: requests waiting behind an answer are another case.
        time.sleep(SEND_S / 4)
        for raw in raws.values():
            raw.send(last)
            raw.finish()
        gone_soon(server, raws)
