"""Floods of WebSocket frames: each is cut, counted and logged, and the server stays responsive to other clients."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from interlock.server.settings import Settings
from tests.support.asynchronous import asynchronous
from tests.support.client import hello, logged_in
from tests.support.flooding import BAD, FLOODS, flooding
from tests.support.metrics import log_rows, scrape
from tests.support.raw import PING, PONG, TEXT, Raw, bearer, events, frame, handshake, head, log_in
from tests.support.running import until
from tests.support.server import ServerProcess, running_server

FLOOD: Final = 4420
MANY: Final = 20_000
"""Frames: far more than any client sends at once on purpose."""

BAR: Final = 5
TURNS: Final = 8
TURN_S: Final = 0.7
FEW: Final = 100
LONG_TURN_S: Final = 10
"""Maximum length of a measurement with fewer responses; its p99 is still good enough."""


SETTINGS: Final[dict[str, Any]] = {
    "metrics_port": 0,
    "log_json": True,
    "access_token_s": 3600,
    "connections_per_session": 100,
    # The default.
    "limit_frames": Settings().limit_frames,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("floods") / "data", **SETTINGS) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server without coverage, which would slow its Python code and not the C libraries."""
    process = ServerProcess(tmp_path_factory.mktemp("quick") / "data", {**SETTINGS, "model_trace": ""})
    process.forked = False
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            patch.delenv(name)
        process.start()
    yield process
    process.stop()


@contextmanager
def opened(server: ServerProcess, tokens: dict[str, Any]) -> Iterator[Raw]:
    """Return an open socket after its greeting."""
    with Raw(server.url) as raw:
        raw.send(handshake(bearer(tokens)))
        assert raw.response().status == 101
        assert raw.frame()[1].startswith(b'{"type":"hello"')
        yield raw


def cut(server: ServerProcess, code: int) -> float:
    return scrape(server).value("interlock_socket_closes_total", code=str(code), by="server")


def told(server: ServerProcess) -> float:
    """Return how many refused sockets were logged. Repeats may share a line."""
    return scrape(server).value("interlock_log_events_total", event="socket.refused")


def lines(server: ServerProcess, code: int) -> list[dict[str, Any]]:
    return [row for row in log_rows(server) if row["event"] == "socket.refused" and row["code"] == code]


def gone(server: ServerProcess, tokens: dict[str, Any], connects: int = 1) -> bool:
    """Return whether every connection of the session is recorded as disconnected."""
    seen = events(server, tokens)
    return seen["connect"] == seen["disconnect"] == connects


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_on_an_open_socket_is_cut_counted_and_logged(server: ServerProcess, kind: str) -> None:
    tokens, counted, before = log_in(server), cut(server, FLOOD), told(server)
    first, again = FLOODS[kind]
    with opened(server, tokens) as raw:
        sending = threading.Thread(target=raw.send, args=(first + again * MANY,))
        sending.start()
        code = raw.close_code()
        raw.rest()
        sending.join()
    assert code == FLOOD
    until(lambda: gone(server, tokens))
    assert cut(server, FLOOD) == counted + 1
    assert told(server) == before + 1


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_by_a_peer_that_reads_nothing_is_cut(server: ServerProcess, kind: str) -> None:
    """The disconnect is recorded while the peer still holds its end open."""
    tokens, counted = log_in(server), cut(server, FLOOD)
    first, again = FLOODS[kind]
    with opened(server, tokens) as raw:
        sending = threading.Thread(target=raw.send, args=(first + again * MANY,), daemon=True)
        sending.start()
        until(lambda: gone(server, tokens))
    assert cut(server, FLOOD) == counted + 1


@pytest.mark.parametrize("kind", BAD)
def test_any_number_of_invalid_messages_ends_the_connection(server: ServerProcess, kind: str) -> None:
    tokens = log_in(server)
    with opened(server, tokens) as raw:
        sending = threading.Thread(target=raw.send, args=(BAD[kind][1] * MANY,))
        sending.start()
        code = raw.close_code()
        raw.rest()
        sending.join()
    assert code in {4400, FLOOD}
    until(lambda: gone(server, tokens))


def test_twenty_floods_are_cut_and_logged_in_few_lines(tmp_path: Path) -> None:
    peers = 20
    with running_server(tmp_path / "data", **SETTINGS) as server, ExitStack() as stack:
        tokens = log_in(server)
        raws = [stack.enter_context(opened(server, tokens)) for _ in range(peers)]
        threads = [threading.Thread(target=raw.send, args=(frame(PONG) * MANY,)) for raw in raws]
        for thread in threads:
            thread.start()
        assert ask(server, tokens) == 200, "others are answered meanwhile"
        assert [raw.close_code() for raw in raws] == [FLOOD] * peers
        for raw in raws:
            raw.rest()
        for thread in threads:
            thread.join()
        until(lambda: gone(server, tokens, peers))
        assert cut(server, FLOOD) == told(server) == peers
        first, *more = until(lambda: lines(server, FLOOD))
        assert (first["because"], first["session_id"]) == ("flood", tokens["session_id"])
        assert len(more) < peers


