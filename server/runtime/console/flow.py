"""Live numbers of the console: how many instances are in each state, and how often each transition and refusal happens.

Everything is counted once for all pages that are open. A page shows rates, which it makes from two readings.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import Record
from interlock.server.clock import Clock
from interlock.server.runtime.connections import Connections

_KEPT: Final = 64
"""Ended sessions whose closed sockets are remembered, for the page that ended one."""

Edge = tuple[str, str, str | None, str]
"""Kind, event, source and target of a transition."""

Refused = tuple[str, str, str | None, str | None]
"""Kind, event, state and guard of a refusal."""


class Ending(msgspec.Struct, frozen=True):
    """How an ended session's sockets closed: how many, and how long after the end was decided the last one was closed.

    That includes the write to the disk: no socket is closed for an end that is not recorded.
    """

    session_id: str
    position: int
    sockets: int
    ms: int


class Flow:
    """Counts since the start of this process. ``states`` are the live instances when the log was opened, by kind and state."""

    def __init__(self, states: Mapping[tuple[str, str], int], connections: Connections, clock: Clock) -> None:
        self.states: Final[Counter[tuple[str, str]]] = Counter(states)
        """Instances by kind and state; of a final state, those that have ended since the start."""
        self.edges: Final[Counter[Edge]] = Counter()
        self.refusals: Final[Counter[Refused]] = Counter()
        self.last_ending: Ending | None = None
        self._connections = connections
        self._clock = clock
        self._ending: dict[str, tuple[Record, int]] = {}
        self._endings: dict[str, Ending] = {}
        self._changed = asyncio.Event()

    def observe(self, record: Record, _instance: Any | None) -> None:
        """Count ``record``."""
        move = record.transition
        self.edges[move.kind, move.event, move.source, move.target] += 1
        if move.source != move.target:
            if move.source is not None:
                self.states[move.kind, move.source] -= 1
            self.states[move.kind, move.target] += 1

    def refused(self, kind: str, _instance_id: str, refusal: TransitionRefused) -> None:
        """Count a refused command to an instance of ``kind``."""
        self.refusals[kind, refusal.event, refusal.state, refusal.guard] += 1

    def ended(self, record: Record, sockets: int) -> None:
        """Note that ``record`` ended a session, and that its ``sockets`` were told to close."""
        session_id = record.transition.instance_id
        self._ending[session_id] = (record, sockets)
        if not self._connections.of_session(session_id):
            self.last_closed(session_id)

    def last_closed(self, session_id: str) -> None:
        """Note that a session has no open socket any more."""
        ending = self._ending.pop(session_id, None)
        if ending is None:
            return
        record, sockets = ending
        took_ms = max(0, self._clock.now_ms() - record.transition.at_ms)
        self.last_ending = self._endings[session_id] = Ending(session_id, record.position, sockets, took_ms)
        if len(self._endings) > _KEPT:
            del self._endings[next(iter(self._endings))]
        self._changed.set()
        self._changed = asyncio.Event()

    async def ending_of(self, session_id: str, at_most_s: float) -> Ending | None:
        """Return how an ended session's sockets closed, when the last one has; None if it had none, or after ``at_most_s``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while session_id in self._ending:
                    await self._changed.wait()
        return self._endings.get(session_id)
