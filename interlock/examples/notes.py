"""A realm that keeps notes in an SQLite file of its own: ``interlock serve --realm interlock.examples.notes:realm``."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Annotated

from msgspec import Meta, Struct

from interlock import Context, Realm
from interlock.store import SqlStore, in_thread


def connect() -> sqlite3.Connection:
    """Open the database, for use in any thread."""
    path = os.environ.get("NOTES_DATABASE", "notes.db")
    connection = sqlite3.connect(path, timeout=20, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, text TEXT NOT NULL)"
    )
    return connection


realm = Realm("notes", store=SqlStore(connect))


class Create(Struct):
    text: Annotated[str, Meta(min_length=1, max_length=1000)]


class Note(Struct):
    note_id: int
    text: str


class Find(Struct):
    contains: str = ""


class Notes(Struct):
    notes: list[Note]


class Remove(Struct):
    note_id: int


class Removed(Struct):
    existed: bool


@realm.intent("notes.create", effects="transactional")
async def create(context: Context, parameters: Create) -> Note:
    """Keep a note. It and the outcome commit together, so no crash can lose it or make two."""

    def insert() -> Note:
        values = (context.subject, parameters.text)
        row = connection.execute("INSERT INTO notes (owner, text) VALUES (?, ?)", values)
        return Note(row.lastrowid or 0, parameters.text)

    with closing(await in_thread(connect)) as connection:
        note = await in_thread(insert)
        await context.commit(connection, note)
        return note


@realm.intent("notes.find", effects="idempotent", timeout_s=5)
async def find(context: Context, parameters: Find) -> Notes:
    """Return the last hundred notes of the caller that contain a text. Reading twice does no harm."""

    def select() -> list[Note]:
        with closing(connect()) as connection:
            rows = connection.execute(
                "SELECT id, text FROM notes WHERE owner = ? AND instr(text, ?) ORDER BY id DESC LIMIT 100",
                (context.subject, parameters.contains),
            )
            return [Note(*row) for row in rows]

    return Notes(await in_thread(select))


@realm.intent("notes.remove", effects="idempotent", roles=["editors"])
async def remove(context: Context, parameters: Remove) -> Removed:
    """Remove a note of the caller. Removing it again changes nothing, so a crash may repeat it."""

    def delete() -> bool:
        with closing(connect()) as connection, connection:
            done = connection.execute(
                "DELETE FROM notes WHERE id = ? AND owner = ?", (parameters.note_id, context.subject)
            )
            return done.rowcount == 1

    return Removed(await in_thread(delete))
