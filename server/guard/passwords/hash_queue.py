"""The queue of password hashes, fair to accounts and to addresses.

A hash takes a thread for tens of milliseconds, so one client with many requests could delay all others. Three rules bound
that:

* The next request is the one whose account and address had the fewest of the latest hashes begun since the queue was last
  empty. Waiting requests don't count: an account with more of them would be served less, and so have even more waiting.
* A full queue drops a request of the account or address with the most waiting. So a flood displaces itself and not a
  newcomer.
* For each account, one hash is computed at a time, over all devices and addresses.

An arrival at a full queue and the choice of the next request scan all waiting requests. The event loop does this work, so
``max_waiting`` must be small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from interlock.machine.errors import Overloaded

J = TypeVar("J")


class Ended(Protocol):
    """A callback for the end of a counted hash."""

    def __call__(self, *, counts: bool) -> None:
        """End the hash. ``counts``: whether it stays counted."""
        ...


Count: TypeAlias = Callable[[], Ended]
"""Counts a password attempt when its hash begins. Raises RateLimited if there were too many."""

_RECENT: Final = 256
"""How many of the latest hashes count against their account and address."""


class Requester(msgspec.Struct, frozen=True):
    """For whom a hash is computed: the folded email address, and the rate limit key of the client's address.

    ``known``: the client showed a device that the account knows, or a session of the account.
    """

    account: str
    address: str
    known: bool = False


class _Share(msgspec.Struct, eq=False):
    """An account's or address's share of the queue: requests waiting, and how many of the latest hashes were its own."""

    waiting: int = 0
    begun: int = 0


class Entry(msgspec.Struct, Generic[J], eq=False):
    """A request in the queue. Smaller numbers arrived earlier."""

    number: int
    requester: Requester
    job: J
    account: _Share
    address: _Share


class HashQueue(Generic[J]):
    """Jobs that wait for a thread, at most ``max_waiting``. Call every method on the event loop."""

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
        """Queue ``job``. Return its entry, and the entry it displaced, which the caller must refuse.

        Raises:
            Overloaded: the queue is full, and this requester has the most waiting.
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
        """Take the next request and return it, or None. The caller must call :meth:`end` when it is done."""
        free = [entry for entry in self._waiting.values() if entry.requester.account not in self._busy]
        entry = min(free, key=_begun_and_number, default=None)
        if entry is not None:
            self._take_out(entry)
            self._busy.add(entry.requester.account)
            self._count_begun(entry)
        return entry

    def end(self, entry: Entry[J]) -> None:
        """Mark the hash of ``entry`` as done, so that its account can have its next one."""
        self._busy.remove(entry.requester.account)
        if not self._waiting and not self._busy:
            # Reset when idle: no requester is owed anything.
            self._begun.clear()
            self._accounts.clear()
            self._addresses.clear()

    def remove(self, entry: Entry[J]) -> None:
        """Remove ``entry`` if it still waits, as if it had never arrived."""
        if entry.number in self._waiting:
            self._take_out(entry)
            self._forget_idle(entry.requester)

    def drain(self) -> Iterator[J]:
        """Remove and yield every waiting job."""
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


# Among the requests of one address the account decides: the address's other users are not the flood.


def _begun_and_number(entry: Entry[Any]) -> tuple[int, int, int]:
    account, address = entry.account.begun, entry.address.begun
    return (account if account > address else address), account, entry.number  # noqa: FURB136  # max() takes twice as long


def _claims_and_number(entry: Entry[Any]) -> tuple[int, int, int, int, int]:
    account, address = entry.account.waiting, entry.address.waiting
    return (account if account > address else address), account, *_begun_and_number(entry)  # noqa: FURB136  # as above
