"""The machine as it was at any position of the log: counted from the records, a bounded piece at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import msgspec

from interlock.machine.ledger import Record
from interlock.server.surface.log import RecordFilter, Tally, TransitionLog

__all__ = ["Moment", "Past", "RecordFilter"]
"""Includes a type of the surface, which the experience uses but may not import from there."""

PIECE: Final = 4096
"""Records that are counted in one read, in about two milliseconds of the reader's thread."""
_KEPT_EVERY: Final = 16
"""Pieces after which the counts are kept, so that a later question begins there."""
_LOOKED_AT: Final = 20_000
"""Records that one page of the log looks at, in about ten milliseconds of the reader's thread."""
_PATIENCE_S: Final = 1.0
"""How long one question may count. What it counted is kept, so the next one goes on from there."""
_SECOND_MS: Final = 1000


class Moment(msgspec.Struct, frozen=True):
    """The machine after the record at ``position``, of time ``at_ms``.

    ``states``: all instances by kind and state, ended ones too. ``edges``: the transitions of the second up to ``at_ms``.
    ``counted``: how far the counts reach, less than ``position`` while they are not complete.
    """

    position: int
    at_ms: int
    counted: int
    states: dict[tuple[str, str], int]
    edges: list[Tally]


class Past:
    """Counts what was in each state at a position of ``log``. One question is answered at a time."""

    def __init__(self, log: TransitionLog) -> None:
        self._log = log
        self._turn = asyncio.Lock()
        self._kept: dict[int, Counter[tuple[str, str]]] = {0: Counter()}

    async def at(self, position: int) -> Moment:
        """Return the machine after the record at ``position``, which the log holds; 0: before the first."""
        async with self._turn:
            counted, states = await self._states(position)
        at_ms = await self._at_ms(position)
        first = await self.position_at(at_ms - _SECOND_MS, position)
        # A second of a very busy log is counted from its newest records.
        edges = await self._log.tally(max(first, position - PIECE), position)
        return Moment(position, at_ms, counted, dict(states), edges)

    async def latest(self, wanted: RecordFilter, before: int, limit: int) -> tuple[list[Record], int]:
        """Return at most ``limit`` records that match, below ``before``, newest first, and the ``before`` of the next ones.

        A filter that matches few may find fewer than there are: then the second value goes on behind what was looked at.
        """
        return await self._log.latest(wanted, before, limit, _LOOKED_AT)

    async def position_at(self, at_ms: int, newest: int) -> int:
        """Return the position of the last record, up to ``newest``, that is not later than ``at_ms``; 0 if there is none.

        The records of several processes may be a moment out of order; then it is one of them.
        """
        low, high = 0, newest
        while low < high:
            middle = (low + high + 1) // 2
            if await self._at_ms(middle) <= at_ms:
                low = middle
            else:
                high = middle - 1
        return low

    async def _at_ms(self, position: int) -> int:
        """Return the time of the record at ``position``; for 0, that of the first record."""
        records = await self._log.after(max(0, position - 1), 1)
        return records[0].transition.at_ms if records else 0

    async def _states(self, position: int) -> tuple[int, Counter[tuple[str, str]]]:
        """Return the counts up to ``position``, or up to where they came in time, and how far they reach."""
        step = PIECE * _KEPT_EVERY
        done = max(each for each in self._kept if each <= position)
        states = Counter(self._kept[done])
        until_s = asyncio.get_running_loop().time() + _PATIENCE_S
        while done < position:
            to = min(position, (done // PIECE + 1) * PIECE)
            for each in await self._log.tally(done, to):
                if each.source is not None:
                    states[each.kind, each.source] -= each.records
                states[each.kind, each.target] += each.records
            done = to
            late = asyncio.get_running_loop().time() > until_s
            if late or done % step == 0:
                # After a late piece too, or the next question would count the same pieces in vain.
                self._kept[done] = Counter(states)
            if late:
                break
        return done, states
