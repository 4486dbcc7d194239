"""Refusals and faults in words: what was tried, what stood against it, what is missing; guards in the declaration's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import HEAD_LAG, Receipt
from interlock.machine.session import Session
from interlock.machine.wire import rfc3339
from interlock.spec.lifecycles import SESSION

_SENTENCES: Final = {guard.name: guard.description for guard in SESSION.guards}


def refusal(refused: TransitionRefused, session: Session, data: Any) -> str:
    """Why the declaration does not let ``refused.event`` with ``data`` happen to ``session``."""
    tried = f"{refused.event} {f'from {refused.state}' if refused.state else 'before create'}"
    if refused.guard is None:
        return f"refused: {tried}. The declaration has {refused.event} {_places(refused.event)} only."
    name = refused.guard.removeprefix("not ")
    fact = _FACTS.get(refused.guard, _FACTS[name])(session, data)
    return f"refused: {tried}: guard `{refused.guard}` fails: {fact}. `{name}`: {_SENTENCES[name]}"


def altered(version: int, before: Session | None) -> str:
    """What a digest that does not fit may mean at a record of ``version``; its session so far is ``before``, or has ended."""
    if before is None:
        guess = "its session had ended before, so a record was repeated or moved"
    elif version <= before.version:
        guess = f"version {version} of its session was recorded before, so a record was repeated or moved"
    elif version > before.version + 1:
        guess = f"it is version {version} of a session that is at {before.version}, so a record was removed or moved"
    else:
        guess = "the record was changed, or is not the one that was written here"
    return f"digest does not match the record and the one before it: {guess}"


def out_of_place(position: int, last: int) -> str:
    """What it means that ``position`` comes after ``last``."""
    if position <= last:
        return f"follows record {last}: it is there twice, or out of order"
    missing = f"record {last + 1} is" if position == last + 2 else f"records {last + 1} to {position - 1} are"
    return f"follows record {last}: {missing} missing"


def broken_head(head: Receipt, there: Receipt | None, end: int) -> str | None:
    """How a log that ends at ``end``, and has ``there`` in the place of ``head``, breaks what its signed head says."""
    if there == head:
        return None
    if there is not None:
        return f"record {head.position} has another digest than its signed head says: {_REWRITTEN}"
    if end >= head.position:
        return f"record {head.position} is missing, and its signed head says it was there"
    gone = head.position - end
    removed = f"the last {gone} records were" if gone > 1 else "the last record was"
    return f"the log ends at record {end}; its signed head says {head.position}: {removed} removed"


def beyond_head(position: int, end: int, *, final: bool) -> str | None:
    """What is wrong when the log ends at ``end`` and its head says ``position``; None while the head can lag that far.

    ``final``: the head was signed at a clean stop, after the last record.
    """
    more = end - position
    if final and more > 0:
        added = f"the {more} records after it were" if more > 1 else "the record after it was"
        return f"the log ends at record {end}; its signed head says the server stopped at {position}: {added} not written by it"
    if more > HEAD_LAG:
        return f"the log ends at record {end}, {more} after its signed head, which lags by {HEAD_LAG} records at most"
    return None


def short_of(at_least: int, end: int) -> str | None:
    """What is wrong when the log ends at ``end`` and is known to have held record ``at_least``."""
    if end >= at_least:
        return None
    return f"the log ends at record {end}, and must hold at least {at_least}: records were removed, or this is an older copy"


def broken_receipt(receipt: Receipt, there: Receipt | None, end: int) -> str | None:
    """How a log that ends at ``end``, and has ``there`` in the place of ``receipt``, breaks it."""
    if there == receipt:
        return None
    if there is not None:
        return f"record {receipt.position} has another digest: {_REWRITTEN}"
    if end >= receipt.position:
        return f"record {receipt.position} is missing"
    return f"the log ends at {end}: records were removed"


_REWRITTEN: Final = "the log was rewritten from there or before"


def _places(event: str) -> str:
    """From which states the declaration has ``event``."""
    sources = [row.source for row in SESSION.transitions if row.event == event]
    states = [state.name for state in SESSION.states if state.name in sources]
    if not states:
        return "as a session's first record"
    return f"from {' and '.join(filter(None, (', '.join(states[:-1]), states[-1])))}"


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
