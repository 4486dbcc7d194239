"""The transition log in one SQLite file."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from interlock.machine.errors import AuthorityLost, Overloaded, RecordRefused, SurfaceFailed, VersionConflict
from interlock.machine.ledger import GENESIS, HEAD_LAG, Receipt, Record, chain, chained, parse, row_digest
from interlock.machine.machine import Authority, InstanceT, Machine, Machines
from interlock.server.surface.log import Followed, Follower, RecordFilter, Step, Tally, of_others
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Lookup, Reader
from interlock.server.surface.sqlite.rows import (
    INSTANCE_COLUMNS,
    STEP_WIDTH,
    TRANSITION_COLUMNS,
    insert_steps,
    instance_from,
    reading,
    step_values,
    stored_row,
)
from interlock.server.surface.sqlite.writer import Unit, Writer

_LAST: Final = "SELECT position, digest FROM transitions ORDER BY position DESC LIMIT 1"
_BY_COMMAND: Final = (
    f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE (kind, instance_id) = (?, ?) AND version >= "  # noqa: S608  # column names of ours
    "(SELECT version FROM transitions WHERE (kind, instance_id) = (?1, ?2) AND command_id = ?3) ORDER BY version LIMIT ?4"
)
HISTORY: Final = (
    f"SELECT {TRANSITION_COLUMNS} FROM transitions"  # noqa: S608  # column names of ours
    " WHERE (kind, instance_id) = (?, ?) AND version > ? ORDER BY version LIMIT ?"
)
_AFTER: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608  # column names of ours
_AUDIT: Final = (
    f"SELECT {TRANSITION_COLUMNS} FROM transitions"  # noqa: S608  # column names of ours
    " WHERE actor GLOB 'admin:*' AND position > ? ORDER BY position LIMIT ?"
)
_LATEST: Final = (
    f"SELECT {TRANSITION_COLUMNS} FROM transitions WHERE position < ? AND position > ?"  # noqa: S608  # column names of ours
    " AND kind = coalesce(?, kind) AND event = coalesce(?, event) AND coalesce(source, '') = coalesce(?, source, '')"
    " AND target = coalesce(?, target) AND actor = coalesce(?, actor) ORDER BY position DESC LIMIT ?"
)
_TALLY: Final = (
    "SELECT kind, event, source, target, count(*) FROM transitions WHERE position > ? AND position <= ?"
    " GROUP BY kind, event, source, target"
)
_NEWEST: Final = f"SELECT {TRANSITION_COLUMNS} FROM transitions ORDER BY position DESC LIMIT 1"  # noqa: S608  # column names of ours
LATEST_AT: Final = "SELECT at_ms FROM transitions ORDER BY position DESC LIMIT 1"
INSTANCE: Final = f"SELECT {INSTANCE_COLUMNS} FROM instances WHERE (kind, instance_id) = (?, ?)"  # noqa: S608  # column names of ours
_BUSY: Final = f"SELECT {INSTANCE_COLUMNS} FROM instances WHERE kind = ? AND busy = 1"  # noqa: S608  # column names of ours
_LIVE: Final = "SELECT deadline_ms, instance_id FROM instances WHERE kind = ? AND ended = 0 AND deadline_ms IS NOT NULL"

_AUTHORISED: Final = (
    "SELECT 1 FROM instances WHERE (kind, instance_id, ended) = (?, ?, 0) AND epoch = coalesce(?, epoch)"
    " AND coalesce(deadline_ms > ?, true)"
)
_VERSION: Final = "SELECT version FROM instances WHERE (kind, instance_id) = (?, ?)"

_STEPS_AT_ONCE: Final = 64
"""The maximum number of rows in one statement. Each number of rows has its own statement, prepared once."""

_PAGE: Final = 1024
"""How many records a follower that is behind gets at once."""

_STATES: Final = "SELECT kind, state, count(*) FROM instances WHERE ended = 0 GROUP BY kind, state"


class ChainHead:
    """Position and digest of the last record, as known to the writer's thread, which alone writes records."""

    __slots__ = ("_before", "_connection", "digest", "position")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.position, self.digest = self._before = self._last()

    def begun(self) -> None:
        """Check that the last record in the database is the last one written. Call it when a transaction begins.

        Raises:
            SurfaceFailed: another program has written to the log. Continuing from there would sign its records.
        """
        self._before = self.position, self.digest
        last = self._last()
        if last != self._before:
            raise SurfaceFailed(
                f"the log ends at record {last[0]}, and the last that this server wrote is {self.position}: something"
                " other than the server has changed it"
            )

    def undone(self) -> None:
        """Return to the last record that is left after a rollback of part of the open transaction, or of all of it."""
        self.position, self.digest = self._last() if self._connection.in_transaction else self._before

    def _last(self) -> tuple[int, bytes]:
        return self._connection.execute(_LAST).fetchone() or (0, GENESIS)

    @property
    def receipt(self) -> Receipt:
        """The receipt of the last record; EMPTY in an empty log."""
        return Receipt(self.position, self.digest.hex())


_HEAD_WAIT_S: Final = 5.0


