"""Rate limits as pure code: the generic cell rate algorithm (GCRA) over a table of fixed size that never evicts a key.

GCRA stores one number per key, the *theoretical arrival time* (ITU-T I.371): the time up to which the key has used its rate. A
key may proceed while that time is at most one burst ahead of now. The numbers are stored in a count-min sketch with
conservative update: each key has four cells, and its number is the smallest of them. Therefore

* memory is fixed, however many keys an attacker invents;
* nothing is evicted, so flooding the table resets no limit;
* the only error is strictness: keys that share all four cells share a limit. The salt is secret, so an attacker can't search
  for collisions. With 10,000 keys used up of 2**18 cells, one key in 2,500 is affected.

:mod:`interlock.server.guard.throttling` decides with it.
"""

from __future__ import annotations

import functools
import hashlib
import re
import struct
from typing import Final

import msgspec

RATE_PATTERN: Final = r"^(off|[1-9][0-9]{0,6}/[1-9][0-9]{0,4}[smhd])$"
CELLS: Final = 2**18

_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RATE: Final = re.compile(r"([0-9]+)/([0-9]+)([smhd])\Z")
_WAYS: Final = struct.Struct("<4I")
_US_PER_MS: Final = 1_000
_KEYS: Final = 256


class Rate(msgspec.Struct, frozen=True):
    """Allow ``count`` at once, and after that ``count`` per ``period_ms``, spaced evenly."""

    count: int
    period_ms: int


class Charge(msgspec.Struct, frozen=True):
    """What one ``take`` added to each cell, so that ``give_back`` can subtract exactly that."""

    added: tuple[tuple[int, int], ...]


def parse_rate(text: str) -> Rate | None:
    """Return the rate that ``text`` (of the form :data:`RATE_PATTERN`, such as ``10/15m``) specifies; None for ``off``."""
    match = _RATE.match(text)
    return Rate(int(match[1]), int(match[2]) * _UNIT_MS[match[3]]) if match else None


class Limiter:
    """One limit for any number of keys. A ``rate`` of None never refuses. ``salt`` (at most 64 bytes) is secret and random.

    ``cells`` is a power of two. Each takes 8 bytes once it is used.
    """

    def __init__(self, rate: Rate | None, *, salt: bytes, cells: int = CELLS) -> None:
        self._rate = rate
        self._salt = salt
        self._mask = cells - 1
        # In microseconds, because a rate of thousands per second does not divide into whole milliseconds.
        self._interval_us = max(1, rate.period_ms * _US_PER_MS // rate.count) if rate else 0
        self._cells = memoryview(bytearray(8 * cells if rate else 0)).cast("q")
        # One request asks for the same key several times.
        self._ways = functools.lru_cache(maxsize=_KEYS)(self._hashed)

    def wait_ms(self, key: str, now_ms: int, *, but: int = 0) -> int:
        """Return how long ``key`` must wait at ``now_ms`` before it may take one more; 0 if it may now.

        ``but``: treat this many earlier takes as given back.
        """
        if self._rate is None:
            return 0
        cells = self._cells
        first, second, third, fourth = self._ways(key)
        used_up_us = min(cells[first], cells[second], cells[third], cells[fourth])
        wait_us = used_up_us - now_ms * _US_PER_MS - self._interval_us * (self._rate.count - 1 + but)
        return max(0, -(-wait_us // _US_PER_MS))

    def forget_keys(self) -> None:
        """Drop the keys in memory. What they used up stays counted."""
        self._ways.cache_clear()

    def take(self, key: str, now_ms: int) -> Charge:
        """Count one use by ``key`` at ``now_ms``. The caller has checked that ``wait_ms`` is 0."""
        if self._rate is None:
            return Charge(())
        now_us = now_ms * _US_PER_MS
        before = {cell: max(now_us, self._cells[cell]) for cell in self._ways(key)}
        after_us = min(before.values()) + self._interval_us
        added = tuple([(cell, after_us - at_us) for cell, at_us in before.items() if at_us < after_us])
        for cell, _ in added:
            self._cells[cell] = after_us
        return Charge(added)

    def give_back(self, charge: Charge) -> None:
        """Undo a ``take`` whose use turned out not to count."""
        for cell, added_us in charge.added:
            self._cells[cell] -= added_us

    def _hashed(self, key: str) -> tuple[int, ...]:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, key=self._salt).digest()
        return tuple([way & self._mask for way in _WAYS.unpack(digest)])
