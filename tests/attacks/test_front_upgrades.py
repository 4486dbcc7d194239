"""Which upgrade offers nginx and Caddy forward, as in the guides: only those of WebSocket handshakes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest

from tests.support.fronts import Front

WEBSOCKET: Final = (
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "WebSocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
OTHERS: Final = (
    (("Connection", "Upgrade"), ("Upgrade", "foo")),
    (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")),
    (("Connection", "Upgrade"), ("Upgrade", "foo, websocket")),
    (("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")),
    (("Connection", "Upgrade"), ("Upgrade", "")),
    (("Connection", "Upgrade"), ("Upgrade", "websocket2")),
)
CALLS: Final = ("/api/session", "/api/auth/login", "/api/connect/x", "/api/nothing")


class Recorder:
    """Stands in for Interlock: accepts everything, and records method, target and Upgrade of each request."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str | None]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                recorder.heard.append((self.command, self.path, self.headers["Upgrade"]))
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.send_response(200)
                self.send_header("Remote-User", "acc_1")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.web.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.web.server_port}"

    def offers(self) -> set[tuple[str, str, str | None]]:
        """Return the requests since the last call, without those that offer nothing."""
        heard, self.heard = self.heard, []
        return {(method, target, upgrade) for method, target, upgrade in heard if upgrade is not None}


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    recorder = Recorder()
    thread = threading.Thread(target=recorder.web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield recorder
    recorder.web.shutdown()
    recorder.web.server_close()
    thread.join()


def test_of_two_upgrade_offers_only_websocket_is_forwarded(front: Front, server: Recorder) -> None:
    for first, second in itertools.permutations(("foo", "websocket")):
        front.say("/api/connect", ("Connection", "Upgrade"), ("Upgrade", first), ("Upgrade", second))
        assert {upgrade for _, _, upgrade in server.offers()} <= {"websocket"}
        front.say("/x", ("Connection", "Upgrade"), ("Upgrade", first), ("Upgrade", second))
        assert {headers.get("upgrade") for headers in reached(front)} <= {"websocket", None}


def reached(front: Front) -> list[dict[str, str]]:
    """Return the headers of the requests that reached the application."""
    return [dict(seen["headers"]) for seen in front.seen()]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_no_upgrade_offer_reaches_interlocks_api(front: Front, server: Recorder, method: str) -> None:
    for offer, path in itertools.product((WEBSOCKET, *OTHERS), CALLS):
        # HAProxy refuses an offer of a WebSocket without its key.
        status = front.say(path, *offer, method=method)
        assert status == 200 or (offer in OTHERS and status == 400)
        assert status == 400 or ("GET", path, None) in server.heard or (method, path, None) in server.heard
    assert server.offers() == set()


def test_only_websocket_handshakes_reach_interlocks_websocket(front: Front, server: Recorder) -> None:
    path = "/api/connect"
    assert front.say(path, *WEBSOCKET) == 200
    assert {(method, path) for method, path, _ in server.offers()} == {("GET", path)}
    for offer in OTHERS:
        assert front.say(path, *offer) in {200, 400}
    for method, body in (("POST", b""), ("POST", b"x"), ("GET", b"x"), ("OPTIONS", b"")):
        assert front.say(path, *WEBSOCKET, method=method, body=body) == 200
    assert server.offers() == set()


def test_only_websocket_handshakes_reach_the_application_as_offers(front: Front, server: Recorder) -> None:
    assert front.say("/x", *WEBSOCKET) == 101
    assert [headers["upgrade"].lower() for headers in reached(front)] == ["websocket"]
    for path in ("/x", "/public/x"):
        for offer in OTHERS:
            assert front.say(path, *offer) in {200, 400}
        for method, body in (("POST", b""), ("POST", b"x"), ("GET", b"x")):
            assert front.say(path, *WEBSOCKET, method=method, body=body) == 200
    assert [headers for headers in reached(front) if "upgrade" in headers] == []
    assert server.offers() == set(), "nor the question whether it may pass"
