"""Limits on connections: of the server, an account and a session. One more is refused or displaces the oldest.

The server's own limit always refuses. Otherwise a client that opens many connections would displace those of all others.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from interlock.machine.closing import Close
from interlock.machine.errors import Overloaded, TooManyConnections, TransitionRefused
from interlock.machine.session.commands import Connect, Disconnect
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session, ensure_alive
from interlock.server.clock import Clock
from interlock.server.runtime.authenticator import Authentication, Authenticator
from interlock.server.runtime.connections import ConnectionListener, Connections
from interlock.server.runtime.door import commands
from interlock.server.runtime.sessions import Sessions
from interlock.server.settings import Settings

_DISPLACED: Final = Close("displaced").code
_TRIES: Final = 8


class ConnectionLimits:
    """Admits connections. ``settings`` contains the limits and whether one more displaces the oldest."""

    def __init__(
        self,
        sessions: Sessions,
        authenticator: Authenticator,
        connections: Connections,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._sessions = sessions
        self._authenticator = authenticator
        self._connections = connections
        self._clock = clock
        self._settings = settings

    def ensure_capacity(self) -> None:
        """Check that the server may hold one more connection.

        Raises:
            Overloaded: the server has reached its limit.
        """
        if len(self._connections) >= self._settings.connections_total:
            raise Overloaded

    async def admit(self, found: Authentication, connection_id: str, port: ConnectionListener) -> None:
        """Make room for a connection that authenticated as ``found``, register its ``port``, then record it.

        Raises:
            Overloaded: the server has reached its limit.
            CredentialInvalid, SessionEnded, TokenExpired: ``found`` lost its validity after it was authenticated.
            TooManyConnections, TransitionRefused: the account or the session has reached its limit.
        """
        session, subject = found.session, found.session.subject or ""
        if session.subject is not None:
            # A session without a subject may not connect; the append says so.
            await self._make_capacity(session.subject)
        self.ensure_capacity()
        with self._connections.arriving(session.session_id, connection_id, port, subject):
            await self._authenticator.ensure_key_and_account(found)
            await self._record(session, connection_id)
            # Spread the answers to connects that were committed together over several turns of the event loop.
            await self._connections.turns.wait()

    async def _make_capacity(self, subject: str) -> None:
        """Ensure that the account ``subject`` may hold one more connection. The caller counts it without an await.

        Raises:
            TooManyConnections: the account has reached its limit, and the policy is to refuse or all are still arriving.
        """
        connections, settings = self._connections, self._settings
        while connections.of_account(subject) >= settings.connections_per_account:
            oldest = connections.evict_oldest(subject) if settings.connections_policy == "displace" else None
            if oldest is None:
                raise TooManyConnections("the account holds as many connections as it may")
            # A refusal means that it has just disconnected by itself.
            with suppress(TransitionRefused):
                await self._sessions.submit(oldest.session_id, *commands("server", self._displace(*oldest)))

    async def _record(self, session: Session, connection_id: str) -> None:
        """Record the connection of ``session``. If necessary, the same durable batch records that its oldest one is displaced.

        Raises:
            SessionEnded, TokenExpired: the session lost its validity after it was authenticated.
            TransitionRefused: the session has reached its limit, and the policy is to refuse.
        """
        actor = session.subject or "anonymous"
        connect = Connect(connection_id, self._settings.node)
        asked = commands(actor, connect)
        for attempt in range(_TRIES):
            try:
                await self._sessions.submit(session.session_id, *asked, under=authority_of(session))
            except TransitionRefused as refused:
                now = await self._sessions.load(session.session_id)
                ensure_alive(now, self._clock.now_ms())
                full = refused.guard == "below_connection_limit"
                # The oldest may have left by itself, or another connection may have taken its place: then try again.
                if (
                    self._settings.connections_policy != "displace"
                    or attempt == _TRIES - 1
                    or not (full or refused.event == "disconnect")
                ):
                    raise
                displaced = []
                if len(now.connections) >= now.policy.connection_limit:
                    displaced = [self._displace(session.session_id, now.connections[0].connection_id)]
                asked = commands(actor, *displaced, connect)
            else:
                return

    def _displace(self, session_id: str, connection_id: str) -> Disconnect:
        """Close a connection's socket and return the command that records it. The socket closes before the log says so."""
        self._connections.close(session_id, connection_id, Close("displaced"))
        return Disconnect(connection_id, _DISPLACED)
