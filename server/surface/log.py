"""The transition log as the rest of the server sees it. Which engine is below, nobody above knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from interlock.machine.ledger import Record
from interlock.machine.machine import Authority, InstanceT, Machine, Transition

Along = Callable[[Any], None]
"""What is checked or written in the same transaction as a step, just before it: of the account that the step is about, say.

If it raises, nothing of the append is written, and whoever appends gets the error.
"""


class Step(msgspec.Struct, frozen=True):
    """One transition to append, and the instance as it stands after it (the new projection)."""

    transition: Transition
    instance: Any
    along: Along | None = None


class Followed(NamedTuple):
    """One record of the log as its follower gets it."""

    record: Record
    instance: Any | None
    """The instance after the record, if the record was appended through this very log object. None: another writer's."""


Follower = Callable[[Sequence[Followed]], None]
"""Called on the event loop with the records of one commit, or of a page, in the order of the log."""


class TransitionLog(Protocol):
    """Append-only, durable, ordered. Every implementation passes ``tests/server/surface_contract.py``.

    One object is what one server process holds. Several may write to the same log.
    """

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        """Append ``steps``, those of an instance in version order, all or none; the future resolves when they are on disk.

        The future's callbacks run in the order of the log. Cancelling whoever waits does not undo the append. When the
        first step's command id is already recorded for its instance, nothing is written and the future gives what was
        recorded of it from that command on. A record that was written now holds the very transition it was given, and no
        other does: that tells the two apart. Before the future resolves, the follower has had the records.

        The future raises:
            VersionConflict: an instance is not at the version that its first step follows.
            RecordRefused: the database's own rules refuse a step.
            SurfaceFailed: an I/O error; whether the steps are on disk is unknown until a restart.
            StorageLow: the disk is nearly full, and a step is not essential (see Machine); nothing was queued.
            Overloaded: too many appends are waiting; nothing was queued.
            AuthorityLost: ``under``, of an instance without a step, does not hold where the steps would have been recorded.
            What a step's ``along`` raises.
        """
        ...

    async def follow(self, after: int, follower: Follower) -> None:
        """Call ``follower`` with every record above position ``after``: each once, in order, whoever wrote it.

        Returns when ``follower`` has had what there is; from then on it is called as the log grows. A log object has one
        follower, for as long as it is open. What is not handed over yet is read in pages, so a follower that is behind costs no
        memory. If ``follower`` raises, or records can't be read for it, the log stops: what memory holds may then be older
        than the log. ``failure`` says so, and no append is acknowledged any more.

        Raises:
            SurfaceFailed: the log can't be read.
            Whatever ``follower`` raises before this returns.
        """
        ...

    async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
        """The instance as its last recorded transition left it, or None."""
        ...

    async def history(self, kind: str, instance_id: str, after_version: int, limit: int) -> list[Record]:
        """At most ``limit`` records of the instance with a version above ``after_version``, oldest first."""
        ...

    async def after(self, position: int, limit: int) -> list[Record]:
        """At most ``limit`` records of all instances with a position above ``position``, oldest first."""
        ...

    async def audit(self, position: int, limit: int) -> list[Record]:
        """At most ``limit`` records of what administrators did (actor ``admin:<name>``), above ``position``, oldest first."""
        ...

    async def live_deadlines(self, kind: str) -> list[tuple[int, str]]:
        """(deadline in ms, id) of every instance of ``kind`` that has a deadline and has not ended, in no order."""
        ...

    async def live_states(self) -> dict[tuple[str, str], int]:
        """(kind, state) → how many instances that have not ended are in it; one that has none may be missing."""
        ...

    async def busy(self, machine: Machine[InstanceT]) -> list[InstanceT]:
        """The instances for which some server process holds something."""
        ...

    async def latest_at_ms(self) -> int:
        """The time of the newest record; 0 in an empty log. The server's clock starts no earlier."""
        ...

    async def newest(self) -> Record | None:
        """The last record of the log; None in an empty one."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the surface has stopped acknowledging, or None while it works."""
        ...
