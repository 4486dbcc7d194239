"""A back end that receives webhooks: a real HTTP server, whose answers a test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from tests.support.log import interlock


class Delivered(NamedTuple):
    """One request: when it came, its headers in lower case, its body, and what it was answered."""

    at_s: float
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def session_id(self) -> str:
        return str(self.message["data"]["session_id"])


Answers = Callable[[dict[str, Any]], tuple[int, dict[str, str]] | int]


class Receiver:
    """The receiver at ``url``. ``answers`` returns the status for a message, and headers if there are any."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/hooks"
        self.got: list[Delivered] = []
        self.answers: Answers = lambda _: 204
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def taken(self) -> list[Delivered]:
        """Return what was answered with success."""
        return [each for each in self.got if each.status < 300]

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        """Answer one request."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        answer = self.answers(json.loads(body))
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        with self._lock:
            self._at_once -= 1
            self.got.append(Delivered(monotonic(), headers, body, status))
        return status, more


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, headers = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def create_webhook(data: Path, url: str, *scopes: str, name: str = "shop") -> str:
    """Create a webhook as an operator does, wherever it is. Return its secret."""
    options = [word for scope in scopes for word in ("--scope", scope)]
    options += ["--outgoing-networks", "0.0.0.0/0,::/0"]
    outcome = interlock("webhooks", "create", name, url, *options, "--data", data)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()
