"""The transition log in one SQLite file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Final

from interlock.machine.commands import Disconnect
from interlock.machine.errors import Overloaded, RecordRefused, SessionEnded, SurfaceFailed, VersionConflict
from interlock.machine.ledger import GENESIS, HEAD_LAG, Receipt, Record, chain, parse
from interlock.machine.session import Session
from interlock.server.surface.log import Along, Step
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Lookup, Reader
from interlock.server.surface.sqlite.rows import (
    SESSION_COLUMNS,
    STEP_WIDTH,
    TRANSITION_COLUMNS,
    insert_steps,
    session_from,
    step_values,
    stored_row,
)
from interlock.server.surface.sqlite.writer import Writer

_LAST: Final = "SELECT position, digest FROM transitions ORDER BY position DESC LIMIT 1"
_BY_COMMAND: Final = (
    f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE session_id = ? AND version >= "  # noqa: S608  # column names of ours
    "(SELECT version FROM transitions WHERE session_id = ?1 AND command_id = ?2) ORDER BY version LIMIT ?3"
)
HISTORY: Final = (
    f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE session_id = ? AND version > ? ORDER BY version LIMIT ?"  # noqa: S608  # column names of ours
)
_AFTER: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608  # column names of ours
_NEWEST: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions ORDER BY position DESC LIMIT 1"  # noqa: S608  # column names of ours
LATEST_AT: Final = "SELECT at_ms FROM transitions ORDER BY position DESC LIMIT 1"
SESSION: Final = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE session_id = ?"  # noqa: S608  # column names of ours
_SESSIONS: Final = Lookup("sessions", SESSION_COLUMNS, "session_id", session_from)
_CONNECTED: Final = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE connections <> '[]'"  # noqa: S608  # column names of ours
_LIVE: Final = "SELECT min(idle_deadline_ms, absolute_deadline_ms), session_id FROM sessions WHERE reason IS NULL"

_STEPS_AT_ONCE: Final = 64
"""Rows in one statement. Each number of rows has a statement of its own, which is prepared once."""

_STATES: Final = "SELECT state, count(*) FROM sessions WHERE reason IS NULL GROUP BY state"


class ChainHead:
    """Position and digest of the last record, as the writer's thread knows it: nobody else writes records."""

    __slots__ = ("_before", "_connection", "digest", "position")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.position, self.digest = self._before = self._last()

    def begun(self) -> None:
        """Compare the last record of the database with the one that was written last. Call it as a transaction begins.

        Raises:
            SurfaceFailed: another program has written to the log. What went on from there would sign it.
        """
        self._before = self.position, self.digest
        last = self._last()
        if last != self._before:
            raise SurfaceFailed(
                f"the log ends at record {last[0]}, and the last that this server wrote is {self.position}: something"
                " other than the server has changed it"
            )

    def undone(self) -> None:
        """Take back what was undone: of the open transaction a part, or all of the one before."""
        self.position, self.digest = self._last() if self._connection.in_transaction else self._before

    def _last(self) -> tuple[int, bytes]:
        return self._connection.execute(_LAST).fetchone() or (0, GENESIS)

    @property
    def receipt(self) -> Receipt:
        """That of the last record; EMPTY in an empty log."""
        return Receipt(self.position, self.digest.hex())


_HEAD_WAIT_S: Final = 5.0


class HeadLag:
    """Keeps the log from running further ahead of its signed head than ``HEAD_LAG`` records.

    A start takes more than that for records that somebody else added, so the writer must never cause it, even when the disk
    with the head is slow. The last quarter is kept for what ends: nobody has to stay logged in because a head can't be
    written. Without a head on disk nothing is held back.
    """

    def __init__(self) -> None:
        self._signed: int | None = None
        self._moved = threading.Condition()
        self._stuck = False

    def signed(self, position: int) -> None:
        """A head for ``position`` is on disk."""
        with self._moved:
            self._signed, self._stuck = position, False
            self._moved.notify_all()

    def check(self, position: int, *, grows: bool) -> None:
        """Wait until the log may go on up to ``position``; ``grows`` as for the writer. Call it in the writer's thread.

        Raises:
            Overloaded: the head did not follow.
        """
        with self._moved:
            most = HEAD_LAG * 3 // 4 if grows else HEAD_LAG
            within = self._moved.wait_for(lambda: self._lag(position) <= most, 0 if self._stuck else _HEAD_WAIT_S)
            self._stuck = self._stuck or not within
        if not within:
            raise Overloaded

    def _lag(self, position: int) -> int:
        return 0 if self._signed is None else position - self._signed


