"""Pages of instances, newest first.

Each page is a search in one index in the order of the list (or in one search for each state, merged), starting where the page
before ended. Nothing is sorted, and no page reads rows of earlier pages.
"""

from __future__ import annotations

import heapq
from typing import Any

from interlock.machine.machine import InstanceT, Machine
from interlock.server.surface.directory import Cursor, InstanceFilter
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.rows import reading


class SqliteDirectory:
    """:class:`Directory` in the log's database file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(
        self, machine: Machine[InstanceT], wanted: InstanceFilter, before: Cursor | None, limit: int
    ) -> list[InstanceT]:
        """See :meth:`Directory.page`."""
        return await self._reader.run(lambda connection: read_page(connection, machine, wanted, before, limit))


def read_page(
    connection: Connection, machine: Machine[InstanceT], wanted: InstanceFilter, before: Cursor | None, limit: int
) -> list[InstanceT]:
    """Return the page that :meth:`Directory.page` describes."""
    # One snapshot: an instance that changes state between two searches must be in exactly one of them.
    connection.execute("BEGIN")
    try:
        parts = [connection.execute(*search).fetchall() for search in searches(machine, wanted, before, limit)]
    finally:
        connection.execute("COMMIT")
    _, read = reading(machine)
    found = ([read(machine, row) for row in rows] for rows in parts)
    return list(heapq.merge(*found, key=wanted.cursor_of, reverse=True))[:limit]


def searches(
    machine: Machine[Any], wanted: InstanceFilter, before: Cursor | None, limit: int
) -> list[tuple[str, list[Any]]]:
    """Return the statements and parameters whose merged rows are the page."""
    if wanted.owner is not None:
        return [_search(machine, "owner", wanted.owner, wanted, before, limit)]
    if wanted.reason is not None:
        # Only ended instances have a reason.
        ended = wanted.state is None or wanted.state in machine.final
        return [_search(machine, "reason", wanted.reason, wanted, before, limit)] if ended else []
    states = [state.name for state in machine.lifecycle.states] if wanted.state is None else [wanted.state]
    return [_search(machine, "state", state, wanted, before, limit) for state in states]


def _search(
    machine: Machine[Any], column: str, value: str, wanted: InstanceFilter, before: Cursor | None, limit: int
) -> tuple[str, list[Any]]:
    order = "updated" if wanted.by_update else "created"
    low, high = (
        (wanted.updated_from_ms, wanted.updated_to_ms)
        if wanted.by_update
        else (wanted.created_from_ms, wanted.created_to_ms)
    )
    conditions: list[tuple[str, tuple[Any, ...]]] = [("kind = ?", (machine.kind,)), (f"{column} = ?", (value,))]
    if low is not None:
        conditions.append((f"{order}_at_ms >= ?", (low,)))
    # Only the lower of the two upper bounds: SQLite would start its search at one and check the other row by row.
    if before is not None and (high is None or before.at_ms < high):
        conditions.append((f"({order}_at_ms, instance_id) < (?, ?)", (before.at_ms, before.instance_id)))
    elif high is not None:
        conditions.append((f"{order}_at_ms < ?", (high,)))
    if column == "owner":
        # One account has few instances, so checking each row is cheap.
        checks = (
            ("state = ?", wanted.state),
            ("reason = ?", wanted.reason),
            ("updated_at_ms >= ?", wanted.updated_from_ms),
            ("updated_at_ms < ?", wanted.updated_to_ms),
        )
        conditions += [(text, (limit_value,)) for text, limit_value in checks if limit_value is not None]
    index = f"instances_of_{column}_{order}"
    if wanted.alive_at_ms is not None:
        # An account may have any number of ended instances; this index holds only those that have not ended.
        index = "instances_live_of_owner"
        conditions += [("ended = 0", ()), ("deadline_ms > ?", (wanted.alive_at_ms,))]
    statement = (
        f"SELECT {reading(machine)[0]} FROM instances INDEXED BY {index}"  # noqa: S608  # names of ours
        f" WHERE {' AND '.join(text for text, _ in conditions)}"
        f" ORDER BY {order}_at_ms DESC, instance_id DESC LIMIT ?"
    )
    return statement, [*(each for _, values in conditions for each in values), limit]