class HeadLag:
    """Keeps the log at most ``HEAD_LAG`` records ahead of its signed head.

    At a start, a longer lag means that someone else added records, so the writer must never cause one, even if the disk with
    the head is slow. The last quarter is reserved for ends: users can log out even if no head can be written. Without a head
    on disk nothing is limited.
    """

    def __init__(self) -> None:
        self._signed: int | None = None
        self._moved = threading.Condition()
        self._stuck = False

    @property
    def position(self) -> int:
        """The position of the newest head that is on disk; 0 if there is none."""
        return self._signed or 0

    def signed(self, position: int) -> None:
        """Note that a head for ``position`` is on disk."""
        with self._moved:
            self._signed, self._stuck = position, False
            self._moved.notify_all()

    def check(self, position: int, *, grows: bool) -> None:
        """Wait until the log may grow to ``position``; ``grows`` as for the writer. Call it in the writer's thread.

        Raises:
            Overloaded: the head did not catch up in time.
        """
        with self._moved:
            most = HEAD_LAG * 3 // 4 if grows else HEAD_LAG
            within = self._moved.wait_for(lambda: self._lag(position) <= most, 0 if self._stuck else _HEAD_WAIT_S)
            self._stuck = self._stuck or not within
        if not within:
            raise Overloaded

    def _lag(self, position: int) -> int:
        return 0 if self._signed is None else position - self._signed


class Append(NamedTuple):
    """What one caller appends, and under which authorities, of instances without a step."""

    steps: Sequence[Step]
    under: Sequence[Authority]


