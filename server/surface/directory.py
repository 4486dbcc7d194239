"""Pages of instances, newest first."""

from __future__ import annotations

from typing import Protocol, Self

import msgspec

from interlock.machine.machine import Instance, InstanceT, Machine, id_of


class InstanceFilter(msgspec.Struct, frozen=True):
    """A filter for instances of one kind; None matches any value. Ranges are in ms, with inclusive start and exclusive end.

    A list with an ``updated`` range is ordered by the last transition, any other list by creation. Both ranges together are
    allowed only with an ``owner``.

    ``alive_at_ms`` excludes instances that have ended or are overdue at that time. It is allowed only with an ``owner``.
    """

    state: str | None = None
    owner: str | None = None
    reason: str | None = None
    created_from_ms: int | None = None
    created_to_ms: int | None = None
    updated_from_ms: int | None = None
    updated_to_ms: int | None = None
    alive_at_ms: int | None = None

    @property
    def of_creation(self) -> bool:
        """Whether the filter has a range of creation times."""
        return self.created_from_ms is not None or self.created_to_ms is not None

    @property
    def of_update(self) -> bool:
        """Whether the filter has a range of times of the last transition."""
        return self.updated_from_ms is not None or self.updated_to_ms is not None

    @property
    def by_update(self) -> bool:
        """Whether the list is ordered by the last transition."""
        return self.of_update and self.owner is None

    def cursor_of(self, instance: Instance) -> Cursor:
        """Return the position of ``instance`` in the list."""
        return Cursor(instance.updated_at_ms, id_of(instance)) if self.by_update else Cursor.of(instance)


class Cursor(msgspec.Struct, frozen=True, order=True):
    """A position in a list: the time by which it is ordered, in ms, then the id."""

    at_ms: int
    instance_id: str

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """Return the position of ``instance`` in a list that is ordered by creation."""
        return cls(instance.created_at_ms, id_of(instance))


class Directory(Protocol):
    """All instances, including ended ones. Every implementation passes the same contract suite."""

    async def page(
        self, machine: Machine[InstanceT], wanted: InstanceFilter, before: Cursor | None, limit: int
    ) -> list[InstanceT]:
        """Return at most ``limit`` instances of ``machine``, newest first, that come after ``before`` in that order."""
        ...
