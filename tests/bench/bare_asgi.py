"""Baseline of forward-auth and of a WebSocket message: one ASGI function, on stock uvicorn.

It answers every request with the identity headers of a forward-auth answer, and echoes every message. ``python -m
tests.bench.bare_asgi`` runs it. Nothing of Interlock is loaded.
"""

from __future__ import annotations

from typing import Any

from tests.bench import stock

_HEADERS = [
    (b"remote-user", b"acc_3q2-7wAAQGmJw0m5bW9uZQ"),
    (b"remote-groups", b""),
    (b"remote-email", b""),
    (b"remote-name", b""),
    (b"x-session-id", b"0dkpmrn3u8ib2gqk1v7t5e0a9c4j6f2hs3m0"),
    (b"x-session-state", b"authenticated"),
    (b"content-length", b"0"),
]


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer 200 over HTTP; on a WebSocket, echo."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b""})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


if __name__ == "__main__":
    stock.serve(answer)
