"""The audit trail: acts of administrators that are no transition of a session, in their order, never changed or removed.

An act is written in the same transaction as what it did (see :func:`write_act`), so neither is ever there without the other.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Reader

_COLUMNS: Final = "position, at_ms, actor, action, object, detail, address"
_INSERT: Final = (
    f"INSERT INTO audit ({_COLUMNS}) "  # noqa: S608  # column names of ours
    "VALUES ((SELECT coalesce(max(position), 0) + 1 FROM audit), ?, ?, ?, ?, ?, ?)"
)
_AFTER: Final = f"SELECT {_COLUMNS} FROM audit WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608  # column names of ours


class Act(msgspec.Struct, frozen=True):
    """What an administrator did, and when (ASVS 16.2.1: when, where, who, what).

    ``actor`` is ``admin:<name>``, ``object`` the id of what it was done to, ``detail`` what the act carries, ``address``
    where the request came from, if known. Nothing in it is secret.
    """

    at_ms: int
    actor: str
    action: str
    object: str
    detail: dict[str, Any]
    address: str | None


class AuditRecord(msgspec.Struct, frozen=True):
    """An act in its place; ``position`` counts from 1 without gaps."""

    position: int
    act: Act


class AuditStore(Protocol):
    """Where acts are read from. Every implementation passes the same contract suite."""

    async def after(self, position: int, limit: int) -> list[AuditRecord]:
        """At most ``limit`` acts with a position above ``position``, oldest first."""
        ...


class SqliteAudit:
    """:class:`AuditStore` in the log's own file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def after(self, position: int, limit: int) -> list[AuditRecord]:
        """See :meth:`AuditStore.after`."""
        return [_record(*row) for row in await self._reader.rows(_AFTER, position, limit)]


def write_act(connection: Connection, act: Act) -> None:
    """Write ``act`` in the writer's open transaction."""
    detail = msgspec.json.encode(act.detail).decode()
    connection.execute(_INSERT, (act.at_ms, act.actor, act.action, act.object, detail, act.address))


def _record(position: int, at_ms: int, actor: str, action: str, *rest: Any) -> AuditRecord:
    about, detail, address = rest
    return AuditRecord(position, Act(at_ms, actor, action, about, msgspec.json.decode(detail), address))
