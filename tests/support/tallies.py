"""A realm whose intents leave countable effects: ``--realm tests.support.tallies:realm``, with its SQLite file in TALLIES.

Each attempt adds one row, at a moment of its short run that chance chooses. So a kill finds code before, between and after its
effect.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from interlock import Context, Realm
from interlock.store import SqlStore, in_thread

REALM = "tests.support.tallies:realm"
"""The value of the setting ``realm``."""

EFFECTS: Final = ("once", "idempotent", "transactional")
"""Its intents that leave effects, named as what they declare."""


def connect() -> sqlite3.Connection:
    """Open the realm's database, for use in any thread."""
    connection = sqlite3.connect(os.environ["TALLIES"], check_same_thread=False, timeout=60)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def create(path: Path) -> None:
    """Create the realm's database."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE effects (execution_id TEXT NOT NULL, attempt INTEGER NOT NULL)")


def effects(path: Path) -> dict[str, Counter[int]]:
    """Return how many effects each execution had, by attempt."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    with closing(sqlite3.connect(path)) as connection:
        for execution_id, attempt in connection.execute("SELECT execution_id, attempt FROM effects"):
            found[execution_id][attempt] += 1
    return found


realm = Realm("tallies", store=SqlStore(connect))


class Nothing(Struct):
    """No parameters."""


class Work(Struct):
    pause_s: Annotated[float, Meta(ge=0, le=60)] = 0.05
    """How long it rests before its effect, and after it, at most."""


class Done(Struct):
    attempt: int


def _add(connection: sqlite3.Connection, context: Context) -> None:
    connection.execute("INSERT INTO effects VALUES (?, ?)", (context.execution_id, context.attempt))


async def _work(context: Context, pause_s: float) -> Done:
    await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311  # a schedule, not a secret
    with closing(await in_thread(connect)) as connection:

        def add() -> None:
            with connection:
                _add(connection, context)

        await in_thread(add)
    await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311  # a schedule, not a secret
    return Done(context.attempt)


@realm.intent("tallies.once", effects="once", timeout_s=600)
async def once(context: Context, parameters: Work) -> Done:
    """Have an effect, at most once."""
    return await _work(context, parameters.pause_s)


@realm.intent("tallies.idempotent", effects="idempotent", timeout_s=600)
async def idempotent(context: Context, parameters: Work) -> Done:
    """Have an effect, at least once."""
    return await _work(context, parameters.pause_s)


@realm.intent("tallies.transactional", effects="transactional", timeout_s=600)
async def transactional(context: Context, parameters: Work) -> Done:
    """Have an effect, exactly once."""
    await asyncio.sleep(random.uniform(0, parameters.pause_s))  # noqa: S311  # a schedule, not a secret
    with closing(await in_thread(connect)) as connection:
        await in_thread(lambda: _add(connection, context))
        await context.commit(connection, done := Done(context.attempt))
    await asyncio.sleep(random.uniform(0, parameters.pause_s))  # noqa: S311  # a schedule, not a secret
    return done


@realm.intent("tallies.wait", timeout_s=600)
async def wait(_context: Context, _parameters: Nothing) -> None:
    """Wait until it is cancelled."""
    await asyncio.Event().wait()


@realm.intent("tallies.stubborn", timeout_s=600)
async def stubborn(_context: Context, _parameters: Nothing) -> None:
    """Wait, and ignore being cancelled."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
