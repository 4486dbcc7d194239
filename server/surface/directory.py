"""Lists of instances, newest first, page by page, however many there are."""

from __future__ import annotations

from typing import Protocol, Self

import msgspec

from interlock.machine.machine import Instance, InstanceT, Machine, id_of


class Wanted(msgspec.Struct, frozen=True):
    """Which instances of one kind. None is any. The ranges are in ms, begin inclusive, end exclusive.

    A list with a range of ``updated`` is in the order of the last transition, any other in that of the creation. Both ranges
    together go with an ``owner`` only.

    ``alive_at_ms``, which goes with an ``owner`` only, excludes those that have ended or are overdue at that time.
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
        """There is a range of the creation."""
        return self.created_from_ms is not None or self.created_to_ms is not None

    @property
    def of_update(self) -> bool:
        """There is a range of the last transition."""
        return self.updated_from_ms is not None or self.updated_to_ms is not None

    @property
    def by_update(self) -> bool:
        """The list is in the order of the last transition."""
        return self.of_update and self.owner is None

    def place_of(self, instance: Instance) -> Place:
        """Where ``instance`` is in the list."""
        return Place(instance.updated_at_ms, id_of(instance)) if self.by_update else Place.of(instance)


class Place(msgspec.Struct, frozen=True, order=True):
    """A place in a list: the time it is ordered by, in ms, then the id."""

    at_ms: int
    instance_id: str

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """Where ``instance`` is in a list that is in the order of the creation."""
        return cls(instance.created_at_ms, id_of(instance))


class Directory(Protocol):
    """All instances, those that have ended as well. Every implementation passes the same contract suite."""

    async def page(
        self, machine: Machine[InstanceT], wanted: Wanted, before: Place | None, limit: int
    ) -> list[InstanceT]:
        """At most ``limit`` instances of ``machine``, newest first, that come after the place ``before`` in that list."""
        ...
