"""States of webhooks in the log's database file."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from interlock.machine.events.deliveries import Changes, Pending
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.writer import Writer, reraise
from interlock.server.surface.webhooks import WebhookState

WEBHOOK_TABLES: Final = (
    """
    CREATE TABLE webhooks (
        name TEXT PRIMARY KEY,
        created_at_ms INTEGER NOT NULL,
        cursor INTEGER NOT NULL,
        disabled_at_ms INTEGER,
        disabled TEXT,
        last_success_ms INTEGER NOT NULL,
        replayed_at_ms INTEGER NOT NULL,
        CHECK ((disabled_at_ms IS NULL) = (disabled IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE webhook_messages (
        webhook TEXT NOT NULL REFERENCES webhooks (name) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        key TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        first_at_ms INTEGER NOT NULL,
        last_at_ms INTEGER NOT NULL,
        because TEXT NOT NULL,
        dead INTEGER NOT NULL CHECK (dead IN (0, 1)),
        PRIMARY KEY (webhook, position)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX webhook_messages_dead ON webhook_messages (webhook, position) WHERE dead = 1",
)

_COLUMNS: Final = "position, key, attempts, due_ms, first_at_ms, last_at_ms, because"
_STATE_COLUMNS: Final = "name, created_at_ms, cursor, disabled_at_ms, disabled, last_success_ms, replayed_at_ms"
_NAMES: Final = "SELECT name FROM webhooks"
_STATE: Final = f"SELECT {_STATE_COLUMNS} FROM webhooks"  # noqa: S608  # names of ours
_SAVE: Final = f"""
    INSERT INTO webhooks ({_STATE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET created_at_ms = excluded.created_at_ms, cursor = excluded.cursor,
        disabled_at_ms = excluded.disabled_at_ms, disabled = excluded.disabled,
        last_success_ms = excluded.last_success_ms, replayed_at_ms = excluded.replayed_at_ms
"""  # noqa: S608  # names of ours
_PUT: Final = f"INSERT OR REPLACE INTO webhook_messages (webhook, {_COLUMNS}, dead) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # names of ours
_DELETE: Final = "DELETE FROM webhook_messages WHERE webhook = ? AND position = ?"
_ASIDE: Final = f"SELECT {_COLUMNS} FROM webhook_messages WHERE webhook = ? AND dead = 0 ORDER BY position"  # noqa: S608  # names of ours
DEAD_LETTERS: Final = f"""
    SELECT {_COLUMNS} FROM webhook_messages WHERE webhook = ? AND dead = 1 AND position > ? ORDER BY position LIMIT ?
"""  # noqa: S608  # names of ours
WEBHOOK_STATES: Final = f"""
    SELECT {_STATE_COLUMNS},
        (SELECT because FROM webhook_messages WHERE webhook = name AND last_at_ms > last_success_ms
            ORDER BY last_at_ms DESC LIMIT 1),
        (SELECT count(*) FROM webhook_messages WHERE webhook = name AND dead = 0),
        (SELECT count(*) FROM webhook_messages WHERE webhook = name AND dead = 1)
    FROM webhooks
"""  # noqa: S608  # names of ours
_COUNT_DEAD: Final = "SELECT count(*) FROM webhook_messages WHERE webhook = ? AND dead = 1"
_REPLAY: Final = f"""
    UPDATE webhook_messages SET dead = 0, attempts = 0, due_ms = 0, first_at_ms = 0
    WHERE webhook = ? AND position = ? AND dead = 1 RETURNING {_COLUMNS}
"""  # noqa: S608  # names of ours


class SqliteWebhooks:
    """:class:`WebhookStore` in the log's database file."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def names(self) -> set[str]:
        """See :meth:`WebhookStore.names`."""
        return {name for (name,) in await self._reader.rows(_NAMES)}

    async def state(self, name: str) -> WebhookState | None:
        """See :meth:`WebhookStore.state`."""
        rows = await self._reader.rows(f"{_STATE} WHERE name = ?", name)
        return WebhookState(*rows[0]) if rows else None

    async def save(self, state: WebhookState, changes: Changes) -> None:
        """See :meth:`WebhookStore.save`."""

        def run(connection: Connection) -> None:
            connection.execute(_SAVE, msgspec.structs.astuple(state))
            connection.executemany(_DELETE, [(state.name, position) for position in changes.delivered])
            for pendings, dead in ((changes.aside, 0), (changes.dead, 1)):
                connection.executemany(_PUT, [(state.name, *_row(each), dead) for each in pendings.values()])

        await self._writer.submit(run, reraise, grows=bool(changes.aside))

    async def aside(self, name: str) -> list[Pending]:
        """See :meth:`WebhookStore.aside`."""
        return _pendings(await self._reader.rows(_ASIDE, name))

    async def dead(self, name: str, after: int, limit: int) -> list[Pending]:
        """See :meth:`WebhookStore.dead`."""
        return _pendings(await self._reader.rows(DEAD_LETTERS, name, after, limit))

    async def count_dead(self, name: str) -> int:
        """See :meth:`WebhookStore.count_dead`."""
        ((count,),) = await self._reader.rows(_COUNT_DEAD, name)
        return int(count)

    async def replay(self, name: str, positions: Collection[int]) -> list[Pending]:
        """See :meth:`WebhookStore.replay`."""

        def run(connection: Connection) -> list[Pending]:
            rows = (connection.execute(_REPLAY, (name, position)).fetchall() for position in sorted(positions))
            return [pending for found in rows for pending in _pendings(found)]

        return await self._writer.submit(run, reraise)

    async def remove(self, name: str) -> None:
        """See :meth:`WebhookStore.remove`."""
        await self._writer.submit(
            lambda connection: connection.execute("DELETE FROM webhooks WHERE name = ?", (name,)), reraise
        )


def _pendings(rows: Iterable[tuple[Any, ...]]) -> list[Pending]:
    return [Pending(*row) for row in rows]


def _row(pending: Pending) -> tuple[Any, ...]:
    return msgspec.structs.astuple(pending)[:-1]
