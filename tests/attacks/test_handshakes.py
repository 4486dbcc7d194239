"""WebSocket handshakes that are malformed, too large or incomplete: each is answered, and its connection ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.metrics import scrape
from tests.support.raw import Ended, Raw, bearer, events, handshake, head, log_in, offer
from tests.support.server import ServerProcess, running_server

WELL: Final = offer()
LINE: Final = "GET /api/connect HTTP/1.1"
HEADER_BYTES: Final = 16_384
"""The default limit of a request head."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that is impatient with incomplete requests only, so that no other limit ends a connection."""
    folder = tmp_path_factory.mktemp("handshakes") / "data"
    with running_server(
        folder,
        header_timeout_s=2,
        body_timeout_s=2,
        handshake_timeout_s=2,
        keep_alive_s=2,
        access_token_s=3600,
        log_json=True,
        metrics_port=0,
    ) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


@pytest.fixture(scope="module")
def tokens(server: ServerProcess) -> dict[str, Any]:
    return log_in(server)


REFUSALS: Final = ("request.refused", "traffic.unreadable", "traffic.slow", "socket.refused")


def refusals(server: ServerProcess) -> float:
    """Return how many refusals were logged, including those counted as repeats."""
    told = scrape(server)
    return sum(told.value("interlock_log_events_total", event=name) for name in REFUSALS)


def refused(server: ServerProcess, messages: list[list[bytes]]) -> list[int]:
    """Return the status of the one response to each of ``messages``, sent in segments on concurrent connections.

    Each connection ends, at once or when nothing more arrives, and each refusal is logged.
    """
    before, statuses = refusals(server), []
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(server.url)) for _ in messages]
        for raw, segments in zip(raws, messages, strict=True):
            raw.send(*segments)
        for raw in raws:
            while (response := raw.response()).status == 100:
                pass
            rest = raw.rest()
            # An incomplete message that follows may be logged as slow.
            assert rest == b"" or (not response.closes and rest.startswith(b"HTTP/1.1 408 ")), rest
            statuses.append(response.status)
    assert refusals(server) >= before + len(messages)
    return statuses


BODIES: Final = {
    "a length of 1 and nothing": ({"Content-Length": "1"}, b""),
    "half of the length": ({"Content-Length": "10"}, b"half"),
    "the whole length": ({"Content-Length": "4"}, b"full"),
    "more than may be": ({"Content-Length": "1000000"}, b"x" * 100),
    "chunks that never come": ({"Transfer-Encoding": "chunked"}, b""),
    "half a chunk": ({"Transfer-Encoding": "chunked"}, b"a\r\nhalf"),
    "chunks without the last": ({"Transfer-Encoding": "chunked"}, b"4\r\nfull\r\n"),
    "chunks": ({"Transfer-Encoding": "chunked"}, b"4\r\nfull\r\n0\r\n\r\n"),
    "no chunk": ({"Transfer-Encoding": "chunked"}, b"nonsense\r\n"),
    "waiting to be asked": ({"Content-Length": "1", "Expect": "100-continue"}, b""),
}


@pytest.mark.parametrize("credential", ["a credential", "none"])
def test_a_handshake_with_a_body_is_refused_soon(
    server: ServerProcess, tokens: dict[str, Any], credential: str
) -> None:
    shown = {} if credential == "none" else bearer(tokens)
    messages = []
    for framing, body in BODIES.values():
        whole = head(LINE, {**WELL, **shown, **framing})
        messages += [[whole + body], [whole, body]]
    before = events(server, tokens)["connect"]
    for message, status in zip(messages, refused(server, messages), strict=True):
        assert status in {400, 408, 413, 426}, message
    assert events(server, tokens)["connect"] == before


