"""A back end without a framework, for tests of the ASGI middleware: it echoes, streams, and says who is there."""

from __future__ import annotations

import asyncio
import os

import uvicorn

from interlock.asgi import InterlockMiddleware
from interlock.asgi.middleware import Message, Receive, Scope, Send

EVERY_S = 0.05


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
    elif scope["type"] == "websocket":
        await _talk(scope, receive, send)
    else:
        await _answer(scope, send)


async def _talk(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": None})
    assert not [each for each in scope["subprotocols"] if "bearer" in each]
    if scope["path"] == "/deaf":
        # It never asks for what the client sends, as code that only pushes.
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(EVERY_S)
    await send({"type": "websocket.send", "text": f"hello {scope['interlock'].subject}"})
    message: Message = await receive()
    while message["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
        message = await receive()


async def _answer(scope: Scope, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    subject = scope["interlock"].subject.encode()
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": subject + b"\n", "more_body": True})
        await asyncio.sleep(EVERY_S)
    await send({"type": "http.response.body", "body": subject})


def main() -> None:
    """Serve on a port that the system chooses."""
    guarded = InterlockMiddleware(
        app,
        os.environ["INTERLOCK"],
        client=os.environ["CLIENT"],
        subscriber=os.environ["SUBSCRIBER"],
        stale_after_s=float(os.environ.get("STALE_AFTER_S", "60")),
    )
    uvicorn.run(guarded, port=0, log_level="info")


if __name__ == "__main__":
    main()
