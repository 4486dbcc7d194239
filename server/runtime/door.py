"""The door: every change of every instance goes through :meth:`Door.submit`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import msgspec

from interlock.machine.errors import (
    AuthorityLost,
    InstanceNotFound,
    Overloaded,
    SurfaceFailed,
    TransitionRefused,
    VersionConflict,
)
from interlock.machine.ledger import Receipt, Record
from interlock.machine.machine import Authority, Command, Data, InstanceT, Machine, id_of
from interlock.server.clock import Clock
from interlock.server.ids import next_id
from interlock.server.runtime.feed import Feed
from interlock.server.surface.log import Along, Step, TransitionLog
from interlock.server.system.guarded import guarded
from interlock.server.system.newest import keep_newest
from interlock.server.system.turns import Turns
from interlock.server.system.workers import settle
from interlock.server.telemetry.model_trace import TraceWriter

T = TypeVar("T")

OwnListener = Callable[[Record, Any], None]
"""Called with a record that a door has written and the instance after it, in the caller's context."""

RefusalListener = Callable[[str, str, TransitionRefused], None]
"""Called on the event loop with the kind, the instance id and the refusal of every refused command."""

_CONFLICT_RETRIES: Final = 3

_OWN_WRITES: Final = 64
"""How many of the server's own writes run at once. Their callbacks run in one turn of the event loop, a few milliseconds."""