BAD: Final[dict[str, Mapping[str, str | None]]] = {
    "no key": {"Sec-WebSocket-Key": None},
    "an empty key": {"Sec-WebSocket-Key": ""},
    "a short key": {"Sec-WebSocket-Key": "c2hvcnQ="},
    "a key of 10 KiB": {"Sec-WebSocket-Key": "A" * 10_240},
    "no key, a bad version": {"Sec-WebSocket-Key": None, "Sec-WebSocket-Version": "x"},
    "version 13.0": {"Sec-WebSocket-Version": "13.0"},
    "version -13": {"Sec-WebSocket-Version": "-13"},
    "version of 10 KiB": {"Sec-WebSocket-Version": "1" * 10_240},
    "a version that is no ASCII": {"Sec-WebSocket-Version": "\xb9\xb3"},
    "a key that is no ASCII": {"Sec-WebSocket-Key": "\xff" * 24},
    "no subprotocol in the offer": {"Sec-WebSocket-Protocol": ""},
    "a subprotocol that is no token": {"Sec-WebSocket-Protocol": "interlock v1, ("},
    "ten thousand subprotocols": {"Sec-WebSocket-Protocol": "a," * 5_000 + "b"},
    "a broken extension": {"Sec-WebSocket-Extensions": ";;;=,"},
}