class SqliteLog:
    """:class:`interlock.server.surface.log.TransitionLog` over one writer and one reader of the same file."""

    def __init__(self, writer: Writer, reader: Reader, head: ChainHead, lag: HeadLag) -> None:
        self._writer = writer
        self._reader = reader
        self._head = head
        self._lag = lag

    @property
    def failure(self) -> str | None:
        """Why the surface has stopped acknowledging, or None while it works."""
        return self._writer.failure

    def append(self, steps: Sequence[Step]) -> asyncio.Future[list[Record]]:
        """See :meth:`interlock.server.surface.log.TransitionLog.append`."""
        return self._writer.submit_with_others(
            self._write,
            steps,
            lambda connection, error: self._explain(connection, error, steps),
            grows=_grows(steps),
        )

    def lives(self, session_id: str) -> Along:
        """See :meth:`interlock.server.surface.log.TransitionLog.lives`."""

        def run(connection: Connection) -> None:
            row = connection.execute("SELECT reason FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
            if row is None or row[0] is not None:
                raise SessionEnded(row[0] if row else "")

        return run

    async def load(self, session_id: str) -> Session | None:
        """See :meth:`interlock.server.surface.log.TransitionLog.load`."""
        return await self._reader.find(_SESSIONS, session_id)

    async def history(self, session_id: str, after_version: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.history`."""
        return [parse(stored_row(row)) for row in await self._reader.rows(HISTORY, session_id, after_version, limit)]

    async def after(self, position: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.after`."""
        return [parse(stored_row(row)) for row in await self._reader.rows(_AFTER, position, limit)]

    async def live_deadlines(self) -> list[tuple[int, str]]:
        """See :meth:`interlock.server.surface.log.TransitionLog.live_deadlines`."""
        return [(deadline_ms, session_id) for deadline_ms, session_id in await self._reader.rows(_LIVE)]

    async def live_states(self) -> dict[str, int]:
        """See :meth:`interlock.server.surface.log.TransitionLog.live_states`."""
        return dict(await self._reader.rows(_STATES))

    async def connected_on(self, node: str) -> list[Session]:
        """See :meth:`interlock.server.surface.log.TransitionLog.connected_on`."""
        sessions = [session_from(row) for row in await self._reader.rows(_CONNECTED)]
        return [session for session in sessions if any(c.node == node for c in session.connections)]

    async def nodes(self) -> set[str]:
        """See :meth:`interlock.server.surface.log.TransitionLog.nodes`."""
        sessions = [session_from(row) for row in await self._reader.rows(_CONNECTED)]
        return {connection.node for session in sessions for connection in session.connections}

    async def latest_at_ms(self) -> int:
        """See :meth:`interlock.server.surface.log.TransitionLog.latest_at_ms`."""
        rows = await self._reader.rows(LATEST_AT)
        return int(rows[0][0]) if rows else 0

    async def newest(self) -> Record | None:
        """See :meth:`interlock.server.surface.log.TransitionLog.newest`."""
        rows = await self._reader.rows(_NEWEST)
        return parse(stored_row(rows[0])) if rows else None

    def _write(self, connection: Connection, appends: Sequence[Sequence[Step]]) -> list[list[Record]]:
        """Append the steps of several callers, in order; the records of each."""
        position, digest = self._head.position, self._head.digest
        outcomes: list[list[Record]] = []
        values: list[Any] = []
        for steps in appends:
            records = []
            for step in steps:
                if step.along is not None:
                    # It may ask what the appends before it have changed.
                    _insert(connection, values)
                    values.clear()
                    step.along(connection)
                row = chain(digest, position + 1, step.transition)
                position, digest = row.position, row.digest
                values += step_values(row, step.session)
                records.append(Record(position, step.transition, digest))
            outcomes.append(records)
        self._lag.check(position, grows=any(map(_grows, appends)))
        _insert(connection, values)
        self._head.position, self._head.digest = position, digest
        return outcomes

    def _explain(self, connection: Connection, error: Exception, steps: Sequence[Step]) -> list[Record]:
        first = steps[0].transition
        repeated = connection.execute(_BY_COMMAND, (first.session_id, first.command_id, len(steps))).fetchall()
        if repeated:
            return [parse(stored_row(row)) for row in repeated]
        row = connection.execute("SELECT version FROM sessions WHERE session_id = ?", (first.session_id,)).fetchone()
        if (row[0] if row else 0) != first.version - 1:
            raise VersionConflict(first.session_id, first.version)
        raise RecordRefused(str(error))


def _insert(connection: Connection, values: Sequence[Any]) -> None:
    for first in range(0, len(values), _STEPS_AT_ONCE * STEP_WIDTH):
        part = values[first : first + _STEPS_AT_ONCE * STEP_WIDTH]
        connection.execute(insert_steps(len(part) // STEP_WIDTH), part)


def _grows(steps: Sequence[Step]) -> bool:
    """Whether some of ``steps`` is neither an end nor a disconnect."""
    return not all(step.session.ended or isinstance(step.transition.data, Disconnect) for step in steps)
