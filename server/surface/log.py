"""The interface of the transition log. Code above it does not depend on the database engine.

:mod:`interlock.server.surface.sqlite.log` implements it on disk, :mod:`interlock.server.surface.memory` in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from interlock.machine.ledger import Receipt, Record
from interlock.machine.machine import Authority, InstanceT, Machine, Transition

Along = Callable[[Any], None]
"""A check or write in the same transaction as a step, just before it, for example of the account that the step concerns.

If it raises, nothing of the append is written and the caller of ``append`` gets the error.
"""


class Step(msgspec.Struct, frozen=True):
    """One transition to append, and the instance after it (the new projection)."""

    transition: Transition
    instance: Any
    along: Along | None = None


def of_others(under: Authority | None, steps: Sequence[Step]) -> list[Authority]:
    """Return ``under`` and what it rests on, as far as they are of instances without a step."""
    if under is None:
        return []
    own = {(step.transition.kind, step.transition.instance_id) for step in steps}
    return [each for each in under.all() if (each.kind, each.instance_id) not in own]


class RecordFilter(msgspec.Struct, frozen=True):
    """A filter for records; None matches any value. ``source`` is empty for the creation of an instance."""

    kind: str | None = None
    event: str | None = None
    source: str | None = None
    target: str | None = None
    actor: str | None = None


class Tally(NamedTuple):
    """How many records of a part of the log have this kind, event, source and target."""

    kind: str
    event: str
    source: str | None
    target: str
    records: int


class Followed(NamedTuple):
    """One record of the log as passed to the follower."""

    record: Record
    instance: Any | None
    """The instance after the record, or None if the record was not appended through this log object."""


Follower = Callable[[Sequence[Followed]], None]
"""Called on the event loop with the records of one commit or page, in the order of the log."""


class TransitionLog(Protocol):
    """An append-only, durable, ordered log. Every implementation passes ``tests/server/surface_contract.py``.

    Each server process holds one object; several processes may write to the same log.
    """

    def append(self, steps: Sequence[Step], under: Authority | None = None) -> asyncio.Future[list[Record]]:
        """Append all of ``steps`` or none. The future resolves when they are on disk. An instance's steps are in version order.

        The future's callbacks run in the order of the log, after the follower has processed the records. Cancelling the caller
        does not undo the append. If the first step's command id is already recorded for its instance, nothing is written and
        the future returns that instance's records from the command on. To detect this, compare transitions by identity: a
        record written now holds the very transition it was given, a repeated one does not.

        The future raises:
            VersionConflict: an instance is not at the version that its first step follows.
            RecordRefused: the database's own rules refuse a step.
            SurfaceFailed: an I/O error; whether the steps are on disk is unknown until a restart.
            StorageLow: the disk is nearly full and a step is not essential (see Machine); nothing was queued.
            Overloaded: too many appends are waiting; nothing was queued.
            AuthorityLost: ``under`` is not valid at the log position of the steps. For an instance with a step this is not
                checked: whoever decided the step did, at the version that it follows.
            Any error of a step's ``along``.
        """
        ...

    async def follow(self, after: int, follower: Follower) -> None:
        """Call ``follower`` with every record above position ``after``: each once, in order, whichever process wrote it.

        Return once ``follower`` has processed all existing records; from then on it is called as the log grows. A log object
        has one follower until it is closed. Records not yet delivered are read in pages, so a slow follower costs no memory.
        If ``follower`` raises, or records can't be read for it, the log stops, because memory may be older than the log:
        ``failure`` is set, and no append is acknowledged any more.

        Raises:
            SurfaceFailed: the log can't be read.
            Any error that ``follower`` raises before this returns.
        """
        ...

    async def load(self, machine: Machine[InstanceT], instance_id: str) -> InstanceT | None:
        """Return the instance after its last recorded transition, or None."""
        ...

    async def history(self, kind: str, instance_id: str, after_version: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records of the instance with a version above ``after_version``, oldest first."""
        ...

    async def after(self, position: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records of all instances with a position above ``position``, oldest first."""
        ...

    async def audit(self, position: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records of administrators (actor ``admin:<name>``) above ``position``, oldest first."""
        ...

    async def latest(self, wanted: RecordFilter, before: int, limit: int, looked_at: int) -> tuple[list[Record], int]:
        """Return at most ``limit`` records that match, below position ``before``, newest first; and where to go on.

        Of those below ``before``, only the newest ``looked_at`` records are looked at, so that a filter that matches few costs
        no more than one that matches many. The second value is the ``before`` that finds the next ones, 0 if there are none.
        """
        ...

    async def tally(self, after: int, to: int) -> list[Tally]:
        """Count the records with a position above ``after``, up to ``to``, in no order. The cost grows with their number."""
        ...

    async def check_chain(self, last: Receipt, limit: int) -> Receipt:
        """Compute the digests of at most ``limit`` records after ``last``. Return the receipt of the last of them.

        Raises:
            LedgerFault: a stored digest is another one, or a record is missing.
        """
        ...

    async def live_deadlines(self, kind: str) -> list[tuple[int, str]]:
        """Return (deadline in ms, id) of every instance of ``kind`` that has a deadline and has not ended, in no order."""
        ...

    async def live_states(self) -> dict[tuple[str, str], int]:
        """Return the number of instances that have not ended, by (kind, state). States without an instance may be missing."""
        ...

    async def busy(self, machine: Machine[InstanceT]) -> list[InstanceT]:
        """Return the instances for which a server process holds something."""
        ...

    async def latest_at_ms(self) -> int:
        """Return the time of the newest record; 0 in an empty log. The server's clock starts no earlier."""
        ...

    async def newest(self) -> Record | None:
        """Return the last record of the log; None if the log is empty."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the log has stopped acknowledging, or None while it works."""
        ...