@pytest.mark.parametrize("changed", BAD.values(), ids=BAD)
def test_a_malformed_handshake_is_answered(
    server: ServerProcess, tokens: dict[str, Any], changed: Mapping[str, str | None]
) -> None:
    headers = {name: value for name, value in {**WELL, **bearer(tokens), **changed}.items() if value is not None}
    message = head(LINE, headers)
    for segments in ([message], [message[:200], message[200:]]):
        with Raw(server.url) as raw:
            raw.send(*segments)
            response = raw.response()
            # An unknown extension or subprotocol does not make the handshake malformed.
            assert response.status in (
                {101, 400} if {"Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} & {*changed} else {400, 426}
            )


PADDINGS: Final[dict[str, Callable[[int], dict[str, str]]]] = {
    "one cookie": lambda size: {"Cookie": "c=" + "x" * (size - 12)},
    "many cookies": lambda size: {
        "Cookie": "; ".join(f"cookie{number:04}={'x' * 88}" for number in range(size // 102))
    },
    "many headers": lambda size: {f"X-{number:04}": "x" * (size // 100 - 10) for number in range(100)},
    "a long Referer": lambda size: {"Referer": "https://app.example/" + "x" * (size - 32)},
}


@pytest.mark.parametrize("size", [8_000, 12_000, 15_000])
@pytest.mark.parametrize("kind", PADDINGS)
def test_a_valid_handshake_with_a_large_head_is_accepted(
    server: ServerProcess, tokens: dict[str, Any], kind: str, size: int
) -> None:
    """Browsers send all cookies of a site: 8 to 12 KiB are not rare."""
    message = head(LINE, {**WELL, **PADDINGS[kind](size), **bearer(tokens)})
    assert size - 200 < len(message) < HEADER_BYTES
    for segments in ([message], [message[at : at + 1000] for at in range(0, len(message), 1000)]):
        with Raw(server.url) as raw:
            raw.send(*segments)
            assert raw.response().status == 101
            assert raw.frame()[1].startswith(b'{"type":"hello"')


def test_a_browsers_handshake_with_many_cookies_is_answered(server: ServerProcess) -> None:
    tokens = log_in(server)
    crowd = [f"cookie{number:03}={'x' * 90}" for number in range(100)]
    cookies = "; ".join([*crowd[:50], f"__Host-interlock={tokens['refresh_token']}", *crowd[50:]])
    browser = {
        **WELL,
        "Host": server.url.removeprefix("http://"),
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Accept-Language": "en-GB,en;q=0.5",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Origin": server.url,
        **bearer(tokens),
        "Sec-WebSocket-Extensions": "permessage-deflate",
        "Connection": "keep-alive, Upgrade",
        "Sec-Fetch-Dest": "empty",
        "Sec-Fetch-Mode": "websocket",
        "Sec-Fetch-Site": "same-origin",
        "Pragma": "no-cache",
        "Cache-Control": "no-cache",
        "Cookie": cookies,
    }
    with Raw(server.url) as raw:
        raw.send(head(LINE, browser))
        response = raw.response()
        assert (response.status, response.header("sec-websocket-extensions")) == (101, None)
        assert raw.frame()[1].startswith(b'{"type":"hello"')


@pytest.mark.parametrize("size", [17_000, 40_000, 200_000])
@pytest.mark.parametrize("kind", PADDINGS)
def test_a_handshake_with_too_large_a_head_is_refused_and_ended(
    server: ServerProcess, tokens: dict[str, Any], kind: str, size: int
) -> None:
    before = refusals(server)
    message = head(LINE, {**WELL, **PADDINGS[kind](size), **bearer(tokens)})
    for segments in ([message], [message[at : at + 5000] for at in range(0, len(message), 5000)]):
        with Raw(server.url) as raw:
            raw.send(*segments)
            said = raw.rest()
        # The answer may be lost if the client still sends when the connection ends.
        assert said.startswith(b"HTTP/1.1 431 ") or (said == b"" and size > 40_000)
        assert said.count(b"HTTP/1.1 ") <= 1
    assert refusals(server) > before


@pytest.mark.parametrize("count", [100, 500, 1_300])
def test_a_handshake_with_many_short_headers_is_answered(
    server: ServerProcess, tokens: dict[str, Any], count: int
) -> None:
    """More than 128 headers are too many; a hundred are accepted."""
    with Raw(server.url) as raw:
        raw.send(head(LINE, {**WELL, **{f"X-{number:04}": "x" for number in range(count)}, **bearer(tokens)}))
        assert raw.response().status == (101 if count == 100 else 431)


def test_the_size_limit_of_a_handshakes_head_is_a_setting(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", header_bytes=65_536) as server:
        credential = bearer(log_in(server))
        for kind, pad in PADDINGS.items():
            for size, status in ((60_000, 101), (70_000, 431)):
                with Raw(server.url) as raw:
                    raw.send(head(LINE, {**WELL, **pad(size), **credential}))
                    assert raw.response().status == status, (kind, size)


def test_a_handshake_that_stops_is_cut(server: ServerProcess, tokens: dict[str, Any]) -> None:
    whole = handshake(bearer(tokens))
    halves = [[whole[:at]] for at in (1, 20, 200, -4, -3, -2, -1)]
    assert refused(server, halves) == [408] * len(halves)


def test_a_slowly_dripping_handshake_is_cut(server: ServerProcess, tokens: dict[str, Any]) -> None:
    """The limit applies to the whole head, however steadily it arrives."""
    whole = head(LINE, {**WELL, **bearer(tokens), "X-Long": "x" * 10_000})
    with Raw(server.url) as raw:
        raw.socket.settimeout(0)
        for each in whole:
            try:
                raw.socket.send(bytes([each]))
                said = raw.socket.recv(65_536)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except ConnectionError:
                return  # The server cut it between write and read, so its answer is lost.
            assert said.startswith(b"HTTP/1.1 408 ")
            return
    raise AssertionError("the whole head was waited for")


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}, {"Cookie": "a=b"}])
def test_a_handshake_without_a_credential_is_closed(server: ServerProcess, shown: Mapping[str, str]) -> None:
    """It is accepted, so that a browser can read the reason, and closed, although the peer does not answer."""
    with Raw(server.url) as raw:
        raw.send(handshake(shown))
        assert raw.response().status == 101
        assert raw.close_code() == 4401
        with pytest.raises(Ended):
            raw.frame()


def test_an_invalid_handshake_leaves_the_connection_closed_or_usable(
    server: ServerProcess, tokens: dict[str, Any]
) -> None:
    for changed in BAD.values():
        headers = {name: value for name, value in {**WELL, **bearer(tokens), **changed}.items() if value is not None}
        with Raw(server.url) as raw:
            raw.send(head(LINE, headers))
            response = raw.response()
            if response.status == 101:
                continue
            if response.closes:
                assert raw.rest() == b""
                continue
            raw.send(handshake(bearer(tokens)))
            assert raw.response().status == 101
            assert raw.frame()[1].startswith(b'{"type":"hello"')
