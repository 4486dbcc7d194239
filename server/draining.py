"""The end of a server that stops: it accepts nothing more, lets executions end, and closes its WebSockets in turn."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Final

from interlock.machine.closing import Close
from interlock.server.experience.transport.server import HttpServer
from interlock.server.services import Services

_LOOK_S: Final = 0.02
_CLOSES_PER_S: Final = 1000
"""How many clients at most reconnect in the same second, unless the time does not suffice."""
_SHARE: Final = 0.8
"""The part of the time after which all WebSockets are closed. In the rest their disconnects are recorded."""


async def drain(server: HttpServer, services: Services, grace_s: float) -> None:
    """Stop accepting work, close the WebSockets with 1001, and wait until their disconnects and running executions end.

    An execution that still runs after ``grace_s`` is left to the next start.
    """
    services.draining = True
    server.stop_accepting()
    services.runner.drain()
    services.tail.wake()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    await _close_sockets(services, loop.time() + grace_s * _SHARE)
    while (len(services.connections) or services.tasks or services.runner.busy) and loop.time() < deadline:  # noqa: ASYNC110  # runs once, at the stop
        await asyncio.sleep(_LOOK_S)
    await server.close(max(0.0, deadline - loop.time()))


async def _close_sockets(services: Services, until: float) -> None:
    """Close every WebSocket before ``until``. Those whose session has a running execution are last, and get its outcome."""
    loop = asyncio.get_running_loop()
    waiting = deque(services.connections.held())
    seconds = min(len(waiting) / _CLOSES_PER_S, max(_LOOK_S, until - loop.time()))
    each_time = math.ceil(len(waiting) * _LOOK_S / seconds) if waiting else 0
    busy = []
    while waiting:
        for session_id, connection_id in [waiting.popleft() for _ in range(min(each_time, len(waiting)))]:
            if services.streams.expects_outcome(session_id):
                busy.append((session_id, connection_id))
            else:
                services.connections.close(session_id, connection_id, Close("draining"))
        if waiting:
            await asyncio.sleep(_LOOK_S)
    while busy and loop.time() < until:
        await asyncio.sleep(_LOOK_S)
        for each in [each for each in busy if not services.streams.expects_outcome(each[0])]:
            busy.remove(each)
            services.connections.close(*each, Close("draining"))
    services.connections.close_all(Close("draining"))