class Recorded(msgspec.Struct, Generic[InstanceT], frozen=True):
    """The result of commands: the current instance and the records they made (none for a repeat).

    ``joined`` is the instance after a joined change.
    """

    instance: InstanceT
    records: list[Record]
    joined: Any = None

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of the last record, which by the chain covers the ones before; None if nothing was recorded."""
        return self.records[-1].receipt if self.records else None


class Change(msgspec.Struct, Generic[InstanceT], frozen=True):
    """Commands for one instance, with its door.

    ``along``: see :class:`interlock.server.surface.log.Step`. ``epoch``: the epoch that the instance must be at, None for any.
    """

    door: Door[InstanceT]
    instance_id: str
    asked: tuple[Command, ...]
    along: Along | None = None
    epoch: int | None = None


class Door(Generic[InstanceT]):
    """All instances of one lifecycle. Commands to one instance run in turn; those to different instances are written together.

    ``feed`` updates the cache; start it before the first command. ``cache_limit`` is how many instances are kept in memory;
    each other one costs a read. ``trace`` gets every acknowledgement.
    """

    def __init__(
        self,
        machine: Machine[InstanceT],
        feed: Feed,
        clock: Clock,
        *,
        cache_limit: int,
        trace: TraceWriter | None = None,
    ) -> None:
        self.machine: Final = machine
        self._log = feed.log
        self._clock = clock
        self._cache_limit = cache_limit
        self._trace = trace or TraceWriter()
        self._cache: dict[str, InstanceT] = {}
        # Instances that are being read and have not changed since the read began.
        self._reading: set[str] = set()
        self.turns: Final = Turns()
        """The holder of an instance's turn decides and appends, or gives the turn back."""
        self._own_listeners: list[OwnListener] = []
        self._refusal_listeners: list[RefusalListener] = []
        self._own_writes = asyncio.Semaphore(_OWN_WRITES)
        feed.remember(machine.kind, self._apply)

    def subscribe_own(self, listener: OwnListener) -> None:
        """Call ``listener`` with every record that this door writes, after all followers of the log.

        Use it for what the process that did something reports once. Reactions to a transition follow the log instead.
        """
        self._own_listeners.append(listener)

    def subscribe_refusals(self, listener: RefusalListener) -> None:
        """Call ``listener`` with every refusal from now on."""
        self._refusal_listeners.append(listener)

    @property
    def failure(self) -> str | None:
        """Why nothing more is acknowledged, or None while the log works."""
        return self._log.failure

    def check_alive(self) -> None:
        """Raise if the log has stopped: memory may then hold what the disk does not.

        Raises:
            SurfaceFailed: the log has stopped at an I/O error.
        """
        if self._log.failure is not None:
            raise SurfaceFailed(self._log.failure)

    def cached(self, instance_id: str) -> InstanceT | None:
        """Return the current instance if it is in memory, else None. It is exact up to the last record that was followed."""
        self.check_alive()
        return self._cache.get(instance_id)

    async def load(self, instance_id: str) -> InstanceT:
        """Return the current instance.

        Raises:
            InstanceNotFound: there is none.
            SurfaceFailed: the log has stopped.
        """
        instance = self.cached(instance_id)
        if instance is not None:
            return instance
        # Read in turn with the instance's commands, so that the result can't be older than what memory held and dropped.
        await self.turns.take(instance_id)
        try:
            return await self._read(instance_id)
        finally:
            self.turns.give(instance_id)

    async def history(self, instance_id: str, after_version: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records of the instance with a version above ``after_version``, oldest first."""
        self.check_alive()
        return await self._log.history(self.machine.kind, instance_id, after_version, limit)

    async def records(self, after: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records of all instances with a position above ``after``, oldest first."""
        self.check_alive()
        return await self._log.after(after, limit)

    async def submit(
        self,
        instance_id: str,
        *asked: Command,
        under: Authority | None = None,
        along: Along | None = None,
        joined: Change[Any] | None = None,
    ) -> Recorded[InstanceT]:
        """Decide ``asked`` in order and record them durably as one batch: all or none.

        All followers of the log have processed the records when this returns. ``under`` is the authority that the caller has
        shown. It must be valid at the log position of the batch. ``along``: see :class:`interlock.server.surface.log.Step`.
        ``joined`` is a change of an instance of another lifecycle, recorded first in the same batch. A change of an account
        joins one of a session, never the reverse: all callers that need both turns take them in this order.

        A command id that is already recorded for the instance appends nothing: the current instance and the old records are
        returned. Cancelling the caller does not undo what was handed to the log.

        Raises:
            TransitionRefused: the lifecycle does not allow one of the commands; nothing changed.
            CredentialRefused, AccountDisabled: ``under`` is no longer valid; nothing changed.
            InstanceNotFound: there is no such instance, and the first command does not create it.
            RecordRefused, SurfaceFailed, Overloaded: nothing was acknowledged.
            Any error of ``along``.
        """
        change = Change(self, instance_id, asked, along)
        changes: list[Change[Any]] = [change] if joined is None else [joined, change]
        for attempt in range(_CONFLICT_RETRIES):
            try:
                outcomes = await _submit_once(self._log, changes, under, first_try=attempt == 0)
            except VersionConflict:
                # settle() has already dropped the cached instance, so the next try reads it from the log.
                continue
            except AuthorityLost:
                for each in changes:
                    for lost in under.all() if under is not None else ():
                        if lost.kind == each.door.machine.kind:
                            await each.door.explain_lost(lost)
                raise
            else:
                for each, outcome in zip(changes, outcomes, strict=True):
                    self._trace.acknowledged(each.instance_id, outcome.instance.version, outcome.records)
                if joined is None:
                    return outcomes[-1]
                return msgspec.structs.replace(outcomes[-1], joined=outcomes[0].instance)
        raise SurfaceFailed("the instance kept changing under another writer")

    async def insist(
        self,
        instance_id: str,
        actor: str,
        data: Data,
        *,
        under: Authority | None = None,
        along: Along | None = None,
    ) -> Recorded[InstanceT]:
        """Submit a command that must eventually be written. While the storage is overloaded, wait and retry.

        ``under``, ``along``: as for :meth:`submit`.

        Only a few callers submit at once, so that the server's own work, up to one command per instance, neither adds to an
        overload nor blocks the event loop. Requests must not use this: they need an answer in time, and would delay the
        server's own work.

        Raises:
            TransitionRefused, CredentialRefused, InstanceNotFound, RecordRefused, SurfaceFailed: as :meth:`submit`.
        """
        asked = commands(actor, data)
        async with self._own_writes:
            return await patiently(lambda: self.submit(instance_id, *asked, under=under, along=along))

    async def explain_lost(self, under: Authority) -> None:
        """Raise the reason why ``under``, of an instance of this door, is no longer valid. Return if there is none any more."""
        self.machine.authorise(await self.load(under.instance_id), under.epoch, self._clock.now_ms())

    async def decide(self, change: Change[InstanceT], under: Authority | None, *, first_try: bool) -> list[Step]:
        """Return the steps of ``change``. The caller holds the instance's turn.

        ``under`` is given only if it is of this instance. The check is exact: the log takes the steps only at this version.

        Raises:
            TransitionRefused: the lifecycle does not allow it; the listeners were called.
            CredentialRefused, AccountDisabled: ``under`` is not valid.
        """
        instance = await self._read_for(change.instance_id, change.asked[0], first_try=first_try)
        now_ms = self._clock.now_ms()
        if under is not None:
            self.machine.authorise(instance, under.epoch, now_ms)
        if change.epoch is not None:
            self.machine.authorise(instance, change.epoch, now_ms)
        steps: list[Step] = []
        for command in change.asked:
            try:
                transition = self.machine.decide(instance, command, now_ms)
            except TransitionRefused as refused:
                for listener in self._refusal_listeners:
                    guarded(listener, self.machine.kind, change.instance_id, refused)
                raise
            instance = self.machine.evolve(instance, transition)
            steps.append(Step(transition, instance, None if steps else change.along))
        return steps

    async def _read(self, instance_id: str) -> InstanceT:
        """Return the current instance. The caller holds its turn."""
        instance = self.cached(instance_id)
        if instance is not None:
            return instance
        self._reading.add(instance_id)
        try:
            instance = await self._log.load(self.machine, instance_id)
            unchanged = instance_id in self._reading
        finally:
            self._reading.discard(instance_id)
        if instance is None:
            raise self.machine.not_found(instance_id)
        if unchanged:
            self._remember(instance)
        return instance

    def _apply(self, record: Record, instance: InstanceT | None) -> None:
        """Update the cache with a record. An instance that another process changed is dropped, and read when next needed."""
        if instance is not None:
            self._remember(instance)
            return
        self._cache.pop(record.transition.instance_id, None)
        # A read in progress may return the instance as it was before this record.
        self._reading.discard(record.transition.instance_id)

    async def _read_for(self, instance_id: str, first: Command, *, first_try: bool) -> InstanceT:
        if first.data.event != self.machine.creation:
            return await self._read(instance_id)
        if first_try:
            # A new id almost certainly has no instance: skip the read; the append fails if there is one.
            return self.cached(instance_id) or self.machine.absent(instance_id)
        with suppress(InstanceNotFound):
            return await self._read(instance_id)
        return self.machine.absent(instance_id)

    def settle(self, steps: list[Step], records: list[Record] | BaseException) -> None:
        """Process the log's answer for ``steps``: update the cache, call the listeners, and give the instance's turn back."""
        instance_id = steps[0].transition.instance_id
        try:
            if isinstance(records, BaseException):
                # An overloaded log has queued nothing, so the cache is still exact. Dropping it would add to the overload.
                if not isinstance(records, Overloaded):
                    self._cache.pop(instance_id, None)
                return
            if records[0].transition is not steps[0].transition:
                # A repeat: its old records do not show the current state of the instance.
                self._cache.pop(instance_id, None)
                return
            for record, step in zip(records, steps, strict=True):
                for listener in self._own_listeners:
                    guarded(listener, record, step.instance)
        finally:
            self.turns.give(instance_id)

    def _remember(self, instance: InstanceT) -> None:
        keep_newest(self._cache, id_of(instance), instance, self._cache_limit)


async def _submit_once(
    log: TransitionLog, changes: list[Change[Any]], under: Authority | None, *, first_try: bool
) -> list[Recorded[Any]]:
    taken: list[Change[Any]] = []
    steps: list[list[Step]] = []
    shown = {} if under is None else {(each.kind, each.instance_id): each for each in under.all()}
    try:
        for change in changes:
            await change.door.turns.take(change.instance_id)
            taken.append(change)
            own = shown.get((change.door.machine.kind, change.instance_id))
            steps.append(await change.door.decide(change, own, first_try=first_try))
        together = steps[0] if len(steps) == 1 else [step for each in steps for step in each]
        appended = log.append(together, under)
    except BaseException:
        for change in taken:
            change.door.turns.give(change.instance_id)
        raise
    # The turns end and the listeners are called when the log answers, even if the caller was cancelled. So the caller waits
    # for a future of its own, whose cancellation does not cancel the append.
    answered: asyncio.Future[list[list[Record]]] = asyncio.get_running_loop().create_future()
    appended.add_done_callback(lambda future: _settle(future, changes, steps, answered))
    records = await answered
    return [
        Recorded(
            own_steps[-1].instance
            if own_records[0].transition is own_steps[0].transition
            else await change.door.load(change.instance_id),
            own_records,
        )
        for change, own_steps, own_records in zip(changes, steps, records, strict=True)
    ]


def _settle(
    appended: asyncio.Future[list[Record]],
    changes: list[Change[Any]],
    steps: list[list[Step]],
    answered: asyncio.Future[list[list[Record]]],
) -> None:
    error = appended.exception()
    outcomes: list[Any] = [error] * len(changes)
    if error is None:
        # A joined change has new command ids, so it is never a repeat: there is one record for each step.
        joined, records = len(steps[0]) if len(steps) > 1 else 0, appended.result()
        outcomes = [records[:joined], records[joined:]] if joined else [records]
    for change, own, outcome in zip(changes, steps, outcomes, strict=True):
        change.door.settle(own, outcome)
    settle([answered], [error or outcomes])


async def patiently(call: Callable[[], Awaitable[T]], within_s: float | None = None) -> T:
    """Return the result of ``call``. While the storage is overloaded, wait and call again.

    Raises:
        Overloaded: the storage still was after ``within_s`` seconds. None, for the server's own work, waits without limit.
    """
    if within_s is None:
        return await _insistently(call)
    try:
        async with asyncio.timeout(within_s):
            return await _insistently(call)
    except TimeoutError:
        raise Overloaded from None


async def _insistently(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except Overloaded as overloaded:
            await asyncio.sleep(overloaded.retry_after_s)


def commands(actor: str, *asked: Data) -> tuple[Command, ...]:
    """Return ``asked`` as commands of ``actor``, each with a new id."""
    return tuple(Command(next_id("cmd"), actor, data) for data in asked)
