"""Stock uvicorn, as a user starts it. A test checks that baselines on it load nothing of Interlock."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn


def serve(app: Any) -> None:
    """Serve ``app`` on a free port until SIGTERM, with uvicorn's defaults except the access log."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"bare on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201  # its parent reads it
    # uvicorn would choose the same three; if one is missing, naming it is an error instead of a slower baseline.
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="websockets-sansio", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])
