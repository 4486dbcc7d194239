"""Which password hash is computed next: a queue that is fair to accounts and to addresses.

A hash takes a thread for tens of milliseconds, so whoever asks for many decides how long everybody else waits. Three rules
bound that:

* The request goes first whose account and address have had least: of the latest hashes that were begun since the queue was
  last empty. What waits does not count here: an account that has more waiting than others would be served less than them, and
  so have even more waiting.
* A full queue turns away a request of the account or address that has most waiting. So a flood displaces itself and not a
  newcomer.
* Of one account, one hash is computed at a time, over all devices and addresses.

An arrival at a full queue, and the choice of the next request, look at each waiting request once. So ``max_waiting`` has to be
small: the event loop does this work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from interlock.machine.errors import Overloaded

J = TypeVar("J")


class Ended(Protocol):
    """What is called at the end of a hash that was counted, with whether it goes on counting."""

    def __call__(self, *, counts: bool) -> None:
        """End it."""
        ...


Count: TypeAlias = Callable[[], Ended]
"""Counts a try at a password when its hash begins. Raises RateLimited if there were too many."""

_RECENT: Final = 256
"""So many of the hashes that were begun last count against their account and address."""


class Requester(msgspec.Struct, frozen=True):
    """For whom a hash is computed: the folded email address, and the key by which the client's address is limited.

    ``known``: the client showed a device that the account knows, or a session of the account.
    """

    account: str
    address: str
    known: bool = False


class _Share(msgspec.Struct, eq=False):
    """What one account, or one address, has of the queue: how many requests that wait, and of the latest that were begun."""

    waiting: int = 0
    begun: int = 0


class Entry(msgspec.Struct, Generic[J], eq=False):
    """One request in the queue; entries with smaller numbers came earlier."""

    number: int
    requester: Requester
    job: J
    account: _Share
    address: _Share


class HashQueue(Generic[J]):
    """Jobs that wait for a thread, at most ``max_waiting``. Every call is made on the event loop."""

    def __init__(self, *, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: dict[int, Entry[J]] = {}
        self._begun: deque[Requester] = deque()
        self._accounts: dict[str, _Share] = {}
        self._addresses: dict[str, _Share] = {}
        self._busy: set[str] = set()
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, requester: Requester, job: J) -> tuple[Entry[J], Entry[J] | None]:
        """Queue ``job``. Return its entry, and the entry that it displaced, which the caller has to refuse.

        Raises:
            Overloaded: too many wait, and nobody has more waiting than this one.
        """
        self._number += 1
        account = self._accounts.setdefault(requester.account, _Share())
        address = self._addresses.setdefault(requester.address, _Share())
        for share in (account, address):
            share.waiting += 1
        entry = Entry(self._number, requester, job, account, address)
        self._waiting[entry.number] = entry
        if len(self._waiting) <= self._max_waiting:
            return entry, None
        last = max(self._waiting.values(), key=_claims_and_number)
        self.remove(last)
        if last is entry:
            raise Overloaded
        return entry, last

    def begin(self) -> Entry[J] | None:
        """Return the next request, or None. The caller reports its end with :meth:`end`."""
        free = [entry for entry in self._waiting.values() if entry.requester.account not in self._busy]
        entry = min(free, key=_begun_and_number, default=None)
        if entry is not None:
            self._take_out(entry)
            self._busy.add(entry.requester.account)
            self._count_begun(entry)
        return entry

    def end(self, entry: Entry[J]) -> None:
        """Let the account of ``entry`` have its next hash: this one is computed."""
        self._busy.remove(entry.requester.account)
        if not self._waiting and not self._busy:
            # Reset when idle: no requester is owed anything.
            self._begun.clear()
            self._accounts.clear()
            self._addresses.clear()

    def remove(self, entry: Entry[J]) -> None:
        """Take ``entry`` out if it still waits, as if it had never come."""
        if entry.number in self._waiting:
            self._take_out(entry)
            self._forget_idle(entry.requester)

    def drain(self) -> Iterator[J]:
        """Take out every job that waits."""
        while self._waiting:
            yield self._waiting.popitem()[1].job

    def _take_out(self, entry: Entry[J]) -> None:
        del self._waiting[entry.number]
        entry.account.waiting -= 1
        entry.address.waiting -= 1

    def _count_begun(self, entry: Entry[J]) -> None:
        entry.account.begun += 1
        entry.address.begun += 1
        self._begun.append(entry.requester)
        if len(self._begun) > _RECENT:
            oldest = self._begun.popleft()
            self._accounts[oldest.account].begun -= 1
            self._addresses[oldest.address].begun -= 1
            self._forget_idle(oldest)

    def _forget_idle(self, requester: Requester) -> None:
        for shares, name in ((self._accounts, requester.account), (self._addresses, requester.address)):
            if not shares[name].waiting and not shares[name].begun:
                del shares[name]


# The account decides among the requests of one address: its other users are not the flood.


def _begun_and_number(entry: Entry[Any]) -> tuple[int, int, int]:
    account, address = entry.account.begun, entry.address.begun
    return (account if account > address else address), account, entry.number  # noqa: FURB136  # max() takes twice as long


def _claims_and_number(entry: Entry[Any]) -> tuple[int, int, int, int, int]:
    account, address = entry.account.waiting, entry.address.waiting
    return (account if account > address else address), account, *_begun_and_number(entry)  # noqa: FURB136  # as above
