"""A realm for tests of the contract of intents. Its effects are lines in a table, and a file holds its code in the middle."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from msgspec import Struct

from interlock import Context, Realm
from interlock.store import SqlStore, in_thread

REALM = "tests.support.held_effects:realm"

FOLDER = "HELD_FOLDER"
"""The environment variable that names the folder of the table and the file."""


def folder() -> Path:
    return Path(os.environ[FOLDER])


def connect() -> sqlite3.Connection:
    connection = sqlite3.connect(folder() / "effects.db", timeout=20, check_same_thread=False)
    connection.execute("CREATE TABLE IF NOT EXISTS effects (number INTEGER NOT NULL)")
    return connection


def count(path: Path, number: int) -> int:
    with closing(sqlite3.connect(path / "effects.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM effects WHERE number = ?", (number,)).fetchone()[0])


realm = Realm("held", store=SqlStore(connect))


class Number(Struct):
    number: int


async def _let_go() -> None:
    """Wait while the file ``hold`` exists."""
    while (folder() / "hold").exists():  # noqa: ASYNC110  # the other process has nothing but files
        await asyncio.sleep(0.005)


def _add(number: int) -> None:
    with closing(connect()) as connection, connection:
        connection.execute("INSERT INTO effects VALUES (?)", (number,))


@realm.intent("held.once")
async def once(_context: Context, parameters: Number) -> Number:
    """Have an effect, and wait before and after it."""
    await _let_go()
    await in_thread(lambda: _add(parameters.number))
    await _let_go()
    return parameters


@realm.intent("held.again", effects="idempotent", on_session_end="finish")
async def again(_context: Context, parameters: Number) -> Number:
    """Have an effect, and wait after it, so that a crash leads to another one."""
    await in_thread(lambda: _add(parameters.number))
    await _let_go()
    return parameters


@realm.intent("held.outside", effects="transactional")
async def outside(context: Context, parameters: Number) -> Number:
    """Have an effect outside the transaction, which breaks the promise of its declaration."""
    await in_thread(lambda: _add(parameters.number))
    await _let_go()
    with closing(await in_thread(connect)) as connection:
        await context.commit(connection, parameters)
    return parameters


@realm.intent("held.defy", effects="transactional")
async def defy(context: Context, parameters: Number) -> Number:
    """Commit in spite of a cancellation, as soon as the file is gone."""
    with closing(await in_thread(connect)) as connection:
        with suppress(asyncio.CancelledError):
            await _let_go()
        await _let_go()
        connection.execute("INSERT INTO effects VALUES (?)", (parameters.number,))
        await context.commit(connection, parameters)
    return parameters
