"""Sessions, commands and logs for tests, built through the real ``decide`` and ``evolve``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from interlock.machine.ledger import GENESIS, StoredRow, chain
from interlock.machine.machine import Command, Transition
from interlock.machine.session.commands import Authenticate, Connect, Create, Data, Policy
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session, evolve

POLICY: Final = Policy(idle_timeout_ms=1_000, absolute_timeout_ms=5_000, connection_limit=2, refresh_grace_ms=100)

Step = tuple[Data, int]
"""A command's data, and its time in milliseconds."""


def history(session_id: str, steps: Iterable[Step]) -> list[Transition]:
    """Return the transitions of one session that takes ``steps``, with command ids ``c1``, ``c2`` …"""
    session, transitions = SESSION_MACHINE.absent(session_id), []
    for n, (data, now_ms) in enumerate(steps, 1):
        transition = SESSION_MACHINE.decide(session, Command(f"c{n}", "test", data), now_ms)
        session = evolve(session, transition)
        transitions.append(transition)
    return transitions


def session_after(*steps: Step, session_id: str = "s") -> Session:
    """Return the session that takes ``steps``."""
    session = SESSION_MACHINE.absent(session_id)
    for transition in history(session_id, steps):
        session = evolve(session, transition)
    return session


def rows_of(transitions: Iterable[Transition]) -> list[StoredRow]:
    """Return the log that records ``transitions`` in this order, from position 1."""
    rows: list[StoredRow] = []
    for transition in transitions:
        previous = rows[-1].digest if rows else GENESIS
        rows.append(chain(previous, len(rows) + 1, transition))
    return rows


CREATE: Final = Create(POLICY)
LOGIN: Final = Authenticate("alice", "password")
OPEN: Final = Connect("tab", "node")

MESSAGES: list[dict[str, Any]] = [
    {"type": "ping"},
    {"type": "refresh", "access_token": "a"},
    {"type": "intent", "id": "i", "name": "n", "parameters": [1]},
    {"type": "cancel", "execution_id": "e"},
    {"type": "resume", "epoch": "e", "offset": 0},
]
"""A message of each type that a client sends."""
