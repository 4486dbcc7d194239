"""Sessions and records as database rows, and back."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from machine.commands import Policy
from machine.errors import SurfaceFailed
from machine.ledger import StoredRow
from machine.session import Connection, Session

_connections_encoder: Final = msgspec.json.Encoder()
_connections_decoder: Final = msgspec.json.Decoder(tuple[Connection, ...])

TRANSITION_COLUMNS: Final = (
    "position, session_id, version, event, source, target, at_ms, actor, command_id, data, digest"
)
INSERT_TRANSITION: Final = f"INSERT INTO transitions ({TRANSITION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # column names of ours

_CHANGING: Final = (
    "state",
    "version",
    "subject",
    "epoch",
    "rotation",
    "rotated_at_ms",
    "connections",
    "updated_at_ms",
    "idle_deadline_ms",
    "absolute_deadline_ms",
    "proof_age_ms",
    "reason",
)
_FIXED: Final = (
    "created_at_ms",
    "idle_timeout_ms",
    "absolute_timeout_ms",
    "connection_limit",
    "refresh_grace_ms",
    "session_id",
)
SESSION_COLUMNS: Final = ", ".join((*_CHANGING, *_FIXED))
INSERT_SESSION: Final = (
    f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({', '.join('?' * (len(_CHANGING) + len(_FIXED)))})"  # noqa: S608  # column names of ours
)
UPDATE_SESSION: Final = f"UPDATE sessions SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE session_id = ?"  # noqa: S608  # column names of ours


def stored_row(row: tuple[Any, ...]) -> StoredRow:
    """The record in a row of TRANSITION_COLUMNS, unchecked."""
    return StoredRow(*row)


def changing_values(session: Session) -> tuple[Any, ...]:
    """What UPDATE_SESSION sets, without the id that ends its parameters."""
    return (
        session.state,
        session.version,
        session.subject,
        session.epoch,
        session.rotation,
        session.rotated_at_ms,
        _connections_encoder.encode(session.connections).decode() if session.connections else "[]",
        session.updated_at_ms,
        session.idle_deadline_ms,
        session.absolute_deadline_ms,
        session.proof_age_ms,
        session.reason,
    )


def all_values(session: Session) -> tuple[Any, ...]:
    """The parameters of INSERT_SESSION."""
    policy = session.policy
    return (
        *changing_values(session),
        session.created_at_ms,
        policy.idle_timeout_ms,
        policy.absolute_timeout_ms,
        policy.connection_limit,
        policy.refresh_grace_ms,
        session.session_id,
    )


def session_from(row: tuple[Any, ...]) -> Session:
    """The session in a row of SESSION_COLUMNS.

    Raises:
        SurfaceFailed: the row can't be read: it was not written by a server.
    """
    (
        state,
        version,
        subject,
        epoch,
        rotation,
        rotated_at_ms,
        connections,
        updated_at_ms,
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
        rotated_at_ms=rotated_at_ms,
        connections=_connections(session_id, connections),
        created_at_ms=created_at_ms,
        updated_at_ms=updated_at_ms,
        idle_deadline_ms=idle_deadline_ms,
        absolute_deadline_ms=absolute_deadline_ms,
        proof_age_ms=proof_age_ms,
        policy=Policy(idle_timeout_ms, absolute_timeout_ms, connection_limit, refresh_grace_ms),
        reason=reason,
    )


def _connections(session_id: str, text: str) -> tuple[Connection, ...]:
    try:
        return _connections_decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise SurfaceFailed(f"the projection of session {session_id} can't be read: {error}") from None
