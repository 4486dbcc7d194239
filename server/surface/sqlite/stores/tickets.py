"""Tickets in the log's database file."""

from __future__ import annotations

import msgspec

from interlock.machine.machine import Authority
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.log import ensure_authorised
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.writer import Writer, reraise
from interlock.server.surface.tickets import Ticket


class SqliteTickets:
    """:class:`TicketStore` in the log's database file."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, ticket: Ticket, under: Authority, now_ms: int) -> None:
        """See :meth:`TicketStore.add`."""

        def run(connection: Connection) -> None:
            for each in under.all():
                ensure_authorised(connection, each, now_ms)
            connection.execute("DELETE FROM tickets WHERE expires_at_ms <= ?", (now_ms,))
            connection.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(ticket))

        await self._writer.submit(run, reraise, grows=True)

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """See :meth:`TicketStore.take`. An invented ticket costs one read and never reaches the writer."""
        if not await self._reader.rows("SELECT 1 FROM tickets WHERE ticket_hash = ?", ticket_hash):
            return None

        def run(connection: Connection) -> Ticket | None:
            rows = connection.execute(
                "DELETE FROM tickets WHERE ticket_hash = ? RETURNING *", (ticket_hash,)
            ).fetchall()
            return Ticket(*rows[0]) if rows else None

        return await self._writer.submit(run, reraise)
