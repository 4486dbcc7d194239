"""Times at which to check each session: many small heaps, so that no call does work proportional to the number of sessions."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

import msgspec

_SHARDS: Final = 256
"""With a million sessions each heap has 4,000 entries; rebuilding it takes a few milliseconds."""

_FEW: Final = 16
"""How many entries of dropped sessions may stay in a heap, whatever its size."""


class _Shard(msgspec.Struct, eq=False):
    """A heap, and the ids whose entries in it are dropped."""

    heap: list[tuple[int, str]]
    dropped: set[str]


class Deadlines:
    """One entry (a time in ms) for each of many sessions.

    A dropped session's entry is skipped when it is due. Once half of a heap's entries are dropped, all of these are removed.
    """

    def __init__(self) -> None:
        self._shards = [_Shard([], set()) for _ in range(_SHARDS)]
        self._next_shard = 0

    def __len__(self) -> int:
        """Return the number of entries, including those of dropped sessions that are not removed yet."""
        return sum(len(shard.heap) for shard in self._shards)

    def restore(self, entries: Iterable[tuple[int, str]]) -> None:
        """Add (time in ms, session id) of many sessions at once."""
        for entry in entries:
            self._shard(entry[1]).heap.append(entry)
        for shard in self._shards:
            heapq.heapify(shard.heap)

    def push(self, at_ms: int, session_id: str) -> None:
        """Add the entry of a session that has none."""
        heapq.heappush(self._shard(session_id).heap, (at_ms, session_id))

    def drop(self, session_id: str) -> None:
        """Remove the entry of a session that has one."""
        shard = self._shard(session_id)
        shard.dropped.add(session_id)
        if len(shard.dropped) > max(_FEW, len(shard.heap) // 2):
            shard.heap = [entry for entry in shard.heap if entry[1] not in shard.dropped]
            heapq.heapify(shard.heap)
            shard.dropped.clear()

    def pop_due(self, now_ms: int, limit: int) -> list[str]:
        """Remove and return at most ``limit`` sessions whose time is at or before ``now_ms``."""
        due: list[str] = []
        for _ in range(_SHARDS):
            shard = self._shards[self._next_shard]
            while shard.heap and shard.heap[0][0] <= now_ms:
                if len(due) == limit:
                    # The next call starts at this heap, so that none is starved by those before it.
                    return due
                session_id = heapq.heappop(shard.heap)[1]
                if session_id in shard.dropped:
                    shard.dropped.remove(session_id)
                else:
                    due.append(session_id)
            self._next_shard = (self._next_shard + 1) % _SHARDS
        return due

    def earliest_ms(self) -> int | None:
        """Return the earliest time of all entries, or None if there are none."""
        return min((shard.heap[0][0] for shard in self._shards if shard.heap), default=None)

    def _shard(self, session_id: str) -> _Shard:
        return self._shards[hash(session_id) % _SHARDS]
