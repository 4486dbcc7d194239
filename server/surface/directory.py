"""Lists of instances, newest first, page by page, however many there are.

Each page is a search in one index that is in the order of the list (or in one for each state, merged), begun where the page
before ended: nothing is sorted, and no page reads what earlier ones have shown.
"""

from __future__ import annotations

import heapq
from typing import Any, Protocol, Self

import msgspec

from interlock.machine.machine import Instance, InstanceT, Machine, id_of
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.rows import INSTANCE_COLUMNS, instance_from


class Wanted(msgspec.Struct, frozen=True):
    """Which instances of one kind. None is any. The ranges are in ms, begin inclusive, end exclusive.

    A list with a range of ``updated`` is in the order of the last transition, any other in that of the creation. Both ranges
    together go with an ``owner`` only.

    ``alive_at_ms``, which goes with an ``owner`` only, excludes those that have ended or are overdue at that time.
    """

    state: str | None = None
    owner: str | None = None
    reason: str | None = None
    created_from_ms: int | None = None
    created_to_ms: int | None = None
    updated_from_ms: int | None = None
    updated_to_ms: int | None = None
    alive_at_ms: int | None = None

    @property
    def of_creation(self) -> bool:
        """There is a range of the creation."""
        return self.created_from_ms is not None or self.created_to_ms is not None

    @property
    def of_update(self) -> bool:
        """There is a range of the last transition."""
        return self.updated_from_ms is not None or self.updated_to_ms is not None

    @property
    def by_update(self) -> bool:
        """The list is in the order of the last transition."""
        return self.of_update and self.owner is None

    def place_of(self, instance: Instance) -> Place:
        """Where ``instance`` is in the list."""
        return Place(instance.updated_at_ms, id_of(instance)) if self.by_update else Place.of(instance)


class Place(msgspec.Struct, frozen=True, order=True):
    """A place in a list: the time it is ordered by, in ms, then the id."""

    at_ms: int
    instance_id: str

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """Where ``instance`` is in a list that is in the order of the creation."""
        return cls(instance.created_at_ms, id_of(instance))


class Directory(Protocol):
    """All instances, those that have ended as well. Every implementation passes the same contract suite."""

    async def page(
        self, machine: Machine[InstanceT], wanted: Wanted, before: Place | None, limit: int
    ) -> list[InstanceT]:
        """At most ``limit`` instances of ``machine``, newest first, that come after the place ``before`` in that list."""
        ...


class SqliteDirectory:
    """:class:`Directory` in the log's own file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(
        self, machine: Machine[InstanceT], wanted: Wanted, before: Place | None, limit: int
    ) -> list[InstanceT]:
        """See :meth:`Directory.page`."""

        def run(connection: Connection) -> list[list[tuple[Any, ...]]]:
            # One snapshot: what moves from state to state between two searches is in one of them.
            connection.execute("BEGIN")
            try:
                return [connection.execute(*search).fetchall() for search in searches(machine, wanted, before, limit)]
            finally:
                connection.execute("COMMIT")

        parts = [[instance_from(machine, row) for row in rows] for rows in await self._reader.run(run)]
        return list(heapq.merge(*parts, key=wanted.place_of, reverse=True))[:limit]


def searches(machine: Machine[Any], wanted: Wanted, before: Place | None, limit: int) -> list[tuple[str, list[Any]]]:
    """The statements with their parameters whose rows, merged, are the page."""
    if wanted.owner is not None:
        return [_search(machine.kind, "owner", wanted.owner, wanted, before, limit)]
    if wanted.reason is not None:
        # Whatever has a reason has ended.
        ended = wanted.state is None or wanted.state in machine.final
        return [_search(machine.kind, "reason", wanted.reason, wanted, before, limit)] if ended else []
    states = [state.name for state in machine.lifecycle.states] if wanted.state is None else [wanted.state]
    return [_search(machine.kind, "state", state, wanted, before, limit) for state in states]


def _search(  # a search in an index
    kind: str, column: str, value: str, wanted: Wanted, before: Place | None, limit: int
) -> tuple[str, list[Any]]:
    order = "updated" if wanted.by_update else "created"
    low, high = (
        (wanted.updated_from_ms, wanted.updated_to_ms)
        if wanted.by_update
        else (wanted.created_from_ms, wanted.created_to_ms)
    )
    conditions: list[tuple[str, tuple[Any, ...]]] = [("kind = ?", (kind,)), (f"{column} = ?", (value,))]
    if low is not None:
        conditions.append((f"{order}_at_ms >= ?", (low,)))
    # One upper bound only, the lower of the two: SQLite would begin its search at one, and check the other row by row.
    if before is not None and (high is None or before.at_ms < high):
        conditions.append((f"({order}_at_ms, instance_id) < (?, ?)", (before.at_ms, before.instance_id)))
    elif high is not None:
        conditions.append((f"{order}_at_ms < ?", (high,)))
    if column == "owner":
        # One account's are few enough to look at.
        checks = (
            ("state = ?", wanted.state),
            ("reason = ?", wanted.reason),
            ("updated_at_ms >= ?", wanted.updated_from_ms),
            ("updated_at_ms < ?", wanted.updated_to_ms),
        )
        conditions += [(text, (limit_value,)) for text, limit_value in checks if limit_value is not None]
    index = f"instances_of_{column}_{order}"
    if wanted.alive_at_ms is not None:
        # An account may have had any number. In this index are those that have not ended.
        index = "instances_live_of_owner"
        conditions += [("ended = 0", ()), ("deadline_ms > ?", (wanted.alive_at_ms,))]
    statement = (
        f"SELECT {INSTANCE_COLUMNS} FROM instances INDEXED BY {index}"  # noqa: S608  # names of ours
        f" WHERE {' AND '.join(text for text, _ in conditions)}"
        f" ORDER BY {order}_at_ms DESC, instance_id DESC LIMIT ?"
    )
    return statement, [*(each for _, values in conditions for each in values), limit]
