"""Upgrade offers that the server declines: the message is read as plain HTTP, and its body is no request."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Final

import pytest

from tests.support.metrics import metrics_url
from tests.support.raw import (
    KEY,
    NEXT,
    PAUSE_S,
    Ended,
    Raw,
    Response,
    answered_once,
    asked,
    bearer,
    head,
    log_in,
    offer,
)
from tests.support.server import ServerProcess, running_server

HIDDEN: Final = b"GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
"""A request hidden in a body. An answer to it would be `{"status":"ok"}`."""

OFFERS: Final = {
    "foo": {"Connection": "upgrade", "Upgrade": "foo"},
    "h2c": {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"},
    "TLS": {"Connection": "Upgrade", "Upgrade": "TLS/1.0"},
    "empty": {"Connection": "Upgrade", "Upgrade": ""},
    "a list": {"Connection": "keep-alive, Upgrade", "Upgrade": "foo, websocket"},
    "websocket": {"Connection": "Upgrade", "Upgrade": "websocket"},
    "WebSocket": {"Connection": "uPgRaDe", "Upgrade": "WebSocket"},
    "a whole handshake": offer(),
}
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")
PATHS: Final = ("/api/session", "/api/connect", "/api/forward-auth", "/api/auth/login", "/nothing/here")
BODIES: Final[Mapping[str, tuple[Mapping[str, str], bytes]]] = {
    "none": ({}, b""),
    "length": ({"Content-Length": str(len(HIDDEN))}, HIDDEN),
    "chunks": (
        {"Transfer-Encoding": "chunked"},
        b"%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (5, HIDDEN[:5], len(HIDDEN), HIDDEN),
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("upgrades") / "data"
    with running_server(folder, metrics_port=0, log_json=True) as process:
        yield process
        assert "Traceback" not in process.log_path.read_text()


def written(method: str, path: str, body: str, offered: Mapping[str, str]) -> bytes:
    framing, content = BODIES[body]
    return head(f"{method} {path} HTTP/1.1", {**offered, **framing}) + content


def begins_handshake(method: str, path: str, offered: Mapping[str, str]) -> bool:
    """Return whether it asks for a WebSocket, validly or not, so that it isn't answered as plain HTTP."""
    return (method, path) == ("GET", "/api/connect") and offered["Upgrade"].lower() == "websocket"


@pytest.fixture(scope="module")
def plain(server: ServerProcess) -> dict[tuple[str, str, str], Response]:
    """Return the responses to the same requests without any offer."""
    return {
        (method, path, body): asked(server, written(method, path, body, {}), method=method)
        for method, path, body in itertools.product(METHODS, PATHS, BODIES)
    }


@pytest.mark.asvs("4.2.1")
@pytest.mark.parametrize("offered", OFFERS.values(), ids=OFFERS)
def test_an_upgrade_offer_does_not_change_the_response(
    server: ServerProcess, plain: dict[tuple[str, str, str], Response], offered: Mapping[str, str]
) -> None:
    for (method, path, body), expected in plain.items():
        if begins_handshake(method, path, offered):
            continue
        response = asked(server, written(method, path, body, offered), method=method)
        assert (response.status, response.problem) == (expected.status, expected.problem), (method, path, body)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", ["foo", "h2c", "a whole handshake"])
def test_the_segment_boundary_in_an_upgrade_offer_makes_no_difference(
    server: ServerProcess, name: str, body: str
) -> None:
    message = written("POST", "/api/auth/login", body, OFFERS[name])
    for at in range(1, len(message)):
        response = asked(server, message[:at], message[at:], method="POST")
        assert 400 <= response.status < 500, at


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_upgrade_offer_sent_byte_by_byte_is_answered_once(
    server: ServerProcess, plain: dict[tuple[str, str, str], Response], method: str
) -> None:
    """All of them concurrently, to save time."""
    with ExitStack() as stack:
        sent = []
        for offered, body in itertools.product(OFFERS.values(), BODIES):
            raw = stack.enter_context(Raw(server.url))
            sent.append((raw, body, written(method, "/api/session", body, offered)))
        for at in range(max(len(message) for _, _, message in sent)):
            time.sleep(PAUSE_S)
            for raw, _, message in sent:
                raw.send(message[at : at + 1])
        for raw, body, message in sent:
            expected = plain[method, "/api/session", body]
            response = answered_once(raw, method)
            assert (response.status, response.problem) == (expected.status, expected.problem), message


@pytest.mark.parametrize("body", ["length", "chunks"])
@pytest.mark.parametrize("name", OFFERS)
def test_pipelined_upgrade_offers_are_answered_in_their_turn(server: ServerProcess, name: str, body: str) -> None:
    message = written("POST", "/api/auth/login", body, OFFERS[name])
    with Raw(server.url) as raw:
        raw.send(HIDDEN + message + message + HIDDEN)
        statuses = [raw.response().status for _ in range(4)]
        assert (statuses[0], statuses[3]) == (200, 200)
        assert statuses[1] == statuses[2] >= 400
        raw.send(NEXT)
        assert raw.response().body.startswith(b'{"keys":')
        assert raw.rest() == b""


def test_a_client_that_offers_http2_can_log_in(server: ServerProcess) -> None:
    """Java's HttpClient does this: it sends the offer with each request until it is accepted."""
    tokens = log_in(server)
    with Raw(server.url) as raw:
        for number in range(3):
            raw.send(head("POST /api/session HTTP/1.1", {**OFFERS["h2c"], "Content-Length": "0"}))
            assert raw.response("POST").status == 201, number
            raw.send(head("GET /api/session HTTP/1.1", {**OFFERS["h2c"], **bearer(tokens)}))
            assert raw.response().status == 200, number


