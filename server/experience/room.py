"""Room for one more connection: of its session, and of its account. Policy: refuse it, or displace the oldest.

The cap of the server as a whole always refuses: otherwise whoever opens many connections would throw out everybody else's.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from interlock.machine.closing import Close
from interlock.machine.errors import TooManyConnections, TransitionRefused
from interlock.machine.ledger import Receipt
from interlock.machine.session.commands import Connect, Disconnect
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session, ensure_alive
from interlock.server.runtime.door import commands
from interlock.server.services import Services

_DISPLACED: Final = Close("displaced").code
_TRIES: Final = 8


async def make_room(services: Services, subject: str) -> None:
    """See to it that the account ``subject`` may hold one more connection. Nothing waits after the last look.

    Raises:
        TooManyConnections: it holds as many as it may, and the policy is to refuse, or all of them are still arriving.
    """
    connections, settings = services.connections, services.settings
    while connections.of_account(subject) >= settings.connections_per_account:
        oldest = connections.give_up_oldest(subject) if settings.connections_policy == "displace" else None
        if oldest is None:
            raise TooManyConnections("the account holds as many connections as it may")
        # If it is just leaving by itself, so much the better.
        with suppress(TransitionRefused):
            await services.sessions.submit(oldest.session_id, *commands("server", _displace(services, *oldest)))


async def record_connect(services: Services, session: Session, connection_id: str) -> Receipt:
    """Record that ``session`` holds the connection, and in the same durable batch, if need be, that its oldest is displaced.

    Raises:
        SessionEnded, TokenExpired: it was good when it was proved, and no more when the connect was decided.
        TransitionRefused: it holds as many connections as it may, and the policy is to refuse.
    """
    settings = services.settings
    actor = session.subject or "anonymous"
    connect = Connect(connection_id, settings.node)
    asked = commands(actor, connect)
    for attempt in range(_TRIES):
        try:
            outcome = await services.sessions.submit(session.session_id, *asked, under=authority_of(session))
        except TransitionRefused as refused:
            now = await services.sessions.load(session.session_id)
            ensure_alive(now, services.clock.now_ms())
            full = refused.guard == "below_connection_limit"
            # Or the oldest has left by itself, or somebody else has taken its place: then look again.
            if (
                settings.connections_policy != "displace"
                or attempt == _TRIES - 1
                or not (full or refused.event == "disconnect")
            ):
                raise
            displaced = []
            if len(now.connections) >= now.policy.connection_limit:
                displaced = [_displace(services, session.session_id, now.connections[0].connection_id)]
            asked = commands(actor, *displaced, connect)
        else:
            return outcome.records[-1].receipt
    raise AssertionError  # pragma: no cover  # the last try returns or raises


def _displace(services: Services, session_id: str, connection_id: str) -> Disconnect:
    """Close the socket of a connection, and return what records it. A socket ends before the log says that it is gone."""
    services.connections.close(session_id, connection_id, Close("displaced"))
    return Disconnect(connection_id, _DISPLACED)
