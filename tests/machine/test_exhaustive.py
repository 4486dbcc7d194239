"""Every reachable session of a small world, and every command to each of them.

The world: two subjects, three connections of which two may be open, milliseconds for time. Sessions that differ only in
when they began, or in how many epochs, rotations and versions they have had, count as one; so the world is finite and is
explored completely, without a bound on the depth.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from interlock.machine.machine import Command, Transition
from interlock.machine.session.commands import (
    Authenticate,
    Connect,
    Create,
    Data,
    Disconnect,
    Expire,
    Policy,
    Reauthenticate,
    Refresh,
    Revoke,
    Touch,
)
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.spec.lifecycles import SESSION
from tests.machine.promises import Opinion, check_all, take

_POLICY: Final = Policy(idle_timeout_ms=4, absolute_timeout_ms=8, connection_limit=2, refresh_grace_ms=1)
_TOKENS: Final = 3
_TABS: Final = ("x", "y", "z")
_SUBJECTS: Final = ("alice", "bob")
# Fewer than these mean that the search no longer goes where it should.
_SESSIONS: Final = 3_000
_ACCEPTED: Final = 19_000


def _commands(session: Session) -> list[Data]:
    epoch, rotation = session.epoch, session.rotation
    return [
        Create(_POLICY),
        *(Authenticate(subject, "password") for subject in _SUBJECTS),
        *(Reauthenticate(subject, "password") for subject in _SUBJECTS),
        *(Connect(tab, "node") for tab in _TABS),
        *(Disconnect(tab, 1000) for tab in _TABS),
        *(
            Refresh(e, r)
            for e, r in (*((epoch, rotation + step) for step in (-2, -1, 0, 1)), (epoch - 1, rotation))
            # Within one grace the number of tokens is unlimited.
            if len(session.refresh_tokens) < _TOKENS
        ),
        Touch(),
        Revoke("logout"),
        Expire("idle"),
    ]


def _shape(session: Session, opinion: Opinion, now_ms: int) -> tuple[object, ...]:
    """Return what of ``session`` can matter to any later command."""
    if session.state is None or session.ended:
        return (session.state, session.reason)
    tokens = tuple(
        (
            session.rotation - token.rotation,
            min(now_ms - token.issued_at_ms, 2),
            token.used_at_ms if token.used_at_ms is None else min(now_ms - token.used_at_ms, 2),
            token.until_ms if token.until_ms is None else max(token.until_ms - now_ms, 0),
        )
        for token in session.refresh_tokens
    )
    return (
        session.state,
        session.subject,
        tuple(sorted(connection.connection_id for connection in session.connections)),
        max(session.idle_deadline_ms - now_ms, 0),
        max(session.absolute_deadline_ms - now_ms, 0),
        # If the second opinion differs, so do the states; otherwise a wrong clock would hide behind a right one.
        max(opinion.deadline_ms - now_ms, 0),
        max(opinion.absolute_from_ms + _POLICY.absolute_timeout_ms - now_ms, 0),
        tokens,
        min(session.epoch, 1),
    )


def test_every_edge_keeps_every_promise() -> None:
    queue: deque[tuple[Session, tuple[Transition, ...], int]] = deque([(SESSION_MACHINE.absent("s"), (), 1)])
    seen: set[tuple[object, ...]] = set()
    taken: set[tuple[str, str | None, str]] = set()
    failed_guards: set[str | None] = set()
    accepted = 0
    while queue:
        session, log, now_ms = queue.popleft()
        opinion = Opinion(log)
        shape = _shape(session, opinion, now_ms)
        if shape in seen:
            continue
        seen.add(shape)
        for data in _commands(session):
            step = take(session, log, opinion, Command(f"c{len(log)}", "test", data), now_ms)
            check_all(step)
            if step.transition is None:
                failed_guards.add(step.guard)
                continue
            accepted += 1
            taken.add((step.transition.event, step.transition.source, step.transition.target))
            queue.append((step.after, step.log_after, now_ms))
        if session.state is not None and not session.ended:
            queue.append((session, log, now_ms + 1))
    print(f"{len(seen)} sessions, {accepted} accepted commands")  # noqa: T201  # the figure in the docs: pytest -s
    assert len(seen) >= _SESSIONS
    assert accepted >= _ACCEPTED
    assert taken == {(row.event, row.source, row.target) for row in SESSION.transitions}
    # The guards of disconnect's two rows complement each other, so `last_connection` never refuses.
    asked = {str(term) for row in SESSION.transitions for term in row.guards}
    assert failed_guards == asked - {"last_connection", "not last_connection"} | {None}
