"""The ceiling of an HTTP request: one Litestar handler that answers with a struct of a session's size, and nothing else.

``python -m tests.bench.bare_app`` runs it on the server software, with the configuration, of ``server/process.py``.
"""

from __future__ import annotations

import socket

import uvicorn
from litestar import Litestar, get

from machine.wire import SessionView
from server.guard.addresses import Addresses
from server.process import uvicorn_config
from server.settings import Settings

_ANSWER = SessionView(
    session_id="0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0",
    state="authenticated",
    version=2,
    subject="acc_3q2-7wAAQGmJw0m5bW9uZQ",
    connections=0,
    created_at="2026-01-23T09:30:00.000Z",
    idle_expires_at="2026-01-23T10:00:00.000Z",
    expires_at="2026-01-23T21:30:00.000Z",
    reason=None,
)


@get("/health/ready")
async def ready() -> SessionView:
    """What every server of the bench answers."""
    return _ANSWER


@get("/api/session")
async def show() -> SessionView:
    """As many bytes as a real session."""
    return _ANSWER


def main() -> None:
    """Serve on a free port until SIGTERM."""
    config = uvicorn_config(
        Litestar([show, ready], logging_config=None, openapi_config=None), Settings(), Addresses((), "forwarded")
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"bare on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201  # its parent reads it
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
