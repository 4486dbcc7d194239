"""The JSON representation of a session, shared by HTTP and the command line.

Times are RFC 3339 in UTC with milliseconds; internally they are integer milliseconds.
"""

from __future__ import annotations

import msgspec

from interlock.machine.session.session import Session
from interlock.machine.times import rfc3339


class SessionView(msgspec.Struct, frozen=True):
    """A session as its owner sees it. ``expires_at`` is the absolute deadline; ``connections`` counts live sockets."""

    session_id: str
    state: str
    version: int
    subject: str | None
    connections: int
    created_at: str
    idle_expires_at: str
    expires_at: str
    reason: str | None


def session_view(session: Session) -> SessionView:
    """Return ``session`` (at version 1 or later) as its owner sees it."""
    return SessionView(
        session_id=session.session_id,
        state=session.state or "",
        version=session.version,
        subject=session.subject,
        connections=len(session.connections),
        created_at=rfc3339(session.created_at_ms),
        idle_expires_at=rfc3339(session.idle_deadline_ms),
        expires_at=rfc3339(session.absolute_deadline_ms),
        reason=session.reason,
    )
