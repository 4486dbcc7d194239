"""The server in this process, on its own port: a test can cause what no client can."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from interlock.server.experience.middleware.instrumentation import InstrumentedApp
from interlock.server.experience.transport.limits import TransportLimits
from interlock.server.experience.transport.server import HttpServer

HOST: Final = "interlock.example"
"""The host in the client's URLs."""


@asynccontextmanager
async def client_of(app: InstrumentedApp) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with ``app``, until the context ends."""
    settings = app.services.settings
    server = HttpServer(app, TransportLimits(settings, app.services.addresses), fast_path=app.fast_path)
    listener = socket.create_server(("127.0.0.1", 0))
    await server.start(listener)
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, headers={"host": HOST}, timeout=60) as http:
            yield http
    finally:
        await server.close(1.0)
