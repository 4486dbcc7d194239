"""Tickets as they are stored: by hash, for a few seconds, each to be taken once."""

from __future__ import annotations

from typing import Protocol

import msgspec

from interlock.machine.machine import Authority
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.log import ensure_holds
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.writer import Writer, raise_again


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


class SqliteTickets:
    """:class:`TicketStore` in the log's own file."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, ticket: Ticket, now_ms: int) -> None:
        """See :meth:`TicketStore.add`."""

        def run(connection: Connection) -> None:
            ensure_holds(connection, Authority("session", ticket.session_id, ticket.epoch), now_ms)
            connection.execute("DELETE FROM tickets WHERE expires_at_ms <= ?", (now_ms,))
            connection.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(ticket))

        await self._writer.submit(run, raise_again, grows=True)

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """See :meth:`TicketStore.take`. A made-up ticket costs a read and never reaches the writer."""
        if not await self._reader.rows("SELECT 1 FROM tickets WHERE ticket_hash = ?", ticket_hash):
            return None

        def run(connection: Connection) -> Ticket | None:
            rows = connection.execute(
                "DELETE FROM tickets WHERE ticket_hash = ? RETURNING *", (ticket_hash,)
            ).fetchall()
            return Ticket(*rows[0]) if rows else None

        return await self._writer.submit(run, raise_again)
