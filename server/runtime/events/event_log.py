"""The log as event messages: pages of those that some scopes cover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from interlock.machine.errors import SurfaceFailed
from interlock.machine.events.messages import EventMessage, message_of, needed_for
from interlock.machine.events.scopes import Scopes
from interlock.machine.execution.execution import Execution
from interlock.machine.ledger import Record
from interlock.server.runtime.tail import Tail
from interlock.server.surface.log import TransitionLog

_AT_ONCE: Final = 256
"""Records read at a time: few enough that other work is not delayed by the reading of an old log."""


class EventPage(msgspec.Struct, frozen=True):
    """Event messages, oldest first. All records up to the position ``cursor`` have been read; the next page begins after it."""

    messages: list[EventMessage]
    cursor: int


class EventLog:
    """The event messages of ``log``, whose newest records ``tail`` keeps.

    ``cached`` returns an instance from memory, by kind: what has just happened is told without a read.
    """

    def __init__(self, log: TransitionLog, tail: Tail, cached: Mapping[str, Callable[[str], Any | None]]) -> None:
        self.tail: Final = tail
        self._log = log
        self._cached = cached

    @property
    def newest(self) -> int:
        """The position of the newest record."""
        return self.tail.newest

    async def page(self, cursor: int, scopes: Scopes, limit: int, *, examined: int = _AT_ONCE) -> EventPage:
        """Return at most ``limit`` messages, covered by ``scopes``, of the ``examined`` records after ``cursor``.

        So a page may be empty although messages follow. The log has been read to its end once the cursor is :attr:`newest`.

        Raises:
            SurfaceFailed: the log can't be read.
            Overloaded: too many reads wait.
        """
        messages: list[EventMessage] = []
        end = cursor + examined
        while cursor < end and len(messages) < limit:
            records = await self.tail.after(cursor, min(_AT_ONCE, end - cursor))
            if not records:
                break
            found = await self._messages(records, scopes)
            cursor = records[-1].position
            room = limit - len(messages)
            if len(found) > room:
                cursor = found[room].data.position - 1
            messages += found[:room]
        return EventPage(messages, cursor)

    async def message_at(self, position: int, scopes: Scopes) -> EventMessage | None:
        """Return the message of the record at ``position``, None if ``scopes`` don't cover it.

        Raises:
            SurfaceFailed: the log can't be read.
            Overloaded: too many reads wait.
        """
        found = await self._messages(await self.tail.after(position - 1, 1), scopes)
        return found[0] if found else None

    async def _messages(self, records: list[Record], scopes: Scopes) -> list[EventMessage]:
        covered = [each for each in records if scopes.may_cover(each.transition)]
        instances = await asyncio.gather(*map(self._instance, covered))
        return [
            message_of(record, instance)
            for record, instance in zip(covered, instances, strict=True)
            if scopes.cover_realm(instance.realm if isinstance(instance, Execution) else None)
        ]

    async def _instance(self, record: Record) -> Any | None:
        machine = needed_for(record.transition)
        if machine is None:
            return None
        step = record.transition
        instance = self._cached[machine.kind](step.instance_id)
        if instance is None or instance.version < step.version:
            instance = await self._log.load(machine, step.instance_id)
        if instance is None:
            raise SurfaceFailed(f"the log holds no {machine.kind} of its record {record.position}")
        return instance
