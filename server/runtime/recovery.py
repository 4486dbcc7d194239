"""What a start has to put right: connections that a dead process of this node left behind in the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from machine.commands import Disconnect
from machine.errors import TransitionRefused
from server.runtime.sessions import Sessions, commands
from server.surface.log import TransitionLog

_ABNORMAL = 1006
"""RFC 6455, 7.4.1: closed without a close frame."""


async def disconnect_orphans(log: TransitionLog, sessions: Sessions, node: str, *, at_once: int = 1024) -> int:
    """Record the disconnect of every connection that ``node`` opened and no longer holds; return how many.

    Call it before this process accepts its first connection. ``at_once``: how many writes the log takes together.
    """

    async def disconnect(session_id: str, connection_id: str) -> None:
        # A session that is overdue or ended has no use for it.
        with suppress(TransitionRefused):
            await sessions.submit(session_id, *commands("server", Disconnect(connection_id, _ABNORMAL)))

    orphans = [
        (session.session_id, connection.connection_id)
        for session in await log.connected_on(node)
        for connection in session.connections
        if connection.node == node
    ]
    for start in range(0, len(orphans), at_once):
        await asyncio.gather(*(disconnect(*orphan) for orphan in orphans[start : start + at_once]))
    return len(orphans)
