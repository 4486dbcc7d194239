"""The tables, and the triggers that guard them.

The database itself refuses an illegal row, whichever program writes it: a transition that is not declared, one that does not
follow its instance's last, a change or removal of a record (also by ``INSERT OR REPLACE``), a projection that runs ahead of
the log. The legal transitions come from the declarations: :func:`migrate` fills the ``lifecycle`` table and refills it after a
change.
"""

from __future__ import annotations

from typing import Any, Final

import sqlite_utils
from sqlite_utils.migrations import Migrations

from interlock.machine.errors import SurfaceFailed
from interlock.machine.machine import Machine, Machines
from interlock.server.surface.sqlite.engine import Error
from interlock.server.surface.sqlite.rows import (
    APPEND_STEPS,
    COMPARED_COLUMNS,
    compared,
)
from interlock.server.surface.sqlite.stores.devices import DEVICE_TABLES
from interlock.server.surface.sqlite.stores.webhooks import WEBHOOK_TABLES
from interlock.spec.export import sql_rows, sql_table

_migrations: Final = Migrations("interlock")

_TABLES: Final = (
    """
    CREATE TABLE transitions (
        position INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        instance_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        event TEXT NOT NULL,
        source TEXT,
        target TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL,
        command_id TEXT NOT NULL,
        data TEXT NOT NULL,
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        UNIQUE (kind, instance_id, version),
        UNIQUE (kind, instance_id, command_id)
    ) STRICT
    """,
    "CREATE INDEX transitions_by_administrators ON transitions (position) WHERE actor GLOB 'admin:*'",
    """
    CREATE TABLE instances (
        kind TEXT NOT NULL,
        instance_id TEXT NOT NULL,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        ended INTEGER NOT NULL CHECK (ended IN (0, 1)),
        owner TEXT,
        epoch INTEGER NOT NULL,
        deadline_ms INTEGER,
        reason TEXT,
        busy INTEGER NOT NULL CHECK (busy IN (0, 1)),
        fold TEXT NOT NULL,
        PRIMARY KEY (kind, instance_id),
        CHECK (reason IS NULL OR ended)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX instances_live ON instances (kind, deadline_ms, instance_id) WHERE ended = 0",
    "CREATE INDEX instances_busy ON instances (kind, instance_id) WHERE busy = 1",
    """
    CREATE INDEX instances_live_of_owner ON instances (kind, owner, created_at_ms, instance_id)
        WHERE owner IS NOT NULL AND ended = 0
    """,
    *(
        f"CREATE INDEX instances_of_{column}_{order} ON instances (kind, {column}, {order}_at_ms, instance_id){where}"
        for column, where in (
            ("state", ""),
            ("owner", " WHERE owner IS NOT NULL"),
            ("reason", " WHERE reason IS NOT NULL"),
        )
        for order in ("created", "updated")
        if (column, order) != ("owner", "updated")
    ),
    """
    CREATE TABLE personal_data (
        account_id TEXT PRIMARY KEY,
        commitment_key TEXT NOT NULL,
        email TEXT UNIQUE,
        password_hash TEXT,
        issuer TEXT,
        subject TEXT,
        UNIQUE (issuer, subject),
        CHECK ((issuer IS NULL) = (subject IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE exchanged_tokens (
        token_hash BLOB PRIMARY KEY CHECK (length(token_hash) = 32),
        expires_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX exchanged_tokens_by_expiry ON exchanged_tokens (expires_at_ms)",
    """
    CREATE TABLE tickets (
        ticket_hash BLOB PRIMARY KEY CHECK (length(ticket_hash) = 32),
        session_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        authorised_until_ms INTEGER NOT NULL,
        expires_at_ms INTEGER NOT NULL,
        kid TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX tickets_by_expiry ON tickets (expires_at_ms)",
)

_EXECUTION_DATA: Final = """
    CREATE TABLE execution_data (
        execution_id TEXT PRIMARY KEY,
        commitment_key TEXT NOT NULL,
        parameters TEXT NOT NULL,
        result TEXT,
        error TEXT,
        CHECK (result IS NULL OR error IS NULL)
    ) STRICT, WITHOUT ROWID
"""

_THIS_RECORD: Final = "(kind, instance_id, version) = (NEW.kind, NEW.instance_id, NEW.version)"

_APPEND_ONLY: Final = {
    "transitions_legal": """
        BEFORE INSERT ON transitions BEGIN
            SELECT RAISE(ABORT, 'transitions: not a declared transition') WHERE NOT EXISTS (
                SELECT 1 FROM lifecycle
                WHERE (kind, event, source, target) = (NEW.kind, NEW.event, coalesce(NEW.source, ''), NEW.target));
            SELECT RAISE(ABORT, 'transitions: position does not follow the last record')
                WHERE NEW.position <> coalesce((SELECT max(position) FROM transitions), 0) + 1;
            SELECT RAISE(ABORT, 'transitions: does not follow the instance''s last record') WHERE NOT EXISTS (
                SELECT 1 FROM instances
                WHERE (kind, instance_id, version) = (NEW.kind, NEW.instance_id, NEW.version - 1) AND state IS NEW.source)
                AND NOT (NEW.version = 1 AND NEW.source IS NULL
                         AND NOT EXISTS (SELECT 1 FROM instances WHERE (kind, instance_id) = (NEW.kind, NEW.instance_id)));
            SELECT RAISE(ABORT, 'transitions: this command is already recorded') WHERE EXISTS (
                SELECT 1 FROM transitions
                WHERE (kind, instance_id, command_id) = (NEW.kind, NEW.instance_id, NEW.command_id));
        END""",
    **{
        f"{table}_no_{action}": f"""
        BEFORE {action.upper()} ON {table} BEGIN SELECT RAISE(ABORT, '{table}: {why}'); END"""
        for table, actions, why in (
            ("transitions", ("update", "delete"), "records are never changed or removed"),
            ("instances", ("delete",), "the projection only follows the log"),
            ("lifecycle", ("insert", "update", "delete"), "generated from the declarations"),
        )
        for action in actions
    },
}


def triggers(machines: Machines) -> dict[str, str]:
    """Return every trigger of the database, by name."""
    ended = _either(
        (f"('{machine.kind}', '{state}')" for machine in machines for state in sorted(machine.final)),
        "(NEW.kind, NEW.state) IN (VALUES {})",
    )
    bodies = _APPEND_ONLY | {
        "instances_follow_insert": f"""
        BEFORE INSERT ON instances BEGIN
            SELECT RAISE(ABORT, 'instances: a projection begins with its first record') WHERE NEW.version <> 1
                OR NEW.ended <> {ended} OR NEW.created_at_ms <> NEW.updated_at_ms
                OR EXISTS (SELECT 1 FROM instances WHERE (kind, instance_id) = (NEW.kind, NEW.instance_id)) OR NOT EXISTS (
                SELECT 1 FROM transitions
                WHERE {_THIS_RECORD} AND (target, at_ms) = (NEW.state, NEW.updated_at_ms)
                {"".join(_follows(machine, old=False) for machine in machines)});
        END""",  # noqa: S608  # names of ours
        "instances_follow_update": f"""
        BEFORE UPDATE ON instances BEGIN
            SELECT RAISE(ABORT, 'instances: the projection only follows the log')
                WHERE (NEW.kind, NEW.instance_id, NEW.version, NEW.created_at_ms)
                    <> (OLD.kind, OLD.instance_id, OLD.version + 1, OLD.created_at_ms)
                OR NEW.ended <> {ended} OR NOT EXISTS (
                SELECT 1 FROM transitions
                WHERE {_THIS_RECORD} AND (target, at_ms) = (NEW.state, NEW.updated_at_ms)
                {"".join(_follows(machine, old=True) for machine in machines)});
        END""",  # noqa: S608  # names of ours
    }
    return {name: f"CREATE TRIGGER {name}{body}" for name, body in bodies.items()}


def _follows(machine: Machine[Any], *, old: bool) -> str:
    """Return what SQL can check of the fold: copied fields and counters of events. ``old``: the instance existed before."""
    terms = [
        f"NEW.owner IS {_copied(machine, 'owner', 'OLD.owner' if old else 'NULL')}",
        f"NEW.reason IS CASE WHEN NEW.ended THEN {_copied(machine, 'reason', 'NULL')} END",
    ]
    for field, events in machine.counts.items():
        before = f"coalesce(OLD.fold ->> '$.{field}', 0)" if old else "0"
        terms.append(
            f"coalesce(NEW.fold ->> '$.{field}', 0) = {before} + {_either(map(repr, events), 'event IN ({})')}"
        )
    terms.append("NEW.epoch = " + ("coalesce(NEW.fold ->> '$.epoch', 0)" if "epoch" in machine.counts else "0"))
    return f"AND (NEW.kind <> '{machine.kind}' OR {' AND '.join(terms)}) "


def _copied(machine: Machine[Any], column: str, otherwise: str) -> str:
    """Return the value of ``column``: what this record's event copies to it, or else ``otherwise``."""
    cases = [f"WHEN '{event}' THEN data ->> '$.{field}'" for event, field in machine.copied.get(column, {}).items()]
    return f"CASE event {' '.join(cases)} ELSE {otherwise} END" if cases else otherwise


def _either(texts: Any, condition: str) -> str:
    joined = ", ".join(texts)
    return f"({condition.format(joined)})" if joined else "0"


@_migrations()
def m001_tables(database: sqlite_utils.Database) -> None:
    """Create the log, its projection, and the tables beside it: personal data, tickets, exchanged tokens."""
    for statement in _TABLES:
        database.execute(statement)


@_migrations()
def m002_execution_data(database: sqlite_utils.Database) -> None:
    """Create the table of executions' parameters, results and errors."""
    database.execute(_EXECUTION_DATA)


@_migrations()
def m003_webhooks(database: sqlite_utils.Database) -> None:
    """Create the tables of webhooks' states."""
    for statement in WEBHOOK_TABLES:
        database.execute(statement)


@_migrations()
def m004_devices(database: sqlite_utils.Database) -> None:
    """Create the table of sessions' devices."""
    for statement in DEVICE_TABLES:
        database.execute(statement)


LIVE: Final = f"SELECT {COMPARED_COLUMNS} FROM instances INDEXED BY instances_live WHERE kind = ? AND ended = 0"  # noqa: S608  # names of ours
"""Every live instance of a kind, with its history."""

_KINDS: Final = """
    WITH RECURSIVE kinds (kind) AS (
        SELECT min(kind) FROM instances
        UNION ALL SELECT (SELECT min(kind) FROM instances WHERE kind > kinds.kind) FROM kinds WHERE kind IS NOT NULL)
    SELECT kind FROM kinds WHERE kind IS NOT NULL
"""
"""The distinct kinds, by one index lookup for each."""


def check_projection(database: sqlite_utils.Database, machines: Machines) -> None:
    """Compare each live instance, which the server would serve from its row, with its records.

    Ended instances are left to ``interlock verify``, so that a start costs only as much as there are live instances. A lasting
    lifecycle has ever more live instances; each of those is compared when it is read instead.

    Raises:
        SurfaceFailed: an instance differs, or its kind is not declared.
    """
    unknown = [kind for (kind,) in database.execute(_KINDS).fetchall() if machines.get(kind) is None]
    if unknown:
        raise SurfaceFailed(f"this log holds {', '.join(unknown)}, and no lifecycle of that name is declared here")
    for machine in machines:
        if not machine.lasting:
            for row in database.execute(LIVE, (machine.kind,)):
                compared(machine, row)


def refuse_foreign(database: sqlite_utils.Database) -> None:
    """Check the file before anything is written to it.

    Raises:
        SurfaceFailed: the file belongs to another program.
    """
    known = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    if known and not {"_sqlite_migrations", "transitions"} <= known:
        raise SurfaceFailed("this database can't be read: it holds tables that are not Interlock's")
    if known and "instances" not in known:
        raise SurfaceFailed(
            "this log was written by a development version, before records named what they are of, and can't be read any more."
            " Move the data folder away, or choose another one with --data"
        )


def migrate(database: sqlite_utils.Database, machines: Machines) -> None:
    """Create or update the tables and the legal transitions of ``machines``, and prepare ``database`` for appends.

    Raises:
        SurfaceFailed: the file is not an Interlock log, or is of a newer version.
    """
    try:
        refuse_foreign(database)
        newer = {m.name for m in _migrations.applied(database)} - {m.name for m in _migrations._migrations}  # noqa: SLF001  # the library offers no public list of its own names
        if newer:
            raise SurfaceFailed(
                f"this log was written by a newer Interlock (it has {', '.join(sorted(newer))}): start that version again, or"
                " restore a backup made before the upgrade"
            )
        # One transaction: if the first start is killed with only the library's own table written, the next start would refuse
        # the file as another program's.
        with database.atomic():
            _migrations.apply(database)
            _install_legality(database, machines)
        for statement in APPEND_STEPS:
            database.execute(statement)
    except Error as error:
        raise SurfaceFailed(f"the log can't be prepared: {error}") from error


def _install_legality(database: sqlite_utils.Database, machines: Machines) -> None:
    """Update the lifecycle table and the triggers to the declarations. Write nothing if they are up to date."""
    wanted = triggers(machines)
    rows = sorted(row for machine in machines for row in sql_rows(machine.lifecycle))
    installed = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall())
    has_table = database["lifecycle"].exists()
    current = (
        sorted(database.execute("SELECT kind, event, source, target, guards FROM lifecycle").fetchall())
        if has_table
        else None
    )
    if installed == wanted and current == rows:
        return
    with database.atomic():
        for name in installed:
            database.execute(f"DROP TRIGGER {name}")
        if has_table:
            database.execute("DROP TABLE lifecycle")
        database.execute(sql_table())
        database.conn.executemany("INSERT INTO lifecycle VALUES (?, ?, ?, ?, ?)", rows)
        for statement in wanted.values():
            database.execute(statement)
