"""Which password hash is computed next: a queue that is fair to accounts and to addresses.

A hash takes a thread for tens of milliseconds, so whoever asks for many decides how long everybody else waits. Three rules
bound that:

* The request goes first whose account and address have asked for least: of the requests that wait, and of the latest that
  were served since the queue was last empty.
* A full queue turns away a request of the account or address that has most waiting. So a flood displaces itself and not a
  newcomer.
* Of one account, at most two hashes are computed at a time, over all devices and addresses, and fewer than there are threads.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from machine.errors import Overloaded

J = TypeVar("J")

PER_ACCOUNT: Final = 2
"""Hashes of one account that are computed at a time."""

_RECENT: Final = 256
"""So many of the hashes that were begun last count against their account and address."""


class Requester(msgspec.Struct, frozen=True):
    """For whom a hash is computed: the folded email address, and the key by which the client's address is limited.

    ``known``: the client showed a device that the account knows, or a session of the account.
    """

    account: str
    address: str
    known: bool = False


class Entry(msgspec.Struct, Generic[J], eq=False):
    """One request in the queue; entries with smaller numbers came earlier."""

    number: int
    requester: Requester
    job: J


class HashQueue(Generic[J]):
    """Jobs that wait for one of ``threads`` threads, at most ``max_waiting``. Every call is made on the event loop."""

    def __init__(self, *, max_waiting: int, threads: int) -> None:
        self._max_waiting = max_waiting
        self._per_account = min(PER_ACCOUNT, max(1, threads - 1))
        self._waiting: list[Entry[J]] = []
        self._begun: deque[Requester] = deque()
        # Of each account and each address: the requests that wait, and those together with the latest that were begun.
        self._waits: Counter[tuple[str, str]] = Counter()
        self._asked: Counter[tuple[str, str]] = Counter()
        self._busy: Counter[str] = Counter()
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, requester: Requester, job: J) -> tuple[Entry[J], Entry[J] | None]:
        """Let ``job`` wait; its entry, and the one that it displaced, which the caller has to refuse.

        Raises:
            Overloaded: too many wait, and none of them has asked for more than this one.
        """
        self._number += 1
        entry = Entry(self._number, requester, job)
        self._waiting.append(entry)
        self._waits.update(_keys(requester))
        self._asked.update(_keys(requester))
        if len(self._waiting) <= self._max_waiting:
            return entry, None
        last = max(self._waiting, key=lambda each: (*_most(each, self._waits), *_most(each, self._asked), each.number))
        self.remove(last)
        if last is entry:
            raise Overloaded
        return entry, last

    def begin(self) -> Entry[J] | None:
        """Take out the request to serve next; None if there is none. The caller reports its end with :meth:`end`."""
        free = [entry for entry in self._waiting if self._busy[entry.requester.account] < self._per_account]
        entry = min(free, key=lambda each: (*_most(each, self._asked), each.number), default=None)
        if entry is not None:
            self._waiting.remove(entry)
            _count_down(self._waits, entry.requester)
            self._busy[entry.requester.account] += 1
            self._begun.append(entry.requester)
            if len(self._begun) > _RECENT:
                _count_down(self._asked, self._begun.popleft())
        return entry

    def end(self, entry: Entry[J]) -> None:
        """The hash of ``entry`` is computed."""
        account = entry.requester.account
        self._busy[account] -= 1
        if not self._busy[account]:
            del self._busy[account]
        if not self._waiting and not self._busy:
            # Nobody took anything from anybody so far.
            self._begun.clear()
            self._asked.clear()

    def remove(self, entry: Entry[J]) -> None:
        """Take ``entry`` out if it still waits, as if it had never come."""
        if entry in self._waiting:
            self._waiting.remove(entry)
            _count_down(self._waits, entry.requester)
            _count_down(self._asked, entry.requester)

    def drain(self) -> Iterator[J]:
        """Take out every job that waits."""
        while self._waiting:
            yield self._waiting.pop().job


def _most(entry: Entry[Any], counts: Counter[tuple[str, str]]) -> tuple[int, int]:
    # The account decides among the requests of one address: its other users are not the flood.
    account, address = _keys(entry.requester)
    return max(counts[account], counts[address]), counts[account]


def _count_down(counts: Counter[tuple[str, str]], requester: Requester) -> None:
    for key in _keys(requester):
        counts[key] -= 1
        if not counts[key]:
            del counts[key]


def _keys(requester: Requester) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("account", requester.account), ("address", requester.address)
