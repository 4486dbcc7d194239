"""How many connections there may be: of the server, of an account, of a session. One more is refused, or displaces the oldest.

The cap of the server as a whole always refuses: otherwise whoever opens many connections would throw out everybody else's.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from interlock.machine.closing import Close
from interlock.machine.errors import Overloaded, TooManyConnections, TransitionRefused
from interlock.machine.ledger import Receipt
from interlock.machine.session.commands import Connect, Disconnect
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session, ensure_alive
from interlock.server.clock import Clock
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.door import commands
from interlock.server.runtime.sessions import Sessions
from interlock.server.settings import Settings

_DISPLACED: Final = Close("displaced").code
_TRIES: Final = 8


class ConnectionLimits:
    """Admits connections. ``settings`` say how many, and whether one more displaces the oldest."""

    def __init__(self, sessions: Sessions, connections: Connections, clock: Clock, settings: Settings) -> None:
        self._sessions = sessions
        self._connections = connections
        self._clock = clock
        self._settings = settings

    def ensure_room(self) -> None:
        """Check that the server may hold one more connection.

        Raises:
            Overloaded: it may not.
        """
        if len(self._connections) >= self._settings.connections_total:
            raise Overloaded

    async def admit(self, session: Session, connection_id: str) -> Receipt:
        """Make room for a connection of ``session`` and record it. The caller registers it without waiting in between.

        Raises:
            SessionEnded, TokenExpired: the session was good when it was authenticated, and no more when this was decided.
            TooManyConnections, TransitionRefused: the account or the session holds as many as it may.
        """
        subject = session.subject or ""
        await self._make_room(subject)
        with self._connections.arriving(subject):
            receipt = await self._record(session, connection_id)
            # What was committed together is answered in turns.
            await self._connections.steps.wait()
            return receipt

    async def _make_room(self, subject: str) -> None:
        """See to it that the account ``subject`` may hold one more connection. Nothing waits after the last look.

        Raises:
            TooManyConnections: it holds as many as it may, and the policy is to refuse, or all of them are still arriving.
        """
        connections, settings = self._connections, self._settings
        while connections.of_account(subject) >= settings.connections_per_account:
            oldest = connections.give_up_oldest(subject) if settings.connections_policy == "displace" else None
            if oldest is None:
                raise TooManyConnections("the account holds as many connections as it may")
            # If it is just leaving by itself, so much the better.
            with suppress(TransitionRefused):
                await self._sessions.submit(oldest.session_id, *commands("server", self._displace(*oldest)))

    async def _record(self, session: Session, connection_id: str) -> Receipt:
        """Record that ``session`` holds the connection; in the same durable batch, if need be, that its oldest is displaced.

        Raises:
            SessionEnded, TokenExpired: it was good when it was authenticated, and no more when the connect was decided.
            TransitionRefused: it holds as many connections as it may, and the policy is to refuse.
        """
        actor = session.subject or "anonymous"
        connect = Connect(connection_id, self._settings.node)
        asked = commands(actor, connect)
        for attempt in range(_TRIES):
            try:
                outcome = await self._sessions.submit(session.session_id, *asked, under=authority_of(session))
            except TransitionRefused as refused:
                now = await self._sessions.load(session.session_id)
                ensure_alive(now, self._clock.now_ms())
                full = refused.guard == "below_connection_limit"
                # Or the oldest has left by itself, or somebody else has taken its place: then look again.
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
                return outcome.records[-1].receipt
        raise AssertionError  # pragma: no cover  # the last try returns or raises

    def _displace(self, session_id: str, connection_id: str) -> Disconnect:
        """Close the socket of a connection, and return what records it. A socket ends before the log says that it is gone."""
        self._connections.close(session_id, connection_id, Close("displaced"))
        return Disconnect(connection_id, _DISPLACED)
