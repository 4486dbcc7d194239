"""Lists of sessions, newest first, page by page, however many there are.

Each page is a search in one index that is in the order of the list (or in one for each state, merged), begun where the page
before ended: nothing is sorted, and no page reads what earlier ones have shown.
"""

from __future__ import annotations

import heapq
from typing import Any, Final, Protocol, Self

import msgspec

from interlock.machine.session import FINAL_STATES, Session
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.rows import SESSION_COLUMNS, session_from
from interlock.spec.lifecycles import SESSION

_STATES: Final = tuple(state.name for state in SESSION.states)


class Wanted(msgspec.Struct, frozen=True):
    """Which sessions. None is any. The ranges are in ms, begin inclusive, end exclusive.

    A list with a range of ``updated`` is in the order of the last transition, any other in that of the creation. Both ranges
    together go with a ``subject`` only.

    ``alive_at_ms``, which goes with a ``subject`` only, excludes sessions that have ended or are overdue at that time.
    """

    state: str | None = None
    subject: str | None = None
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
        return self.of_update and self.subject is None

    def place_of(self, session: Session) -> Place:
        """Where ``session`` is in the list."""
        return Place(session.updated_at_ms, session.session_id) if self.by_update else Place.of(session)


class Place(msgspec.Struct, frozen=True, order=True):
    """A place in a list: the time it is ordered by, in ms, then the id."""

    at_ms: int
    session_id: str

    @classmethod
    def of(cls, session: Session) -> Self:
        """Where ``session`` is in a list that is in the order of the creation."""
        return cls(session.created_at_ms, session.session_id)


class SessionDirectory(Protocol):
    """All sessions, those that have ended as well. Every implementation passes the same contract suite."""

    async def page(self, wanted: Wanted, before: Place | None, limit: int) -> list[Session]:
        """At most ``limit`` sessions, newest first, that come after the place ``before`` in that list."""
        ...


class SqliteDirectory:
    """:class:`SessionDirectory` in the log's own file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, wanted: Wanted, before: Place | None, limit: int) -> list[Session]:
        """See :meth:`SessionDirectory.page`."""

        def run(connection: Connection) -> list[list[tuple[Any, ...]]]:
            # One snapshot: a session that moves from state to state between two searches is in one of them.
            connection.execute("BEGIN")
            try:
                return [connection.execute(*search).fetchall() for search in searches(wanted, before, limit)]
            finally:
                connection.execute("COMMIT")

        parts = [[session_from(row) for row in rows] for rows in await self._reader.run(run)]
        return list(heapq.merge(*parts, key=wanted.place_of, reverse=True))[:limit]


def searches(wanted: Wanted, before: Place | None, limit: int) -> list[tuple[str, list[Any]]]:
    """The statements with their parameters whose rows, merged, are the page."""
    if wanted.subject is not None:
        return [_search("subject", wanted.subject, wanted, before, limit)]
    if wanted.reason is not None:
        # Whoever has a reason has ended.
        ended = wanted.state is None or wanted.state in FINAL_STATES
        return [_search("reason", wanted.reason, wanted, before, limit)] if ended else []
    states = _STATES if wanted.state is None else (wanted.state,)
    return [_search("state", state, wanted, before, limit) for state in states]


def _search(column: str, value: str, wanted: Wanted, before: Place | None, limit: int) -> tuple[str, list[Any]]:
    order = "updated" if wanted.by_update else "created"
    low, high = (
        (wanted.updated_from_ms, wanted.updated_to_ms)
        if wanted.by_update
        else (wanted.created_from_ms, wanted.created_to_ms)
    )
    conditions: list[tuple[str, tuple[Any, ...]]] = [(f"{column} = ?", (value,))]
    if low is not None:
        conditions.append((f"{order}_at_ms >= ?", (low,)))
    # One upper bound only, the lower of the two: SQLite would begin its search at one, and check the other row by row.
    if before is not None and (high is None or before.at_ms < high):
        conditions.append((f"({order}_at_ms, session_id) < (?, ?)", (before.at_ms, before.session_id)))
    elif high is not None:
        conditions.append((f"{order}_at_ms < ?", (high,)))
    if column == "subject":
        # One account's sessions are few enough to look at.
        checks = (
            ("state = ?", wanted.state),
            ("reason = ?", wanted.reason),
            ("updated_at_ms >= ?", wanted.updated_from_ms),
            ("updated_at_ms < ?", wanted.updated_to_ms),
        )
        conditions += [(text, (limit_value,)) for text, limit_value in checks if limit_value is not None]
    index = f"sessions_of_{column}_{order}"
    if wanted.alive_at_ms is not None:
        # An account may have had any number of sessions. In this index are those that have not ended.
        index = "sessions_by_subject"
        deadline = "min(idle_deadline_ms, absolute_deadline_ms) > ?"
        conditions += [("reason IS NULL", ()), (deadline, (wanted.alive_at_ms,))]
    statement = (
        f"SELECT {SESSION_COLUMNS} FROM sessions INDEXED BY {index}"  # noqa: S608  # names of ours
        f" WHERE {' AND '.join(text for text, _ in conditions)}"
        f" ORDER BY {order}_at_ms DESC, session_id DESC LIMIT ?"
    )
    return statement, [*(each for _, values in conditions for each in values), limit]