@pytest.mark.parametrize("name", OFFERS)
def test_forward_auth_accepts_requests_with_an_upgrade_offer(server: ServerProcess, name: str) -> None:
    """A proxy forwards the headers of the request that it asks about, even a WebSocket handshake's."""
    with Raw(server.url) as raw:
        for _ in range(2):
            raw.send(head("GET /api/forward-auth HTTP/1.1", {**OFFERS[name], **bearer(log_in(server))}))
            response = raw.response()
            assert response.status == 200
            assert response.header("remote-user")


@pytest.mark.parametrize("name", OFFERS)
def test_the_metrics_port_ignores_upgrade_offers(server: ServerProcess, name: str) -> None:
    with Raw(metrics_url(server).removesuffix("/metrics")) as raw:
        for body in BODIES:
            raw.send(written("GET", "/metrics", body, OFFERS[name]))
            response = raw.response()
            assert response.status == 200
            assert b"interlock_build_info" in response.body


WELL: Final = offer()


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in WELL.items() if name not in names}


def twice(name: str, *values: str) -> dict[str, str]:
    """Return the handshake with header ``name`` once for each of ``values``."""
    return {**without(name), name: f"\r\n{name}: ".join(values)}


NO_HANDSHAKES: Final[dict[str, tuple[str, Mapping[str, str], set[int]]]] = {
    "no key": ("GET", without("Sec-WebSocket-Key"), {400}),
    "an empty key": ("GET", {**WELL, "Sec-WebSocket-Key": ""}, {400}),
    "a short key": ("GET", {**WELL, "Sec-WebSocket-Key": "c2hvcnQ="}, {400}),
    "a long key": ("GET", {**WELL, "Sec-WebSocket-Key": KEY[:-2] + "AAAAAA=="}, {400}),
    "a key that is not base64": ("GET", {**WELL, "Sec-WebSocket-Key": "!" * 22 + "=="}, {400}),
    "two keys": ("GET", twice("Sec-WebSocket-Key", KEY, KEY), {400}),
    "two keys in a list": ("GET", {**WELL, "Sec-WebSocket-Key": f"{KEY}, {KEY}"}, {400}),
    "version 8": ("GET", {**WELL, "Sec-WebSocket-Version": "8"}, {426}),
    "version 014": ("GET", {**WELL, "Sec-WebSocket-Version": "014"}, {426}),
    "no version": ("GET", without("Sec-WebSocket-Version"), {426}),
    "two versions": ("GET", twice("Sec-WebSocket-Version", "13", "8"), {400, 426}),
    "no upgrade in Connection": ("GET", {**WELL, "Connection": "keep-alive"}, {426}),
    "no Connection": ("GET", without("Connection"), {426}),
    "no Upgrade": ("GET", without("Upgrade"), {426}),
    "another protocol first": ("GET", {**WELL, "Upgrade": "foo, websocket"}, {400, 426}),
    "POST": ("POST", {**WELL, "Content-Length": "0"}, {405}),
    "PUT": ("PUT", WELL, {405}),
    "lower-case get": ("get", WELL, {400, 405, 501}),
}


@pytest.mark.parametrize(("method", "headers", "statuses"), NO_HANDSHAKES.values(), ids=NO_HANDSHAKES)
def test_an_invalid_handshake_is_refused_once_over_http(
    server: ServerProcess, method: str, headers: Mapping[str, str], statuses: set[int]
) -> None:
    response = asked(server, head(f"{method} /api/connect HTTP/1.1", headers))
    assert response.status in statuses
    if response.status == 426:
        assert (response.header("upgrade"), response.header("sec-websocket-version")) == ("websocket", "13")
    assert response.problem


@pytest.mark.parametrize("body", ["length", "chunks"])
def test_a_handshakes_body_is_refused_and_not_read_as_a_request(server: ServerProcess, body: str) -> None:
    message = written("GET", "/api/connect", body, WELL)
    for segments in ((message,), (message[: -len(BODIES[body][1])], message[-len(BODIES[body][1]) :])):
        assert asked(server, *segments).status in {400, 426}


def test_a_websocket_handshake_over_http_1_0_is_refused(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        raw.send(head("GET /api/connect HTTP/1.0", WELL))
        assert raw.response().status in {400, 426}
        assert raw.rest() == b""


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"Upgrade": "WebSocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive\r\nConnection: upgrade"},
        {"Content-Length": "0"},
        {
            "Upgrade": "websocket \t",
            "Connection": " Upgrade ",
            "Sec-WebSocket-Version": "13 ",
            "Sec-WebSocket-Key": f"{KEY} ",
        },
    ],
    ids=["as usual", "another case", "a list", "two lines", "an empty body", "white space behind values"],
)
def test_handshakes_as_clients_write_them_are_accepted(server: ServerProcess, changed: Mapping[str, str]) -> None:
    message = head("GET /api/connect HTTP/1.1", {**WELL, **bearer(log_in(server)), **changed})
    for segments in ([message], [message[:50], message[50:]], [bytes([each]) for each in message]):
        with Raw(server.url) as raw:
            raw.send(*segments)
            assert raw.response().status == 101
            assert raw.frame()[1].startswith(b'{"type":"hello"')


def test_a_client_that_gives_up_after_an_offer_gets_one_response(server: ServerProcess) -> None:
    """A client that closes its end after the offer still gets one response."""
    for name, body in itertools.product(OFFERS, BODIES):
        with Raw(server.url) as raw:
            raw.send(written("POST", "/api/auth/login", body, OFFERS[name]))
            raw.finish()
            assert raw.response("POST").status >= 400
            with pytest.raises(Ended, match=r"^b''$"):
                raw.response()
