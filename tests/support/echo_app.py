"""An application behind a proxy that answers with what reached it. ``python -m tests.support.echo_app`` runs it."""

from __future__ import annotations

import json
import socket
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import uvicorn

# With its own icon, so that no browser requests one at arbitrary times.
_PAGE: Final = b'<!doctype html><title>a page</title><link rel="icon" href="data:,">'

_seen: list[dict[str, Any]] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with JSON of the request. Below /public/page are empty pages, whose query is a percent-encoded cookie to set.

    ``/seen`` returns all requests since the last call.
    """
    if scope["type"] == "lifespan":
        return
    reached = {
        "type": scope["type"],
        "method": scope.get("method", "GET"),
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
    }
    if scope["path"] != "/seen":
        _seen.append(reached)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(reached)})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    kind, body = b"application/json", json.dumps(reached).encode()
    if scope["path"] == "/seen":
        body = json.dumps(_seen).encode()
        _seen.clear()
    elif scope["path"].startswith("/public/page"):
        kind, body = b"text/html; charset=utf-8", _PAGE
    headers = [(b"content-type", kind)]
    if scope.get("query_string") and body is _PAGE:
        headers.append((b"set-cookie", unquote_to_bytes(scope["query_string"])))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve on a free port until SIGTERM."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(f"echo on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201  # its parent reads it
    uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None)).run(sockets=[listener])


if __name__ == "__main__":
    main()
