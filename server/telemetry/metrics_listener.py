"""The application on the metrics' own port, which clients need not reach (ASVS 13.4.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_PATH: Final = "/metrics"
_OPEN_METRICS: Final = "application/openmetrics-text"


def metrics_app(registry: CollectorRegistry) -> Callable[[Any, Any, Any], Any]:
    """Return an ASGI application that answers ``GET /metrics``, 400 with a query, and 404 anywhere else."""
    making: dict[str, asyncio.Task[bytes]] = {}

    def text(accept: str) -> tuple[asyncio.Task[bytes], str]:
        """Return the task that encodes the metrics, and their content type. Concurrent requests share one per type."""
        # Only the name: the library trusts the client's version parameter, and fails if it is invalid.
        encode, content_type = choose_encoder(_OPEN_METRICS if _OPEN_METRICS in accept else "")
        if content_type not in making:
            # In a thread: encoding some hundred series takes a millisecond or two.
            making[content_type] = asyncio.create_task(asyncio.to_thread(encode, registry))
            making[content_type].add_done_callback(lambda _: making.pop(content_type))
        return making[content_type], content_type

    async def answer(scope: Any, _receive: Any, send: Any) -> None:
        status, content_type, body = 404, "text/plain; charset=utf-8", b"metrics are at /metrics\n"
        if scope["path"] == _PATH and scope["method"] in {"GET", "HEAD"}:
            accept = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"accept"), "")
            if scope["query_string"]:
                status, body = 400, b"metrics take no query parameters\n"
            else:
                shared, content_type = text(accept)
                status, body = 200, await asyncio.shield(shared)
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
