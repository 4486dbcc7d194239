"""A realm with transactional intents over an SQLite file, which counts the effects."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from interlock.context import Context
from interlock.realm import Realm, Store
from interlock.store import SqlStore
from tests.support.runtime import Bench, Text


class Ledger:
    """A realm's database, whose code counts its effects. ``before`` and ``after`` are awaited around the commit."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "realm.db"
        self.store = SqlStore(self.connect)
        self.realm = Realm("notes", store=self.store)
        self.before: Callable[[Context], Any] = nothing
        self.after: Callable[[Context], Any] = nothing
        self.attempts: list[int] = []
        with closing(self.connect()) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS effects (execution_id TEXT)")
            connection.commit()

        @self.realm.intent("notes.create", effects="transactional", timeout_s=60)
        async def create(context: Context, parameters: Text) -> Text:
            self.attempts.append(context.attempt)
            await self.before(context)
            with closing(self.connect()) as connection:
                connection.execute("INSERT INTO effects VALUES (?)", (context.execution_id,))
                await context.commit(connection, parameters)
            await self.after(context)
            return parameters

    def over(self, store: Store) -> Realm:
        """Return the realm with its outcomes in another ``store``."""
        realm = Realm("notes", store=store)
        handler = self.realm.intents["notes.create"].handler
        realm.intent("notes.create", effects="transactional", timeout_s=60)(handler)
        return realm

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, check_same_thread=False)

    @property
    def effects(self) -> int:
        with closing(self.connect()) as connection:
            return int(connection.execute("SELECT count(*) FROM effects").fetchone()[0])


async def nothing(_context: Context) -> None:
    """Do nothing."""


async def hang(_context: Context) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


async def fail(_context: Context) -> None:
    """Raise an error."""
    raise ValueError


async def begun(made: Bench, session: Any) -> str:
    """Submit an intent, and return the id of its execution once it runs."""
    accepted = await made.submit(session)
    await made.reached(accepted.execution.execution_id, "running")
    return accepted.execution.execution_id
