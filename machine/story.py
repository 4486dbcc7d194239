"""A session's life in words: what each record says, in the declaration's sentences, and how things stood at a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from interlock.machine.closing import CLOSE_CODES
from interlock.machine.commands import (
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
from interlock.machine.errors import TransitionRefused
from interlock.machine.explain import refusal
from interlock.machine.ledger import Record
from interlock.machine.session import TABLE, Connection, Session, absent, alive, evolve, overdue_reason
from interlock.machine.wire import rfc3339
from interlock.spec.lifecycles import SESSION


class Step(msgspec.Struct, frozen=True):
    """One record in words. ``sentence`` is the event's in the declaration, ``particulars`` what the record adds to it."""

    version: int
    position: int
    at: str
    actor: str
    event: str
    source: str | None
    target: str
    sentence: str
    particulars: str


class Outlook(msgspec.Struct, frozen=True):
    """What one event would do: lead to ``target``, or be refused for ``refused``."""

    event: str
    target: str | None
    refused: str | None


class Moment(msgspec.Struct, frozen=True):
    """How a session stood at ``at``: after ``version`` records, ``alive`` or not, and what would be possible then."""

    at: str
    version: int
    state: str
    subject: str | None
    alive: bool
    reason: str | None
    connections: tuple[Connection, ...]
    idle_expires_at: str
    expires_at: str
    epoch: int
    rotation: int
    outlook: list[Outlook]


def tell(session_id: str, records: Iterable[Record]) -> tuple[list[Step], Session]:
    """The story of ``records``, which are a session's from its first on, and the session after them."""
    session, steps = absent(session_id), []
    for record in records:
        steps.append(_step(record, session))
        session = evolve(session, record.transition)
    return steps, session


def moment(session: Session, now_ms: int) -> Moment:
    """How ``session`` (at version 1 or later) stands at ``now_ms``."""
    return Moment(
        at=rfc3339(now_ms),
        version=session.version,
        state=session.state or "",
        subject=session.subject,
        alive=not session.ended and alive(session, None, now_ms),
        reason=session.reason,
        connections=session.connections,
        idle_expires_at=rfc3339(session.idle_deadline_ms),
        expires_at=rfc3339(session.absolute_deadline_ms),
        epoch=session.epoch,
        rotation=session.rotation,
        outlook=[_outlook(session, event.name, now_ms) for event in SESSION.events if event.name in _SENSIBLE],
    )


def _step(record: Record, before: Session) -> Step:
    move = record.transition
    return Step(
        version=move.version,
        position=record.position,
        at=rfc3339(move.at_ms),
        actor=move.actor,
        event=move.event,
        source=move.source,
        target=move.target,
        sentence=_SENTENCES[move.event],
        particulars=_PARTICULARS.get(move.event, _as_recorded)(move.data, before),
    )


def _outlook(session: Session, event: str, now_ms: int) -> Outlook:
    data = _SENSIBLE[event](session, now_ms)
    try:
        return Outlook(event, TABLE.step(session.state, event, session, data, now_ms), None)
    except TransitionRefused as refused:
        return Outlook(event, None, refusal(refused, session, data).removeprefix("refused: "))


def _as_recorded(data: Data, _before: Session) -> str:
    return ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(data).items())


def _policy(data: Create, _before: Session) -> str:
    policy = data.policy
    return (
        f"it expires after {_duration(policy.idle_timeout_ms)} without activity, and {_duration(policy.absolute_timeout_ms)}"
        f" after its last login; at most {policy.connection_limit} connections"
    )


def _who(data: Authenticate | Reauthenticate, before: Session) -> str:
    return f"{data.subject} by {data.method}{_proof(data.proof_age_ms)}: epoch {before.epoch + 1}"


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


_SENTENCES: Final = {event.name: event.description for event in SESSION.events}
_CLOSED: Final = {1006: "nobody saw it close", **{row.code: row.name for row in CLOSE_CODES.values()}}

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

# What the one who is likely to ask would ask: the same subject, a new connection or one that is open, the current token.
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
