"""A listening socket whose connections speak HTTP/1.1 and WebSocket."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from interlock.server.experience.transport.heartbeat import Heartbeat
from interlock.server.experience.transport.http import FastPath, HttpConnection, PortState
from interlock.server.experience.transport.limits import ConnectionLimits
from interlock.server.system.loop_turns import LoopTurns

_BACKLOG: Final = 2048
_ACCEPTS: Final = 4
"""How many connections are accepted in one turn of the event loop."""

_UNSENT_BYTES: Final = 16 * 1024
"""How much the kernel takes for a client that does not read, about. What is on its way to one that reads does not count."""


def _nothing(_scope: dict[str, Any]) -> None:
    return None


class HttpServer:
    """Answers with the ASGI application ``app`` on one port.

    ``fast_path``, if given, answers what it can without waiting for anything, before a task is made for it.
    """

    def __init__(self, app: Any, limits: ConnectionLimits, *, fast_path: FastPath = _nothing) -> None:
        settings = limits.settings
        heartbeat = Heartbeat(settings.ping_interval_s, settings.ping_timeout_s)
        self._port = PortState(app, fast_path, limits, heartbeat, LoopTurns(), LoopTurns(), set(), set())
        self._servers: list[asyncio.Server] = []

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on ``listener``, which is bound."""
        loop = asyncio.get_running_loop()
        # Accepted sockets inherit it. The kernel takes megabytes otherwise, and keeps them after the connection was cut.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        # libuv accepts one connection a turn and listener; of a burst, the last would wait for hundreds of turns of the others.
        for each in (listener, *(listener.dup() for _ in range(_ACCEPTS - 1))):
            server = await loop.create_server(lambda: HttpConnection(self._port), sock=each, backlog=_BACKLOG)
            self._servers.append(server)

    def stop_accepting(self) -> None:
        """Accept no more connections."""
        for server in self._servers:
            server.close()

    async def close(self, grace_s: float) -> None:
        """End every connection that is not a WebSocket: idle ones now, the others after their answer or ``grace_s``.

        WebSockets that were closed have as long for their end.
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
