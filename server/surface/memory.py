"""The storage interfaces in memory: one log, and one handle on it for each process that writes to it.

It is for tests and simulations, also of several processes. Nothing survives the program. It gives each process the guarantees
that SQLite gives to one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from interlock.machine.errors import (
    AuthorityLost,
    Overloaded,
    RecordRefused,
    StorageLow,
    SurfaceFailed,
    VersionConflict,
)
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import GENESIS, Receipt, Record, chain, chained
from interlock.machine.machine import Authority, InstanceT, Keys, Machine, Machines, Transition
from interlock.machine.machines import MACHINES
from interlock.server.surface.devices import SessionDevice
from interlock.server.surface.directory import Cursor, InstanceFilter
from interlock.server.surface.executions import ExecutionData, data_differs
from interlock.server.surface.log import Along, Followed, Follower, RecordFilter, Step, Tally, of_others
from interlock.server.surface.tickets import Ticket
from interlock.server.system.workers import settle
from interlock.spec.export import sql_rows

_Key = tuple[str, str]
"""The kind and id of an instance."""

_PAGE: Final = 1024


class _Entry(NamedTuple):
    record: Record
    instance: Any
    writer: MemoryLog


class MemoryStore:
    """The state that all handles share: the records and their fold. Appends are written in the order of the calls."""

    def __init__(self, machines: Machines = MACHINES) -> None:
        self.machines = machines
        self.entries: list[_Entry] = []
        self.instances: dict[_Key, Any] = {}
        self.handles: list[MemoryLog] = []
        self._declared = {row[:4] for machine in machines for row in sql_rows(machine.lifecycle)}
        self._records: dict[_Key, list[Record]] = {}
        self._commands: dict[tuple[_Key, str], int] = {}

    def write(self, writer: MemoryLog, steps: Sequence[Step], under: Authority | None) -> list[Record]:
        """Append ``steps``. It raises the errors of :meth:`interlock.server.surface.log.TransitionLog.append`."""
        first = steps[0].transition
        key = (first.kind, first.instance_id)
        for each in of_others(under, steps):
            self.ensure_authorised(each, first.at_ms)
        repeated = self._commands.get((key, first.command_id))
        if repeated is not None:
            own = sum(_key_of(step) == key for step in steps)
            return self._records[key][repeated - 1 : repeated - 1 + own]
        for instance, own_steps in itertools.groupby(steps, _key_of):
            self._check(instance, list(own_steps))
        for step in steps:
            if step.along is not None:
                step.along(self)
        return [self._append(writer, step) for step in steps]

    def history(self, kind: str, instance_id: str) -> list[Record]:
        """Return all records of one instance."""
        return self._records.get((kind, instance_id), [])

    def living(self) -> list[_Key]:
        """Return the instances that have not ended."""
        return [key for key, each in self.instances.items() if each.state not in self.machines.of(0, key[0]).final]

    def keys(self, key: _Key) -> Keys:
        """Return the :class:`Keys` of the instance ``key``."""
        return self.machines.of(0, key[0]).keys(self.instances[key])

    def ensure_authorised(self, under: Authority, at_ms: int) -> None:
        """Check that ``under`` is valid at ``at_ms``.

        Raises:
            AuthorityLost: it is not valid.
        """
        key = (under.kind, under.instance_id)
        instance = self.instances.get(key)
        if instance is None or instance.state in self.machines.of(0, under.kind).final:
            raise AuthorityLost
        keys = self.keys(key)
        if under.epoch not in {None, keys.epoch} or (keys.deadline_ms is not None and keys.deadline_ms <= at_ms):
            raise AuthorityLost

    def _check(self, key: _Key, steps: Sequence[Step]) -> None:
        before, first = self.instances.get(key), steps[0].transition
        if (before.version if before else 0) != first.version - 1:
            raise VersionConflict(first.instance_id, first.version)
        state = before.state if before else None
        for step in steps:
            move = step.transition
            if (move.kind, move.event, move.source or "", move.target) not in self._declared or move.source != state:
                raise RecordRefused("transitions: not a declared transition")
            if (key, move.command_id) in self._commands:
                raise RecordRefused("transitions: this command is already recorded")
            state = move.target

    def _append(self, writer: MemoryLog, step: Step) -> Record:
        key = _key_of(step)
        last = self.entries[-1].record if self.entries else None
        row = chain(last.digest if last else GENESIS, len(self.entries) + 1, step.transition)
        record = Record(row.position, step.transition, row.digest)
        self.entries.append(_Entry(record, step.instance, writer))
        self._records.setdefault(key, []).append(record)
        self._commands[key, step.transition.command_id] = step.transition.version
        self.instances[key] = step.instance
        return record


def _key_of(step: Step) -> _Key:
    return step.transition.kind, step.transition.instance_id


class MemoryLog:
    """:class:`interlock.server.surface.log.TransitionLog` in memory: one process's handle on ``store``.

    ``max_waiting`` is how many appends may wait before callers get Overloaded. ``on_failure`` is called once if the log stops.
    """

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        max_waiting: int = 1_000_000,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.failure: str | None = None
        self.store = store or MemoryStore()
        self.store.handles.append(self)
        self._max_waiting = max_waiting
        self._on_failure = on_failure
        self._storage_low = False
        self._waiting = 0
        self._follower: Follower | None = None
        self._delivered = 0
        self._woken = False

    def refuse_growth(self, low: bool) -> None:  # noqa: FBT001  # the signature of Writer.refuse_growth
        """While last called with True, refuse appends with StorageLow unless they end something or take rights away."""
        self._storage_low = low

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        """See :meth:`interlock.server.surface.log.TransitionLog.append`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Record]] = loop.create_future()
        if self.failure is not None:
            future.set_exception(SurfaceFailed(self.failure))
        elif self._storage_low and self._grows(steps):
            future.set_exception(StorageLow())
        elif self._waiting >= self._max_waiting:
            future.set_exception(Overloaded())
        else:
            self._waiting += 1
            outcome: list[Record] | Exception
            try:
                outcome = self.store.write(self, steps, under)
            except Exception as error:  # noqa: BLE001  # the caller gets any error, also of a step's `along`
                outcome = error
            for handle in self.store.handles:
                handle.wake()
            loop.call_soon(self._resolve, future, outcome)
        return future

    async def follow(self, after: int, follower: Follower) -> None:
        """See :meth:`interlock.server.surface.log.TransitionLog.follow`."""
        self._delivered = after
        self._hand_over(follower)
        self._follower = follower

    def wake(self) -> None:
        """Schedule delivery of new records in the event loop's next iteration."""
        if self._follower is not None and not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._catch_up)

    async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
        """See :meth:`interlock.server.surface.log.TransitionLog.load`."""
        return self.store.instances.get((machine.kind, instance_id))

    async def history(self, kind: str, instance_id: str, after_version: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.history`."""
        return self.store.history(kind, instance_id)[after_version : after_version + limit]

    async def after(self, position: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.after`."""
        return [entry.record for entry in self.store.entries[position : position + limit]]

    async def audit(self, position: int, limit: int) -> list[Record]:
        """See :meth:`interlock.server.surface.log.TransitionLog.audit`."""
        records = await self.after(position, len(self.store.entries))
        return [each for each in records if each.transition.actor.startswith("admin:")][:limit]

    async def latest(self, wanted: RecordFilter, before: int, limit: int, looked_at: int) -> tuple[list[Record], int]:
        """See :meth:`interlock.server.surface.log.TransitionLog.latest`."""
        first = max(0, before - 1 - looked_at)
        records = reversed([entry.record for entry in self.store.entries[first : before - 1]])
        found = list(itertools.islice((each for each in records if _matches(each.transition, wanted)), limit))
        last = found[-1].position if len(found) == limit else first + 1
        return found, last if last > 1 else 0

    async def tally(self, after: int, to: int) -> list[Tally]:
        """See :meth:`interlock.server.surface.log.TransitionLog.tally`."""
        moves = (entry.record.transition for entry in self.store.entries[after:to])
        return [Tally(*of, n) for of, n in Counter((m.kind, m.event, m.source, m.target) for m in moves).items()]

    async def check_chain(self, last: Receipt, limit: int) -> Receipt:
        """See :meth:`interlock.server.surface.log.TransitionLog.check_chain`."""
        for entry in self.store.entries[last.position : last.position + limit]:
            step = entry.record.transition
            last = chained(last, chain(bytes.fromhex(last.digest), last.position + 1, step), entry.record.digest)
        return last

    async def live_deadlines(self, kind: str) -> list[tuple[int, str]]:
        """See :meth:`interlock.server.surface.log.TransitionLog.live_deadlines`."""
        deadlines = ((self.store.keys(key).deadline_ms, key[1]) for key in self.store.living() if key[0] == kind)
        return [(deadline_ms, instance_id) for deadline_ms, instance_id in deadlines if deadline_ms is not None]

    async def live_states(self) -> dict[tuple[str, str], int]:
        """See :meth:`interlock.server.surface.log.TransitionLog.live_states`."""
        return dict(Counter((key[0], self.store.instances[key].state) for key in self.store.living()))

    async def busy(self, machine: Machine[InstanceT]) -> list[InstanceT]:
        """See :meth:`interlock.server.surface.log.TransitionLog.busy`."""
        of_kind = [key for key in self.store.instances if key[0] == machine.kind]
        return [self.store.instances[key] for key in of_kind if self.store.keys(key).busy]

    async def latest_at_ms(self) -> int:
        """See :meth:`interlock.server.surface.log.TransitionLog.latest_at_ms`."""
        newest = await self.newest()
        return newest.transition.at_ms if newest is not None else 0

    async def newest(self) -> Record | None:
        """See :meth:`interlock.server.surface.log.TransitionLog.newest`."""
        return self.store.entries[-1].record if self.store.entries else None

    def _grows(self, steps: Sequence[Step]) -> bool:
        return not self.store.machines.is_essential(steps[0].transition)

    def _resolve(self, future: asyncio.Future[list[Record]], outcome: list[Record] | Exception) -> None:
        self._waiting -= 1
        self._catch_up()
        settle([future], [outcome if self.failure is None else SurfaceFailed(self.failure)])

    def _catch_up(self) -> None:
        self._woken = False
        if self._follower is None or self.failure is not None:
            return
        try:
            self._hand_over(self._follower)
        except Exception as error:  # noqa: BLE001  # after any error caches may be stale, so no caller may be answered
            self.failure = f"the log is not followed any more: {error!r}"
            self._on_failure(self.failure)

    def _hand_over(self, follower: Follower) -> None:
        while page := self.store.entries[self._delivered : self._delivered + _PAGE]:
            follower([Followed(each.record, each.instance if each.writer is self else None) for each in page])
            self._delivered = page[-1].record.position


class MemoryTickets:
    """:class:`interlock.server.surface.tickets.TicketStore` in memory, beside the log in ``store``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._tickets: dict[bytes, Ticket] = {}

    async def add(self, ticket: Ticket, under: Authority, now_ms: int) -> None:
        """See :meth:`interlock.server.surface.tickets.TicketStore.add`."""
        for each in under.all():
            self._store.ensure_authorised(each, now_ms)
        kept = {key: each for key, each in self._tickets.items() if each.expires_at_ms > now_ms}
        self._tickets = {**kept, ticket.ticket_hash: ticket}

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """See :meth:`interlock.server.surface.tickets.TicketStore.take`."""
        return self._tickets.pop(ticket_hash, None)


class MemoryExecutions:
    """:class:`interlock.server.surface.executions.ExecutionStore` in memory, beside the log in ``store``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._data: dict[str, ExecutionData] = {}

    async def by_id(self, execution_id: str) -> ExecutionData | None:
        """See :meth:`interlock.server.surface.executions.ExecutionStore.by_id`."""
        data = self._data.get(execution_id)
        if data is not None and not data.is_of(self._store.instances[EXECUTION_MACHINE.kind, execution_id]):
            raise data_differs(execution_id)
        return data

    def add(self, data: ExecutionData) -> Along:
        """See :meth:`interlock.server.surface.executions.ExecutionStore.add`."""
        return lambda _: self._data.update({data.execution_id: data})

    def finish(self, execution_id: str, *, result: str | None = None, error: str | None = None) -> Along:
        """See :meth:`interlock.server.surface.executions.ExecutionStore.finish`."""

        def run(_: object) -> None:
            data = self._data[execution_id]
            self._data[execution_id] = msgspec.structs.replace(data, result=result, error=error)

        return run


class MemoryDevices:
    """:class:`interlock.server.surface.devices.DeviceStore` in memory."""

    def __init__(self) -> None:
        self._devices: dict[str, SessionDevice] = {}

    def put(self, seen: SessionDevice) -> Along:
        """See :meth:`interlock.server.surface.devices.DeviceStore.put`."""
        return lambda _: self._devices.update({seen.session_id: seen})

    async def of_sessions(self, session_ids: Collection[str]) -> dict[str, SessionDevice]:
        """See :meth:`interlock.server.surface.devices.DeviceStore.of_sessions`."""
        return {each: self._devices[each] for each in session_ids if each in self._devices}

    async def erase(self, seen_before_ms: int, keep: int, limit: int) -> int:
        """See :meth:`interlock.server.surface.devices.DeviceStore.erase`."""
        oldest = sorted(self._devices.values(), key=lambda each: each.seen_at_ms)
        due = max(sum(each.seen_at_ms < seen_before_ms for each in oldest), len(oldest) - keep)
        erased = oldest[: min(limit, due)] if due > 0 else []
        for each in erased:
            del self._devices[each.session_id]
        return len(erased)


class MemoryDirectory:
    """:class:`interlock.server.surface.directory.Directory` of the instances in ``store``. Each page scans all of them."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def page(
        self, machine: Machine[InstanceT], wanted: InstanceFilter, before: Cursor | None, limit: int
    ) -> list[InstanceT]:
        """See :meth:`interlock.server.surface.directory.Directory.page`."""
        found = [
            instance
            for key, instance in self._store.instances.items()
            if key[0] == machine.kind
            and self._is_wanted(machine, instance, wanted)
            and (before is None or wanted.cursor_of(instance) < before)
        ]
        return sorted(found, key=wanted.cursor_of, reverse=True)[:limit]

    @staticmethod
    def _is_wanted(machine: Machine[InstanceT], instance: InstanceT, wanted: InstanceFilter) -> bool:
        keys = machine.keys(instance)
        alive = instance.state not in machine.final and (
            keys.deadline_ms is None or (wanted.alive_at_ms or 0) < keys.deadline_ms
        )
        return (
            wanted.state in {None, instance.state}
            and wanted.owner in {None, keys.owner}
            and wanted.reason in {None, keys.reason}
            and (wanted.alive_at_ms is None or alive)
            and _within(instance.created_at_ms, wanted.created_from_ms, wanted.created_to_ms)
            and _within(instance.updated_at_ms, wanted.updated_from_ms, wanted.updated_to_ms)
        )


def _matches(move: Transition, wanted: RecordFilter) -> bool:
    return (
        wanted.kind in {None, move.kind}
        and wanted.event in {None, move.event}
        and wanted.source in {None, move.source or ""}
        and wanted.target in {None, move.target}
        and wanted.actor in {None, move.actor}
    )


def _within(at_ms: int, from_ms: int | None, to_ms: int | None) -> bool:
    return (from_ms is None or from_ms <= at_ms) and (to_ms is None or at_ms < to_ms)
