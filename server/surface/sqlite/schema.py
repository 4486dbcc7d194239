"""The tables, the triggers that guard them, and how an older file is brought up to date.

The database itself refuses an illegal row, whoever types it: a transition that is not declared, one that does not follow
the session's last, a change or removal of a record (also by ``INSERT OR REPLACE``), a projection that runs ahead of the log.
What is legal comes from the declaration: :func:`migrate` fills the ``lifecycle`` table from it and refills it when the
declaration has changed.
"""

from __future__ import annotations

import itertools
from typing import Final

import sqlite_utils
from sqlite_utils.migrations import Migrations

from interlock.machine.errors import SurfaceFailed
from interlock.machine.session import FINAL_STATES
from interlock.server.surface.sqlite.engine import Error
from interlock.server.surface.sqlite.rows import APPEND_STEPS
from interlock.spec.export import sql_rows, sql_table
from interlock.spec.lifecycles import SESSION

_migrations: Final = Migrations("interlock")

_TABLES: Final = (
    """
    CREATE TABLE transitions (
        position INTEGER PRIMARY KEY,
        session_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        event TEXT NOT NULL,
        source TEXT,
        target TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL,
        command_id TEXT NOT NULL,
        data TEXT NOT NULL,
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        UNIQUE (session_id, version),
        UNIQUE (session_id, command_id)
    ) STRICT
    """,
    """
    CREATE TABLE sessions (
        session_id TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        subject TEXT,
        epoch INTEGER NOT NULL,
        rotation INTEGER NOT NULL,
        rotated_at_ms INTEGER,
        connections TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        idle_deadline_ms INTEGER NOT NULL,
        absolute_deadline_ms INTEGER NOT NULL,
        idle_timeout_ms INTEGER NOT NULL,
        absolute_timeout_ms INTEGER NOT NULL,
        connection_limit INTEGER NOT NULL,
        refresh_grace_ms INTEGER NOT NULL,
        reason TEXT
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX sessions_live ON sessions (session_id, idle_deadline_ms, absolute_deadline_ms) WHERE reason IS NULL",
    "CREATE INDEX sessions_connected ON sessions (session_id) WHERE connections <> '[]'",
    "CREATE INDEX sessions_by_subject ON sessions (subject, created_at_ms) WHERE subject IS NOT NULL AND reason IS NULL",
    """
    CREATE TABLE accounts (
        account_id TEXT PRIMARY KEY,
        email TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        password_changed_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE tickets (
        ticket_hash BLOB PRIMARY KEY CHECK (length(ticket_hash) = 32),
        session_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        authorised_until_ms INTEGER NOT NULL,
        expires_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX tickets_by_expiry ON tickets (expires_at_ms)",
)

_IS_LOGIN: Final = "event IN ('authenticate', 'reauthenticate')"
_FINAL: Final = sorted(FINAL_STATES)
_ENDED: Final = f"IN ({', '.join(repr(state) for state in _FINAL)})"

_TRIGGERS: Final = {
    "transitions_legal": """
        BEFORE INSERT ON transitions BEGIN
            SELECT RAISE(ABORT, 'transitions: not a declared transition') WHERE NOT EXISTS (
                SELECT 1 FROM lifecycle
                WHERE event = NEW.event AND source = coalesce(NEW.source, '') AND target = NEW.target);
            SELECT RAISE(ABORT, 'transitions: position does not follow the last record')
                WHERE NEW.position <> coalesce((SELECT max(position) FROM transitions), 0) + 1;
            SELECT RAISE(ABORT, 'transitions: does not follow the session''s last record') WHERE NOT EXISTS (
                SELECT 1 FROM sessions
                WHERE session_id = NEW.session_id AND version = NEW.version - 1 AND state IS NEW.source)
                AND NOT (NEW.version = 1 AND NEW.source IS NULL
                         AND NOT EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id));
            SELECT RAISE(ABORT, 'transitions: this command is already recorded') WHERE EXISTS (
                SELECT 1 FROM transitions WHERE session_id = NEW.session_id AND command_id = NEW.command_id);
        END""",
    "transitions_no_update": """
        BEFORE UPDATE ON transitions BEGIN SELECT RAISE(ABORT, 'transitions: records are never changed'); END""",
    "transitions_no_delete": """
        BEFORE DELETE ON transitions BEGIN SELECT RAISE(ABORT, 'transitions: records are never removed'); END""",
    "sessions_follow_insert": f"""
        BEFORE INSERT ON sessions BEGIN
            SELECT RAISE(ABORT, 'sessions: a projection begins with its first record') WHERE NEW.version <> 1
                OR (NEW.subject, NEW.epoch, NEW.rotation) IS NOT (NULL, 0, 0)
                OR (NEW.reason IS NOT NULL) <> (NEW.state {_ENDED})
                OR EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id) OR NOT EXISTS (
                SELECT 1 FROM transitions
                WHERE session_id = NEW.session_id AND version = 1 AND (target, at_ms) = (NEW.state, NEW.updated_at_ms));
        END""",  # noqa: S608  # states of ours
    "sessions_follow_update": f"""
        BEFORE UPDATE ON sessions BEGIN
            SELECT RAISE(ABORT, 'sessions: the projection only follows the log') WHERE NEW.session_id <> OLD.session_id
                OR (NEW.reason IS NOT NULL) <> (NEW.state {_ENDED})
                OR NEW.version <> OLD.version + 1 OR NOT EXISTS (
                SELECT 1 FROM transitions
                WHERE session_id = NEW.session_id AND version = NEW.version AND (target, at_ms) = (NEW.state, NEW.updated_at_ms)
                AND NEW.subject IS CASE WHEN {_IS_LOGIN} THEN json_extract(data, '$.subject') ELSE OLD.subject END
                AND NEW.epoch = OLD.epoch + ({_IS_LOGIN}) AND NEW.rotation = OLD.rotation + (event = 'refresh'));
        END""",  # noqa: S608  # event names of ours
    "sessions_no_delete": """
        BEFORE DELETE ON sessions BEGIN SELECT RAISE(ABORT, 'sessions: the projection only follows the log'); END""",
    "audit_in_order": """
        BEFORE INSERT ON audit BEGIN
            SELECT RAISE(ABORT, 'audit: position does not follow the last record')
                WHERE NEW.position <> coalesce((SELECT max(position) FROM audit), 0) + 1;
        END""",
    "audit_no_update": """
        BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit: records are never changed'); END""",
    "audit_no_delete": """
        BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit: records are never removed'); END""",
    "lifecycle_no_insert": """
        BEFORE INSERT ON lifecycle BEGIN SELECT RAISE(ABORT, 'lifecycle: generated from the declaration'); END""",
    "lifecycle_no_update": """
        BEFORE UPDATE ON lifecycle BEGIN SELECT RAISE(ABORT, 'lifecycle: generated from the declaration'); END""",
    "lifecycle_no_delete": """
        BEFORE DELETE ON lifecycle BEGIN SELECT RAISE(ABORT, 'lifecycle: generated from the declaration'); END""",
}


@_migrations()
def m001_tables(database: sqlite_utils.Database) -> None:
    """The log, its projection, accounts and tickets."""
    for statement in _TABLES:
        database.execute(statement)


@_migrations()
def m002_account_standing(database: sqlite_utils.Database) -> None:
    """Accounts get groups, can be disabled, and need neither address nor password where somebody else proves their owner."""
    database.execute(
        """
        CREATE TABLE accounts_new (
            account_id TEXT PRIMARY KEY,
            email TEXT UNIQUE,
            password_hash TEXT,
            created_at_ms INTEGER NOT NULL,
            password_changed_at_ms INTEGER NOT NULL,
            groups TEXT NOT NULL DEFAULT '[]',
            disabled_at_ms INTEGER
        ) STRICT, WITHOUT ROWID
        """
    )
    database.execute(
        "INSERT INTO accounts_new (account_id, email, password_hash, created_at_ms, password_changed_at_ms)"
        " SELECT account_id, email, password_hash, created_at_ms, password_changed_at_ms FROM accounts"
    )
    database.execute("DROP TABLE accounts")
    database.execute("ALTER TABLE accounts_new RENAME TO accounts")


@_migrations()
def m050_identities(database: sqlite_utils.Database) -> None:
    """Whose account belongs to whom at an identity provider, and which of its tokens were exchanged."""
    for statement in (
        """
        CREATE TABLE identities (
            issuer TEXT NOT NULL,
            subject TEXT NOT NULL,
            account_id TEXT NOT NULL UNIQUE,
            created_at_ms INTEGER NOT NULL,
            PRIMARY KEY (issuer, subject)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE exchanged_tokens (
            token_hash BLOB PRIMARY KEY CHECK (length(token_hash) = 32),
            expires_at_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX exchanged_tokens_by_expiry ON exchanged_tokens (expires_at_ms)",
    ):
        database.execute(statement)


@_migrations()
def m040_administration(database: sqlite_utils.Database) -> None:
    """The audit trail, and an index for every order in which sessions are listed."""
    database.execute(
        """
        CREATE TABLE audit (
            position INTEGER PRIMARY KEY,
            at_ms INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            object TEXT NOT NULL,
            detail TEXT NOT NULL,
            address TEXT
        ) STRICT
        """
    )
    for column, where in (
        ("state", ""),
        ("subject", " WHERE subject IS NOT NULL"),
        ("reason", " WHERE reason IS NOT NULL"),
    ):
        for order in ("created", "updated"):
            if (column, order) != ("subject", "updated"):
                database.execute(
                    f"CREATE INDEX sessions_of_{column}_{order}"
                    f" ON sessions ({column}, {order}_at_ms, session_id){where}"
                )
    database.execute("CREATE INDEX accounts_disabled ON accounts (account_id) WHERE disabled_at_ms IS NOT NULL")


@_migrations()
def m060_proofs(database: sqlite_utils.Database) -> None:
    """How old the proof was at a session's last login. Every login before this one was a proof itself."""
    database.execute("ALTER TABLE sessions ADD COLUMN proof_age_ms INTEGER DEFAULT 0")


@_migrations()
def m070_refresh_tokens(database: sqlite_utils.Database) -> None:
    """Each session knows which of its refresh tokens are honoured, and each ticket the key of the token that bought it."""
    for statement in (
        "DROP TRIGGER IF EXISTS sessions_follow_update",
        "ALTER TABLE sessions ADD COLUMN refresh_tokens TEXT NOT NULL DEFAULT '[]'",
        # The newest, and the one before it: what a later exchange leaves of them depends on the newest alone.
        """
        UPDATE sessions SET refresh_tokens = iif(
            rotated_at_ms IS NULL,
            json_array(json_array(rotation, updated_at_ms, NULL, NULL)),
            json_array(
                json_array(rotation - 1, 0, rotated_at_ms, NULL), json_array(rotation, rotated_at_ms, NULL, NULL)
            )
        )
        """,
        "ALTER TABLE sessions DROP COLUMN rotated_at_ms",
        "ALTER TABLE tickets ADD COLUMN kid TEXT NOT NULL DEFAULT ''",
    ):
        database.execute(statement)


_NOT_ENDED: Final = " OR ".join(
    (
        f"state < '{_FINAL[0]}'",
        *(f"state > '{before}' AND state < '{after}'" for before, after in itertools.pairwise(_FINAL)),
        f"state > '{_FINAL[-1]}'",
    )
)
"""Every state but the final ones, those included that nobody declared. As ranges, so that SQLite takes an index."""

LIVE_UNLIKE_LOG: Final = f"""
    SELECT session_id FROM sessions AS projected
    WHERE session_id IN (
        SELECT session_id FROM sessions WHERE {_NOT_ENDED} UNION ALL SELECT session_id FROM sessions WHERE reason IS NULL)
    AND NOT EXISTS (
        SELECT 1 FROM (
            SELECT max(version) AS newest,
                max(version) FILTER (WHERE event = 'create' OR {_IS_LOGIN}) AS login,
                max(at_ms) FILTER (WHERE event IN ('create', 'touch') OR {_IS_LOGIN}) AS active_at_ms,
                count(*) FILTER (WHERE {_IS_LOGIN}) AS epoch,
                count(*) FILTER (WHERE event = 'refresh') AS rotation
            FROM transitions WHERE session_id = projected.session_id) AS folded
        JOIN transitions AS first ON (first.session_id, first.version) = (projected.session_id, 1)
        JOIN transitions AS login ON (login.session_id, login.version) = (projected.session_id, folded.login)
        JOIN transitions AS newest ON (newest.session_id, newest.version) = (projected.session_id, folded.newest)
        WHERE newest.target NOT {_ENDED} AND (
            projected.reason, projected.state, projected.version, projected.updated_at_ms,
            projected.subject, projected.epoch, projected.rotation,
            iif(json_valid(projected.refresh_tokens), json_extract(projected.refresh_tokens, '$[#-1][0]'), NULL),
            projected.idle_deadline_ms,
            projected.absolute_deadline_ms,
            projected.proof_age_ms,
            projected.created_at_ms
        ) IS (
            NULL, newest.target, newest.version, newest.at_ms,
            json_extract(login.data, '$.subject'), folded.epoch, folded.rotation, folded.rotation,
            folded.active_at_ms + projected.idle_timeout_ms,
            login.at_ms + projected.absolute_timeout_ms,
            iif(json_type(login.data, '$.proof_age_ms') IS NULL, 0, json_extract(login.data, '$.proof_age_ms')),
            first.at_ms
        ) AND (
            projected.idle_timeout_ms, projected.absolute_timeout_ms, projected.connection_limit, projected.refresh_grace_ms
        ) IS (
            json_extract(first.data, '$.policy.idle_timeout_ms'), json_extract(first.data, '$.policy.absolute_timeout_ms'),
            json_extract(first.data, '$.policy.connection_limit'), json_extract(first.data, '$.policy.refresh_grace_ms')
        ))
    LIMIT 1
"""  # noqa: S608  # event names and states of ours
"""A session that is alive by its state or by its reason, and not by its records, or not like them.

It is the fold of :mod:`interlock.machine.session` in SQL. Connections are left out: they give no rights, and a start ends
them all. Which refresh tokens before the newest are honoured is left to ``interlock verify``.
"""


def check_projection(database: sqlite_utils.Database) -> None:
    """Compare each live session with its records: who it belongs to, what opens it, and when it ends.

    Sessions that have ended are left to ``interlock verify``: a start shall cost as much as there are live sessions.

    Raises:
        SurfaceFailed: one differs.
    """
    found = database.execute(LIVE_UNLIKE_LOG).fetchone()
    if found:
        raise SurfaceFailed(
            f"the projection of session {found[0]} differs from its log: something other than the server has changed it. Keep"
            " everything as it is, and look at it with `interlock verify`"
        )


def refuse_foreign(database: sqlite_utils.Database) -> None:
    """Look at a file before anything is written to it.

    Raises:
        SurfaceFailed: it is another program's.
    """
    known = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    if known and not {"_sqlite_migrations", "transitions"} <= known:
        raise SurfaceFailed("this database holds tables that are not Interlock's")


def migrate(database: sqlite_utils.Database) -> None:
    """Bring the file up to this version's tables and this declaration's legal transitions, and let ``database`` append.

    Raises:
        SurfaceFailed: the file is not an Interlock log, or is of a newer version.
    """
    try:
        refuse_foreign(database)
        newer = {m.name for m in _migrations.applied(database)} - {m.name for m in _migrations._migrations}  # noqa: SLF001  # the library offers no public list of its own names
        if newer:
            raise SurfaceFailed(f"this log was written by a newer Interlock (it has {', '.join(sorted(newer))})")
        # All or nothing: the library's own table alone would make a file that was killed at its first start another program's.
        with database.atomic():
            _migrations.apply(database)
            _install_legality(database)
        for statement in APPEND_STEPS:
            database.execute(statement)
    except Error as error:
        raise SurfaceFailed(f"the log can't be prepared: {error}") from error


def _install_legality(database: sqlite_utils.Database) -> None:
    """Make lifecycle table and triggers say what this program declares; write nothing when they already do."""
    triggers = {name: f"CREATE TRIGGER {name}{body}" for name, body in _TRIGGERS.items()}
    rows = sorted(sql_rows(SESSION))
    installed = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall())
    has_table = database["lifecycle"].exists()
    current = (
        sorted(database.execute("SELECT event, source, target, guards FROM lifecycle").fetchall())
        if has_table
        else None
    )
    if installed == triggers and current == rows:
        return
    with database.atomic():
        for name in installed:
            database.execute(f"DROP TRIGGER {name}")
        if has_table:
            database.execute("DROP TABLE lifecycle")
        database.execute(sql_table())
        database.conn.executemany("INSERT INTO lifecycle VALUES (?, ?, ?, ?)", rows)
        for statement in triggers.values():
            database.execute(statement)
