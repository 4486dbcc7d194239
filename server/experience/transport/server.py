"""A listening socket whose connections speak HTTP/1.1 and WebSocket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from interlock.server.experience.transport.heartbeat import Heartbeat
from interlock.server.experience.transport.http import FastPath, HttpConnection, PortState
from interlock.server.experience.transport.limits import TransportLimits
from interlock.server.system.loop_turns import LoopTurns

_BACKLOG: Final = 2048
_ACCEPTS: Final = 4
"""Connections accepted per turn of the event loop."""

_UNSENT_BYTES: Final = 16 * 1024
"""Approximate limit of unsent data in the kernel for a client that does not read. Data in flight does not count."""


def _nothing(_: object) -> None:
    return None


class HttpServer:
    """Serves the ASGI application ``app`` on one port.

    ``fast_path``, if given, answers what it can without waiting, before a task is created. ``on_pong`` is called with the
    seconds from each WebSocket's ping to its pong.
    """

    def __init__(
        self,
        app: Any,
        limits: TransportLimits,
        *,
        fast_path: FastPath = _nothing,
        on_pong: Callable[[float], None] = _nothing,
    ) -> None:
        settings = limits.settings
        heartbeat = Heartbeat(settings.ping_interval_s, settings.ping_timeout_s, on_pong)
        self._port = PortState(app, fast_path, limits, heartbeat, LoopTurns(), LoopTurns(), set(), set())
        self._servers: list[asyncio.Server] = []

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on ``listener``, which is bound."""
        loop = asyncio.get_running_loop()
        is_unix = listener.family == socket.AF_UNIX
        if not is_unix:
            # Accepted sockets inherit it. Otherwise the kernel takes megabytes, and keeps them after the connection was cut.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        create_server = loop.create_unix_server if is_unix else loop.create_server
        # libuv accepts one connection per turn and listener: without duplicates, the last of a burst would wait hundreds of
        # turns.
        for each in (listener, *(listener.dup() for _ in range(_ACCEPTS - 1))):
            server = await create_server(lambda: HttpConnection(self._port), sock=each, backlog=_BACKLOG)
            self._servers.append(server)

    def stop_accepting(self) -> None:
        """Accept no more connections."""
        for server in self._servers:
            server.close()

    async def close(self, grace_s: float) -> None:
        """Close all HTTP connections: idle ones now, others after their answer or ``grace_s``.

        Closed WebSockets have the same time for their closing handshake.
        """
        self.stop_accepting()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        for connection in list(self._port.connections):
            connection.drain_down()
        while self._port.limits.open and loop.time() < deadline:  # noqa: ASYNC110  # once in a life
            await asyncio.sleep(0.01)
        for slot in list(self._port.limits.open):
            slot.transport.abort()
        tasks = list(self._port.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
