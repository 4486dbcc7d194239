"""Tickets as stored: by hash, for a few seconds, each usable once."""

from __future__ import annotations

from typing import Protocol

import msgspec

from interlock.machine.machine import Authority


class Ticket(msgspec.Struct, frozen=True):
    """The right to open one WebSocket for ``session_id`` at ``epoch``.

    ``ticket_hash`` is the SHA-256 of the ticket, 32 bytes; the ticket itself is never stored. ``authorised_until_ms`` is when
    the access token used to buy the ticket expires, and with it the connection. ``kid`` names the key that signed that token.
    """

    ticket_hash: bytes
    session_id: str
    epoch: int
    authorised_until_ms: int
    expires_at_ms: int
    kid: str


class TicketStore(Protocol):
    """The store of tickets. Every implementation passes the same contract suite."""

    async def add(self, ticket: Ticket, under: Authority, now_ms: int) -> None:
        """Store a ticket durably, and delete the tickets that expired before ``now_ms``.

        Raises:
            AuthorityLost: ``under`` is not valid any more; nothing was stored.
        """
        ...

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """Remove and return the ticket, even an expired one; None if it does not exist or was taken."""
        ...
