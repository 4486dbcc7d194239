"""The ceiling of a forward-auth answer: an ASGI function that answers every request with headers of its size, and nothing else.

``python -m tests.bench.bare_asgi`` runs it on the server software, with the configuration, of ``server/process.py``.
"""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from server.experience.headers import NO_STORE, SECURITY
from server.guard.addresses import Addresses
from server.process import uvicorn_config
from server.settings import Settings

_HEADERS = [
    (b"remote-user", b"acc_3q2-7wAAQGmJw0m5bW9uZQ"),
    (b"remote-groups", b""),
    (b"remote-email", b""),
    (b"remote-name", b""),
    (b"x-session-id", b"0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0"),
    (b"x-session-state", b"authenticated"),
    (b"content-length", b"0"),
    *SECURITY,
    NO_STORE,
]


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """Say yes."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    """Serve on a free port until SIGTERM."""
    app: Any = answer
    settings = Settings()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"bare on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201  # its parent reads it
    uvicorn.Server(uvicorn_config(app, settings, Addresses((), settings.forwarded_header))).run(sockets=[listener])


if __name__ == "__main__":
    main()