class SqliteLog:
    """:class:`interlock.server.surface.log.TransitionLog` over one writer and one reader of the same file."""

    def __init__(self, machines: Machines, writer: Writer, reader: Reader, head: ChainHead, lag: HeadLag) -> None:
        self._machines = machines
        self._lookups = {machine.kind: _lookup(machine) for machine in machines}
        self._writer = writer
        self._reader = reader
        self._head = head
        self._lag = lag
        # The last record whose caller was answered. The follower gets no later record, though more may be on disk.
        self._delivered = head.position
        self._follower: Follower | None = None

    @property
    def failure(self) -> str | None:
        """Why the log has stopped acknowledging, or None while it works."""
        return self._writer.failure

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        """See :meth:`interlock.server.surface.log.TransitionLog.append`."""
        return self._writer.submit_with_others(
            self._write,
            Append(steps, of_others(under, steps)),
            lambda connection, error: self._explain(connection, error, steps),
            grows=self._grows(steps),
        )

    async def follow(self, after: int, follower: Follower) -> None:
        """See :meth:`interlock.server.surface.log.TransitionLog.follow`. One process writes, so only its commits are new."""
        while after < self._delivered:
            page = await self.after(after, min(_PAGE, self._delivered - after))
            if not page:
                raise SurfaceFailed(f"the log has no record after {after}, and {self._delivered} were written")
            follower([Followed(record, None) for record in page])
            after = page[-1].position
        self._follower = follower

    def deliver(self, units: Sequence[Unit[Any, Any]], outcomes: Sequence[Any]) -> None:
        """Pass the records of a batch to the follower. A repeat has recorded nothing: see :meth:`TransitionLog.append`."""
        followed = [
            Followed(record, step.instance)
            for unit, outcome in zip(units, outcomes, strict=True)
            if unit.run == self._write
            and isinstance(outcome, list)
            and outcome[0].transition is unit.argument.steps[0].transition
            for record, step in zip(outcome, unit.argument.steps, strict=True)
        ]
        if not followed:
            return
        if self._follower is not None:
            self._follower(followed)
        self._delivered = followed[-1].record.position

    async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
        """See :meth:`interlock.server.surface.log.TransitionLog.load`."""
        lookup: Lookup[InstanceT] = self._lookups[machine.kind]
        return await self._reader.find(lookup, instance_id)

    async def history(self, kind: str, instance_id: str, after_version: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.history`."""
        return self._records(await self._reader.rows(HISTORY, kind, instance_id, after_version, limit))

    async def after(self, position: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.after`."""
        return self._records(await self._reader.rows(_AFTER, position, limit))

    async def audit(self, position: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.audit`."""
        return self._records(await self._reader.rows(_AUDIT, position, limit))

    async def latest(self, wanted: RecordFilter, before: int, limit: int, looked_at: int) -> tuple[list[Record], int]:
        """See :meth:`interlock.server.surface.log.TransitionLog.latest`."""
        first = max(0, before - 1 - looked_at)
        rows = await self._reader.rows(_LATEST, before, first, *msgspec.structs.astuple(wanted), limit)
        found = self._records(rows)
        last = found[-1].position if len(found) == limit else first + 1
        return found, last if last > 1 else 0

    async def tally(self, after: int, to: int) -> list[Tally]:
        """See :meth:`interlock.server.surface.log.TransitionLog.tally`."""
        return [Tally(*row) for row in await self._reader.rows(_TALLY, after, to)]

    async def check_chain(self, last: Receipt, limit: int) -> Receipt:
        """See :meth:`interlock.server.surface.log.TransitionLog.check_chain`."""

        def run(connection: Connection) -> Receipt:
            # In the reader's thread: a digest costs a few microseconds.
            end = last
            for values in connection.execute(_AFTER, (last.position, limit)):
                row = stored_row(values)
                end = chained(end, row, row_digest(bytes.fromhex(end.digest), row))
            return end

        return await self._reader.run(run)

    async def live_deadlines(self, kind: str) -> list[tuple[int, str]]:
        """See :meth:`interlock.server.surface.log.TransitionLog.live_deadlines`."""
        return [(deadline_ms, instance_id) for deadline_ms, instance_id in await self._reader.rows(_LIVE, kind)]

    async def live_states(self) -> dict[tuple[str, str], int]:
        """See :meth:`interlock.server.surface.log.TransitionLog.live_states`."""
        return {(kind, state): count for kind, state, count in await self._reader.rows(_STATES)}

    async def busy(self, machine: Machine[InstanceT]) -> list[InstanceT]:
        """See :meth:`interlock.server.surface.log.TransitionLog.busy`."""
        return [instance_from(machine, row) for row in await self._reader.rows(_BUSY, machine.kind)]

    async def latest_at_ms(self) -> int:
        """See :meth:`interlock.server.surface.log.TransitionLog.latest_at_ms`."""
        rows = await self._reader.rows(LATEST_AT)
        return int(rows[0][0]) if rows else 0

    async def newest(self) -> Record | None:
        """See :meth:`interlock.server.surface.log.TransitionLog.newest`."""
        rows = await self._reader.rows(_NEWEST)
        return self._records(rows)[0] if rows else None

    def _write(self, connection: Connection, appends: Sequence[Append]) -> list[list[Record]]:
        """Append the steps of several callers, in order. Return the records of each caller."""
        position, digest = self._head.position, self._head.digest
        outcomes: list[list[Record]] = []
        values: list[Any] = []
        # The instances whose steps are only in ``values`` so far.
        unwritten: set[tuple[str, str]] = set()

        def write() -> None:
            _insert(connection, values)
            values.clear()
            unwritten.clear()

        for steps, under in appends:
            for each in under:
                if (each.kind, each.instance_id) in unwritten:
                    write()
                ensure_authorised(connection, each, steps[0].transition.at_ms)
            records = []
            for step in steps:
                if step.along is not None:
                    # It may read what the steps before it have written.
                    write()
                    step.along(connection)
                row = chain(digest, position + 1, step.transition)
                position, digest = row.position, row.digest
                values += step_values(row, self._machines.of(position, row.kind), step.instance)
                unwritten.add((row.kind, row.instance_id))
                records.append(Record(position, step.transition, digest))
            outcomes.append(records)
        self._lag.check(position, grows=any(self._grows(each.steps) for each in appends))
        write()
        self._head.position, self._head.digest = position, digest
        return outcomes

    def _explain(self, connection: Connection, error: Exception, steps: Sequence[Step]) -> list[Record]:
        # The first step of each instance.
        firsts = {(step.transition.kind, step.transition.instance_id): step.transition for step in reversed(steps)}
        first = steps[0].transition
        own = sum(
            (step.transition.kind, step.transition.instance_id) == (first.kind, first.instance_id) for step in steps
        )
        repeated = connection.execute(_BY_COMMAND, (first.kind, first.instance_id, first.command_id, own)).fetchall()
        if repeated:
            return self._records(repeated)
        for instance, step in firsts.items():
            row = connection.execute(_VERSION, instance).fetchone()
            if (row[0] if row else 0) != step.version - 1:
                raise VersionConflict(step.instance_id, step.version)
        raise RecordRefused(str(error))

    def _records(self, rows: Sequence[tuple[Any, ...]]) -> list[Record]:
        return [parse(stored_row(row), self._machines) for row in rows]

    def _grows(self, steps: Sequence[Step]) -> bool:
        """Return whether ``steps`` may not use the disk reserve. The first step decides for those after it."""
        return not self._machines.is_essential(steps[0].transition)


def _lookup(machine: Machine[InstanceT]) -> Lookup[InstanceT]:
    columns, make = reading(machine)
    return Lookup(
        "instances", columns, "instance_id", functools.partial(make, machine), where=f"kind = '{machine.kind}'"
    )


def _insert(connection: Connection, values: Sequence[Any]) -> None:
    for first in range(0, len(values), _STEPS_AT_ONCE * STEP_WIDTH):
        part = values[first : first + _STEPS_AT_ONCE * STEP_WIDTH]
        connection.execute(insert_steps(len(part) // STEP_WIDTH), part)


def ensure_authorised(connection: Connection, under: Authority, at_ms: int) -> None:
    """Check in the open transaction that ``under`` is valid at ``at_ms``, at the writer's position in the log.

    Raises:
        AuthorityLost: it is not valid.
    """
    asked = (under.kind, under.instance_id, under.epoch, at_ms)
    if connection.execute(_AUTHORISED, asked).fetchone() is None:
        raise AuthorityLost
