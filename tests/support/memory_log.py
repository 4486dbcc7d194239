"""The transition log without a disk: the same contract, nothing kept. Also what benchmarks compare the real one with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from interlock.machine.errors import AuthorityLost, Overloaded, RecordRefused, VersionConflict
from interlock.machine.ledger import GENESIS, Record, chain
from interlock.machine.machine import Authority, InstanceT, Keys, Machine, Machines
from interlock.machine.machines import MACHINES
from interlock.server.surface.log import Step
from interlock.spec.export import sql_rows

_Key = tuple[str, str]
"""Kind and id of an instance."""


class MemoryLog:
    """:class:`interlock.server.surface.log.TransitionLog` in dictionaries."""

    failure: str | None = None

    def __init__(self, machines: Machines = MACHINES, *, max_waiting: int = 1_000_000) -> None:
        self._machines = machines
        self._declared = {row[:4] for machine in machines for row in sql_rows(machine.lifecycle)}
        self._max_waiting = max_waiting
        self._waiting = 0
        self._position = 0
        self._head = GENESIS
        self._latest_at_ms = 0
        self._instances: dict[_Key, Any] = {}
        self._records: dict[_Key, list[Record]] = {}
        self._commands: dict[tuple[_Key, str], int] = {}

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Record]] = loop.create_future()
        if self._waiting >= self._max_waiting:
            future.set_exception(Overloaded())
            return future
        self._waiting += 1
        outcome: list[Record] | Exception
        try:
            if under is not None:
                self._ensure_holds(under, steps[0].transition.at_ms)
            outcome = self._write(steps)
        except (VersionConflict, RecordRefused, AuthorityLost) as error:
            outcome = error
        loop.call_soon(self._resolve, future, outcome)
        return future

    async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
        return self._instances.get((machine.kind, instance_id))

    async def history(self, kind: str, instance_id: str, after_version: int, limit: int) -> list[Record]:
        return self._records.get((kind, instance_id), [])[after_version : after_version + limit]

    async def after(self, position: int, limit: int) -> list[Record]:
        records = sorted((r for told in self._records.values() for r in told), key=lambda record: record.position)
        return records[position : position + limit]

    async def live_deadlines(self, kind: str) -> list[tuple[int, str]]:
        deadlines = ((self._keys(key).deadline_ms, key[1]) for key in self._living() if key[0] == kind)
        return [(deadline_ms, instance_id) for deadline_ms, instance_id in deadlines if deadline_ms is not None]

    async def live_states(self) -> dict[tuple[str, str], int]:
        return dict(Counter((key[0], self._instances[key].state) for key in self._living()))

    async def busy(self, machine: Machine[InstanceT]) -> list[InstanceT]:
        return [self._instances[key] for key in self._instances if key[0] == machine.kind and self._keys(key).busy]

    async def latest_at_ms(self) -> int:
        return self._latest_at_ms

    async def newest(self) -> Record | None:
        last = (records[-1] for records in self._records.values())
        return max(last, key=lambda record: record.position, default=None)

    def _ensure_holds(self, under: Authority, at_ms: int) -> None:
        key = (under.kind, under.instance_id)
        if key not in self._living():
            raise AuthorityLost
        keys = self._keys(key)
        if under.epoch not in {None, keys.epoch} or (keys.deadline_ms is not None and keys.deadline_ms <= at_ms):
            raise AuthorityLost

    def _living(self) -> list[_Key]:
        return [key for key, each in self._instances.items() if each.state not in self._machines.of(0, key[0]).final]

    def _keys(self, key: _Key) -> Keys:
        return self._machines.of(0, key[0]).keys(self._instances[key])

    def _write(self, steps: Sequence[Step]) -> list[Record]:
        first = steps[0].transition
        key = (first.kind, first.instance_id)
        before = self._instances.get(key)
        repeated = self._commands.get((key, first.command_id))
        if repeated is not None:
            return self._records[key][repeated - 1 : repeated - 1 + len(steps)]
        if (before.version if before else 0) != first.version - 1:
            raise VersionConflict(first.instance_id, first.version)
        self._check(key, before.state if before else None, steps)
        for step in steps:
            if step.along is not None:
                step.along(self)
        records = []
        for step in steps:
            row = chain(self._head, self._position + 1, step.transition)
            self._position, self._head = row.position, row.digest
            records.append(Record(row.position, step.transition, row.digest))
            self._commands[key, step.transition.command_id] = step.transition.version
        self._records.setdefault(key, []).extend(records)
        self._instances[key] = steps[-1].instance
        self._latest_at_ms = steps[-1].transition.at_ms
        return records

    def _check(self, key: _Key, state: str | None, steps: Sequence[Step]) -> None:
        for step in steps:
            move = step.transition
            if (move.kind, move.event, move.source or "", move.target) not in self._declared or move.source != state:
                raise RecordRefused("transitions: not a declared transition")
            if (key, move.command_id) in self._commands:
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
