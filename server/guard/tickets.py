"""Tickets: single-use secrets for WebSocket handshakes that can't carry a header."""

from __future__ import annotations

import hashlib
import secrets

from interlock.machine.errors import CredentialInvalid
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.surface.tickets import Ticket, TicketStore


class Tickets:
    """Issues and redeems tickets. Only their hashes are stored.

    ``lifetime_ms``: how long a ticket may be redeemed.
    """

    def __init__(self, store: TicketStore, clock: Clock, *, lifetime_ms: int) -> None:
        self.lifetime_ms = lifetime_ms
        self._store = store
        self._clock = clock

    async def issue(self, session: Session, authorised_until_ms: int, kid: str) -> str:
        """Return a ticket for one connection of ``session``, which may stay open until ``authorised_until_ms``.

        ``kid`` names the key of the access token that buys it: the ticket is void once that key is gone.
        """
        ticket = secrets.token_urlsafe(32)
        now_ms = self._clock.now_ms()
        await self._store.add(
            Ticket(
                _hash(ticket), session.session_id, session.epoch, authorised_until_ms, now_ms + self.lifetime_ms, kid
            ),
            authority_of(session),
            now_ms,
        )
        return ticket

    async def redeem(self, ticket: str) -> Ticket:
        """Use up ``ticket``, and return what it was issued for.

        Raises:
            CredentialInvalid: it is unknown, used up or expired.
        """
        taken = await self._store.take(_hash(ticket))
        if taken is not None and self._clock.now_ms() < taken.expires_at_ms:
            return taken
        refused = CredentialInvalid("the ticket is unknown, used up or expired")
        refused.session_id = taken.session_id if taken is not None else None
        raise refused


def _hash(ticket: str) -> bytes:
    """Return the SHA-256 that is stored. 256 random bits need no slower hash."""
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
