"""The transition log without a disk: the same contract, nothing kept. Also what benchmarks compare the real one with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from interlock.machine.errors import Overloaded, RecordRefused, SessionEnded, VersionConflict
from interlock.machine.ledger import GENESIS, Record, chain
from interlock.machine.session import Session
from interlock.server.surface.log import Along, Step
from interlock.spec.export import sql_rows
from interlock.spec.lifecycles import SESSION

_DECLARED = {(event, source, target) for event, source, target, _ in sql_rows(SESSION)}


class MemoryLog:
    """:class:`interlock.server.surface.log.TransitionLog` in dictionaries."""

    failure: str | None = None

    def __init__(self, *, max_waiting: int = 1_000_000) -> None:
        self._max_waiting = max_waiting
        self._waiting = 0
        self._position = 0
        self._head = GENESIS
        self._latest_at_ms = 0
        self._sessions: dict[str, Session] = {}
        self._records: dict[str, list[Record]] = {}
        self._commands: dict[tuple[str, str], int] = {}

    def append(self, steps: Sequence[Step]) -> asyncio.Future[list[Record]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Record]] = loop.create_future()
        if self._waiting >= self._max_waiting:
            future.set_exception(Overloaded())
            return future
        self._waiting += 1
        outcome: list[Record] | Exception
        try:
            outcome = self._write(steps)
        except (VersionConflict, RecordRefused, SessionEnded) as error:
            outcome = error
        loop.call_soon(self._resolve, future, outcome)
        return future

    def lives(self, session_id: str) -> Along:
        def run(_log: object) -> None:
            session = self._sessions.get(session_id)
            if session is None or session.ended:
                raise SessionEnded((session and session.reason) or "")

        return run

    async def load(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    async def history(self, session_id: str, after_version: int, limit: int) -> list[Record]:
        return self._records.get(session_id, [])[after_version : after_version + limit]

    async def after(self, position: int, limit: int) -> list[Record]:
        records = sorted((r for told in self._records.values() for r in told), key=lambda record: record.position)
        return records[position : position + limit]

    async def live_deadlines(self) -> list[tuple[int, str]]:
        return [(s.deadline_ms, s.session_id) for s in self._sessions.values() if not s.ended]

    async def live_states(self) -> dict[str, int]:
        return dict(Counter(str(s.state) for s in self._sessions.values() if not s.ended))

    async def connected_on(self, node: str) -> list[Session]:
        return [s for s in self._sessions.values() if any(c.node == node for c in s.connections)]

    async def nodes(self) -> set[str]:
        return {connection.node for session in self._sessions.values() for connection in session.connections}

    async def latest_at_ms(self) -> int:
        return self._latest_at_ms

    async def newest(self) -> Record | None:
        last = (records[-1] for records in self._records.values())
        return max(last, key=lambda record: record.position, default=None)

    def _write(self, steps: Sequence[Step]) -> list[Record]:
        first = steps[0].transition
        session_id = first.session_id
        before = self._sessions.get(session_id)
        repeated = self._commands.get((session_id, first.command_id))
        if repeated is not None:
            return self._records[session_id][repeated - 1 : repeated - 1 + len(steps)]
        if (before.version if before else 0) != first.version - 1:
            raise VersionConflict(session_id, first.version)
        self._check(before, steps)
        for step in steps:
            if step.along is not None:
                step.along(self)
        records = []
        for step in steps:
            row = chain(self._head, self._position + 1, step.transition)
            self._position, self._head = row.position, row.digest
            records.append(Record(row.position, step.transition, row.digest))
            self._commands[session_id, step.transition.command_id] = step.transition.version
        self._records.setdefault(session_id, []).extend(records)
        self._sessions[session_id] = steps[-1].session
        self._latest_at_ms = steps[-1].transition.at_ms
        return records

    def _check(self, before: Session | None, steps: Sequence[Step]) -> None:
        state = before.state if before else None
        for step in steps:
            move = step.transition
            if (move.event, move.source or "", move.target) not in _DECLARED or move.source != state:
                raise RecordRefused("transitions: not a declared transition")
            if (move.session_id, move.command_id) in self._commands:
                raise RecordRefused("transitions: this command is already recorded")
            state = move.target

    def _resolve(self, future: asyncio.Future[list[Record]], outcome: list[Record] | Exception) -> None:
        self._waiting -= 1
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
