"""Sessions and records as database rows, and back."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from interlock.machine.commands import Policy
from interlock.machine.errors import SurfaceFailed
from interlock.machine.ledger import StoredRow, fields_of
from interlock.machine.refresh_tokens import IssuedToken
from interlock.machine.session import Connection, Session

T = TypeVar("T")

_encoder: Final = msgspec.json.Encoder()
_tokens_decoder: Final = msgspec.json.Decoder(tuple[IssuedToken, ...])
_connections_decoder: Final = msgspec.json.Decoder(tuple[Connection, ...])

TRANSITION_COLUMNS: Final = (
    "position, session_id, version, event, source, target, at_ms, actor, command_id, data, digest"
)
_STATE: Final = {"state": "target", "version": "version", "updated_at_ms": "at_ms"}
"""Columns of a session that its last transition has, under another name."""

_CHANGING: Final = (
    "subject",
    "epoch",
    "rotation",
    "refresh_tokens",
    "connections",
    "idle_deadline_ms",
    "absolute_deadline_ms",
    "proof_age_ms",
    "reason",
)
_FIXED: Final = ("created_at_ms", "idle_timeout_ms", "absolute_timeout_ms", "connection_limit", "refresh_grace_ms")
SESSION_COLUMNS: Final = ", ".join((*_STATE, *_CHANGING, *_FIXED, "session_id"))

_STEP_COLUMNS: Final = (*TRANSITION_COLUMNS.split(", "), *_CHANGING, *_FIXED)
_NEW: Final = {name: f"NEW.{name}" for name in (*_CHANGING, *_FIXED, "session_id")} | {
    name: f"NEW.{source}" for name, source in _STATE.items()
}
APPEND_STEPS: Final = (
    f"CREATE TEMP VIEW steps AS SELECT {', '.join(f'NULL AS {name}' for name in _STEP_COLUMNS)}",
    f"""
    CREATE TEMP TRIGGER append_step INSTEAD OF INSERT ON steps BEGIN
        INSERT INTO transitions ({TRANSITION_COLUMNS})
            VALUES ({", ".join(f"NEW.{name}" for name in TRANSITION_COLUMNS.split(", "))});
        INSERT INTO sessions ({SESSION_COLUMNS})
            SELECT {", ".join(_NEW[name] for name in SESSION_COLUMNS.split(", "))} WHERE NEW.version = 1;
        UPDATE sessions SET {", ".join(f"{name} = {_NEW[name]}" for name in (*_STATE, *_CHANGING))}
            WHERE session_id = NEW.session_id AND NEW.version > 1;
    END""",  # noqa: S608  # column names of ours
)
"""What a connection executes once, so that one statement can append any number of steps: a record and its projection each.

The writer's thread gives the interpreter's lock away at every statement and waits to get it back. For every row SQLite runs
this trigger, and with it those that guard both tables, before it takes the next row.
"""

STEP_WIDTH: Final = len(_STEP_COLUMNS)


@functools.cache
def insert_steps(count: int) -> str:
    """The statement that appends ``count`` steps. Its parameters are those of each :func:`step_values`, in order."""
    row = f"({', '.join('?' * STEP_WIDTH)})"
    return f"INSERT INTO steps VALUES {', '.join([row] * count)}"  # noqa: S608  # nothing but placeholders


def stored_row(row: tuple[Any, ...]) -> StoredRow:
    """The record in a row of TRANSITION_COLUMNS, unchecked."""
    return StoredRow(*row)


def step_values(row: StoredRow, session: Session) -> tuple[Any, ...]:
    """The parameters of one step: its record, and the session after it."""
    policy = session.policy
    return (
        *fields_of(row),
        session.subject,
        session.epoch,
        session.rotation,
        _encoder.encode(session.refresh_tokens).decode(),
        _encoder.encode(session.connections).decode() if session.connections else "[]",
        session.idle_deadline_ms,
        session.absolute_deadline_ms,
        session.proof_age_ms,
        session.reason,
        session.created_at_ms,
        policy.idle_timeout_ms,
        policy.absolute_timeout_ms,
        policy.connection_limit,
        policy.refresh_grace_ms,
    )


def session_from(row: Sequence[Any]) -> Session:
    """The session in a row of SESSION_COLUMNS.

    Raises:
        SurfaceFailed: the row can't be read: it was not written by a server.
    """
    (
        state,
        version,
        updated_at_ms,
        subject,
        epoch,
        rotation,
        refresh_tokens,
        connections,
        idle_deadline_ms,
        absolute_deadline_ms,
        proof_age_ms,
        reason,
        created_at_ms,
        idle_timeout_ms,
        absolute_timeout_ms,
        connection_limit,
        refresh_grace_ms,
        session_id,
    ) = row
    return Session(
        session_id=session_id,
        state=state,
        version=version,
        subject=subject,
        epoch=epoch,
        rotation=rotation,
        refresh_tokens=_decoded(_tokens_decoder, session_id, refresh_tokens),
        connections=_decoded(_connections_decoder, session_id, connections),
        created_at_ms=created_at_ms,
        updated_at_ms=updated_at_ms,
        idle_deadline_ms=idle_deadline_ms,
        absolute_deadline_ms=absolute_deadline_ms,
        proof_age_ms=proof_age_ms,
        policy=Policy(idle_timeout_ms, absolute_timeout_ms, connection_limit, refresh_grace_ms),
        reason=reason,
    )


def _decoded(decoder: msgspec.json.Decoder[T], session_id: str, text: str) -> T:
    try:
        return decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise SurfaceFailed(f"the projection of session {session_id} can't be read: {error}") from None
