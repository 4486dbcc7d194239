"""The metrics' own listener: a second, small uvicorn in this process, on a port that no client need reach (ASVS 13.4.5)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from server.experience.http_protocol import http_protocol
from server.guard.addresses import Addresses
from server.settings import Settings

_PATH: Final = "/metrics"
_OPEN_METRICS: Final = "application/openmetrics-text"


def metrics_app(registry: CollectorRegistry) -> Callable[[Any, Any, Any], Any]:
    """An ASGI application that answers ``GET /metrics``, and 404 to anything else."""
    making: dict[str, asyncio.Task[bytes]] = {}

    def text(accept: str) -> tuple[asyncio.Task[bytes], str]:
        """The text of now and its type. Of each type one is made at a time: however many ask, they share it."""
        # Only the name: the library takes the client's word for the version, and fails at one that is none.
        encode, content_type = choose_encoder(_OPEN_METRICS if _OPEN_METRICS in accept else "")
        if content_type not in making:
            # In a thread: the text of some hundred series takes a millisecond or two, which nobody else need wait for.
            making[content_type] = asyncio.create_task(asyncio.to_thread(encode, registry))
            making[content_type].add_done_callback(lambda _: making.pop(content_type))
        return making[content_type], content_type

    async def answer(scope: Any, _receive: Any, send: Any) -> None:
        status, content_type, body = 404, "text/plain; charset=utf-8", b"metrics are at /metrics\n"
        if scope["path"] == _PATH and scope["method"] in {"GET", "HEAD"}:
            accept = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"accept"), "")
            shared, content_type = text(accept)
            status, body = 200, await shared
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        headers += [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


class _Quiet(uvicorn.Server):
    """A server that leaves signals to the main one, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say so."""
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serve_metrics(
    registry: CollectorRegistry, listener: socket.socket, settings: Settings, addresses: Addresses
) -> AsyncIterator[None]:
    """Answer on ``listener`` until the context ends.

    Slow and silent peers are cut as on the port of the API, and there is room for as many; each port counts its own.
    """
    config = uvicorn.Config(
        metrics_app(registry),
        http=http_protocol(settings, addresses),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=1,
    )
    server = _Quiet(config)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="interlock-metrics")
    await server.listening.wait()
    try:
        yield
    finally:
        server.should_exit = True
        await running
