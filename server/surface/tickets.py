"""Tickets as they are stored: by hash, for a few seconds, each to be taken once."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Ticket(msgspec.Struct, frozen=True):
    """The right to open one WebSocket for ``session_id`` at ``epoch``.

    ``ticket_hash`` is the SHA-256 of the ticket, 32 bytes; the ticket itself is never stored. ``authorised_until_ms`` is
    when the access token it was bought with expires, and with it the connection. ``kid`` names the key that signed that
    token.
    """

    ticket_hash: bytes
    session_id: str
    epoch: int
    authorised_until_ms: int
    expires_at_ms: int
    kid: str


class TicketStore(Protocol):
    """Where tickets are kept. Every implementation passes the same contract suite."""

    async def add(self, ticket: Ticket, now_ms: int) -> None:
        """Store a ticket durably, and forget those that expired before ``now_ms``.

        Raises:
            AuthorityLost: its session has ended, or is not at its epoch any more; nothing was stored.
        """
        ...

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """Remove and return the ticket, also an expired one; None when there is none, or it was taken."""
        ...