def ask(server: ServerProcess, tokens: dict[str, Any]) -> int:
    with Raw(server.url) as raw:
        raw.send(head("GET /api/forward-auth HTTP/1.1", bearer(tokens)))
        return raw.response().status


@pytest.mark.parametrize("kind", [*FLOODS, *BAD])
def test_frames_before_the_handshake_is_answered_cut_the_connection(server: ServerProcess, kind: str) -> None:
    """A client must wait for the answer (RFC 6455, 4.1), so an honest one never sends data with the handshake."""
    tokens = log_in(server)
    first, again = {**FLOODS, **BAD}[kind]
    for frames in (first + again, first + again * MANY):
        for credential in (bearer(tokens), {}):
            with Raw(server.url) as raw:
                raw.send(handshake(credential) + frames)
                said = raw.rest()
                assert said == b"" or said.startswith(b"HTTP/1.1 400 "), said
    assert events(server, tokens)["connect"] == events(server, tokens)["disconnect"]


@pytest.mark.parametrize("kind", [*FLOODS, *BAD])
def test_frames_after_a_refusal_cut_the_connection(server: ServerProcess, kind: str) -> None:
    """A peer without a credential gets the reason and nothing more, even if it does not answer the close."""
    before, counted = told(server), cut(server, 4401)
    first, again = {**FLOODS, **BAD}[kind]
    with Raw(server.url) as raw:
        raw.send(handshake())
        assert raw.response().status == 101
        raw.send(first + again * MANY * 10)
        assert raw.close_code() == 4401
        raw.rest()
    assert cut(server, 4401) == counted + 1
    # The flood after the refusal may be logged too.
    assert before + 1 <= told(server) <= before + 2


def p99_s(raws: list[Raw], request: bytes) -> float:
    """Return the 99th percentile of consecutive request times in one turn."""
    took: list[float] = []
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < TURN_S or (len(took) < FEW and passed < LONG_TURN_S):
        for raw in raws:
            sent = time.perf_counter()
            raw.send(request)
            assert raw.response().status == 200
            took.append(time.perf_counter() - sent)
    return sorted(took)[math.ceil(len(took) * 0.99) - 1]


@pytest.mark.parametrize(
    ("when", "kind"),
    [
        *(("open", kind) for kind in FLOODS),
        ("refused", "pongs"),
        ("refused", "tiny messages"),
        ("early", "pongs"),
        ("early", "fragments of a byte"),
    ],
)
def test_other_clients_wait_little_longer_while_five_peers_flood(quick: ServerProcess, when: str, kind: str) -> None:
    """Takes the best of several turns, as the machine may be busy in some."""
    tokens = log_in(quick)
    token = "" if when == "refused" else tokens["access_token"]
    request = head("GET /api/forward-auth HTTP/1.1", bearer(log_in(quick)))
    ratios: list[float] = []
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(quick.url)) for _ in range(4)]
        p99_s(raws, request)
        end = time.monotonic() + 60
        while min(ratios, default=math.inf) > BAR and len(ratios) < TURNS and time.monotonic() < end:
            quiet_s = p99_s(raws, request)
            with flooding(quick.url, token, kind, 5, early=when == "early"):
                ratios.append(p99_s(raws, request) / quiet_s)
    assert min(ratios) <= BAR, ratios


@asynchronous
async def test_a_chatty_client_is_no_flood(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, client.connect() as socket:
        await hello(socket)
        for _ in range(300):
            await socket.send('{"type": "ping"}')
            assert json.loads(await socket.recv()) == {"type": "pong"}
        for waiter in [await socket.ping(f"{number}") for number in range(100)]:
            await waiter
        await socket.send('{"type": "ping"}')
        assert json.loads(await socket.recv()) == {"type": "pong"}


@pytest.mark.parametrize("size", [1, 600])
def test_a_message_in_a_hundred_fragments_is_no_flood(server: ServerProcess, size: int) -> None:
    """With 600 bytes in each, the message is almost as large as allowed."""
    text = b'{"type":"ping"}' + b" " * (100 * size - 15)
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    with opened(server, log_in(server)) as raw:
        for _ in range(3):
            raw.send(frame(TEXT, parts[0], final=False))
            raw.send(*(frame(0, part, final=False) for part in parts[1:-1]))
            raw.send(frame(PING, b"between") + frame(0, parts[-1]))
            assert raw.frame() == (PONG, b"between")
            assert raw.frame() == (TEXT, b'{"type":"pong"}')


def test_a_burst_of_messages_after_a_pause_is_no_flood(server: ServerProcess) -> None:
    """A client that was suspended sends what it has queued; each message is answered."""
    with opened(server, log_in(server)) as raw:
        raw.send(frame(TEXT, b'{"type":"ping"}') * 200)
        assert [raw.frame() for _ in range(200)] == [(TEXT, b'{"type":"pong"}')] * 200
