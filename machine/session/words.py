"""Texts about sessions for people: why a guard failed, what a record says, and the session's state at a given time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from interlock.machine.closing import CLOSE_CODES
from interlock.machine.machine import Words
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Expire,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.session import Session, alive, overdue_reason
from interlock.machine.times import rfc3339


def _lives(session: Session, _data: Any) -> str:
    return f"the session lives until {_deadline(session)}"


def _lived(session: Session, _data: Any) -> str:
    return f"the session lived until {_deadline(session)}"


def _deadline(session: Session) -> str:
    which = "idle" if session.idle_deadline_ms <= session.absolute_deadline_ms else "absolute"
    return f"{rfc3339(session.deadline_ms)}, its {which} deadline"


def _subject(session: Session, data: Any) -> str:
    return f"the session is of {session.subject}, and this is {data.subject}"


def _connections(session: Session, _data: Any) -> str:
    return f"the session holds {len(session.connections)} of {session.policy.connection_limit} connections"


def _connection(session: Session, data: Any) -> str:
    held = ", ".join(connection.connection_id for connection in session.connections) or "none"
    return f"the session holds {held}, and this is {data.connection_id}"


def _rotation(session: Session, data: Any) -> str:
    honoured = ", ".join(str(token.rotation) for token in session.refresh_tokens) or "none"
    return (
        f"the session is at epoch {session.epoch} and may honour rotation {honoured}, and this is epoch {data.epoch},"
        f" rotation {data.rotation}"
    )


_FACTS: Final[dict[str, Callable[[Session, Any], str]]] = {
    "alive": _lived,
    "not alive": _lives,
    "same_subject": _subject,
    "below_connection_limit": _connections,
    "known_connection": _connection,
    "last_connection": _connections,
    "rotation_honoured": _rotation,
}


def _policy(data: Create, _before: Session) -> str:
    policy = data.policy
    return (
        f"it expires after {_duration(policy.idle_timeout_ms)} without activity, and {_duration(policy.absolute_timeout_ms)}"
        f" after its last login; at most {policy.connection_limit} connections"
    )


def _who(data: Authenticate | Reauthenticate, before: Session) -> str:
    return f"{data.subject} by {data.method}{_proof(data.auth_age_ms)}: epoch {before.epoch + 1}"


def _proof(age_ms: int | None) -> str:
    if age_ms is None:
        return ", proved nobody knows when"
    whole_s_ms = age_ms // 1000 * 1000
    return f", proved {_duration(whole_s_ms)} before" if whole_s_ms else ""


def _opened(data: Connect, before: Session) -> str:
    return f"{data.connection_id} on {data.node}: {_count(len(before.connections) + 1)}"


def _closed(data: Disconnect, before: Session) -> str:
    node = next(each.node for each in before.connections if each.connection_id == data.connection_id)
    meaning = _CLOSED.get(data.code)
    code = f"{data.code} ({meaning})" if meaning else str(data.code)
    return f"{data.connection_id} on {node}, close code {code}: {_count(len(before.connections) - 1)}"


def _exchanged(data: Refresh, before: Session) -> str:
    again = ", presented again" if data.rotation != before.rotation else ""
    return f"epoch {data.epoch}, rotation {data.rotation}{again}: rotation {before.rotation + 1} is issued"


def _ended(data: Revoke | Expire, before: Session) -> str:
    return f"{data.reason}, with {_count(len(before.connections))}"


def _count(connections: int) -> str:
    return f"{connections} connection{'' if connections == 1 else 's'} open"


def _duration(ms: int) -> str:
    for unit, length in (("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms % length == 0:
            return f"{ms // length} {unit}"
    return f"{ms} ms"


def _first_connection(session: Session) -> str:
    return session.connections[0].connection_id if session.connections else "any connection"


# 1001 is the server's when it stops, and the browser's when a page is left. Who closed is the record's actor.
_CLOSED: Final = {row.code: row.name for row in CLOSE_CODES.values()} | {
    1001: "going away",
    1006: "nobody saw it close",
}

_PARTICULARS: Final[dict[str, Callable[[Any, Session], str]]] = {
    "create": _policy,
    "authenticate": _who,
    "reauthenticate": _who,
    "connect": _opened,
    "disconnect": _closed,
    "refresh": _exchanged,
    "revoke": _ended,
    "expire": _ended,
}

# The data of a typical command: the same subject, a new connection or an open one, the current refresh token.
_SENSIBLE: Final[dict[str, Callable[[Session, int], Data]]] = {
    "create": lambda session, _: Create(session.policy),
    "authenticate": lambda session, _: Authenticate(session.subject or "somebody", "password"),
    "reauthenticate": lambda session, _: Reauthenticate(session.subject or "somebody", "password"),
    "connect": lambda _session, _: Connect("another connection", "any node"),
    "disconnect": lambda session, _: Disconnect(_first_connection(session), 1000),
    "refresh": lambda session, _: Refresh(session.epoch, session.rotation),
    "touch": lambda _session, _: Touch(),
    "revoke": lambda _session, _: Revoke("revoked"),
    "expire": lambda session, now_ms: Expire(overdue_reason(session, now_ms)),
}


def _stands(session: Session, now_ms: int) -> dict[str, Any]:
    return {
        "subject": session.subject,
        "alive": not session.ended and alive(session, None, now_ms),
        "reason": session.reason,
        "connections": session.connections,
        "idle_expires_at": rfc3339(session.idle_deadline_ms),
        "expires_at": rfc3339(session.absolute_deadline_ms),
        "epoch": session.epoch,
        "rotation": session.rotation,
    }


WORDS: Final = Words(_FACTS, _PARTICULARS, _SENSIBLE, _stands)
