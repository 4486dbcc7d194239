"""The hash queue: no number of accounts and addresses keeps a newcomer waiting or out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from interlock.machine.errors import Overloaded
from interlock.server.guard.passwords.hash_queue import Entry, HashQueue, Requester

PLACES = 8
OWNER = Requester("owner@example.org", "192.0.2.1")


class Threads:
    """Simulated threads, each of which computes one hash per turn."""

    def __init__(self, threads: int = 2) -> None:
        self.queue: HashQueue[str] = HashQueue(max_waiting=PLACES)
        self.threads = threads
        self.computing: list[Entry[str]] = []
        self.displaced: list[Requester] = []

    def ask(self, requester: Requester, job: str = "") -> bool:
        """Add a request. Return whether there was room."""
        try:
            _, displaced = self.queue.add(requester, job)
        except Overloaded:
            return False
        if displaced is not None:
            self.displaced.append(displaced.requester)
        return True

    def flood(self, requesters: Iterable[Requester]) -> None:
        """Let each requester add one, and run the threads meanwhile."""
        for number, requester in enumerate(requesters):
            self.ask(requester)
            if number % 3 == 0:
                self.turn()

    def turn(self) -> list[Entry[str]]:
        """Run one turn of the threads. Return what they begin."""
        for entry in self.computing:
            self.queue.end(entry)
        begun = [self.queue.begin() for _ in range(self.threads)]
        self.computing = [entry for entry in begun if entry is not None]
        return self.computing


def addresses(count: int) -> list[str]:
    return [f"198.51.{number // 250}.{number % 250}" for number in range(count)]


FLOODS: dict[str, list[Requester]] = {
    "one account on many devices": [Requester("mallory@example.org", "198.51.100.1")] * 300,
    "many accounts from one address": [Requester(f"{n % 60}@x.org", "198.51.100.1") for n in range(300)],
    "one account from many addresses": [Requester("mallory@x.org", each) for each in addresses(300)],
    "several accounts from several addresses": [
        Requester(f"{n % 12}@x.org", addresses(20)[n % 20]) for n in range(400)
    ],
    "the owner's own address": [Requester("mallory@x.org", OWNER.address)] * 300,
}


@pytest.mark.asvs("6.1.1")
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("kind", FLOODS)
def test_a_newcomer_is_next_in_the_queue_in_any_flood(kind: str, threads: int) -> None:
    pool = Threads(threads)
    pool.flood(FLOODS[kind])
    for _ in range(10):
        assert pool.ask(OWNER, "owner"), "there is a place"
        assert "owner" in [entry.job for entry in pool.turn()]
        pool.flood(FLOODS[kind][:20])


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_account_has_one_thread_at_a_time(threads: int) -> None:
    pool = Threads(threads)
    for each in addresses(PLACES):
        assert pool.ask(Requester("mallory@x.org", each))
    assert [len(pool.turn()) for _ in range(PLACES)] == [1] * PLACES
    assert pool.turn() == []


def test_equal_requesters_share_the_queue_in_order() -> None:
    pool = Threads(threads=1)
    users = [Requester(f"{n}@x.org", each) for n, each in enumerate(addresses(PLACES))]
    for number, user in enumerate(users):
        assert pool.ask(user, str(number))
    assert not pool.ask(Requester("late@x.org", "203.0.113.9")), "nobody has had more"
    assert [pool.turn()[0].job for _ in users] == [str(number) for number in range(PLACES)]


def test_a_full_queue_drops_a_request_of_the_largest_share() -> None:
    pool = Threads()
    few, many = Requester("few@x.org", "198.51.100.1"), Requester("many@x.org", "198.51.100.2")
    for requester in [few, few, *[many] * (PLACES - 2)]:
        assert pool.ask(requester)
    assert not pool.ask(many)
    assert pool.ask(Requester("new@x.org", "198.51.100.3"))
    assert pool.displaced == [many]


def test_hashes_begun_long_ago_do_not_count() -> None:
    pool = Threads(threads=1)
    busy, other = Requester("busy@x.org", "198.51.100.1"), Requester("other@x.org", "198.51.100.2")
    pool.flood([busy] * 100)
    pool.flood([Requester(f"{n}@x.org", each) for n, each in enumerate(addresses(2000))])
    while pool.turn():
        pass
    pool.flood([busy, other] * 40)
    while len(pool.queue):
        pool.turn()
    served: Counter[str] = Counter()
    for _ in range(10):
        pool.ask(busy, "busy")
        pool.ask(other, "other")
        served.update(entry.job for entry in [*pool.turn(), *pool.turn()])
    assert served["busy"] == served["other"] == 10


def test_hashes_served_while_the_queue_was_empty_do_not_count() -> None:
    pool = Threads()
    for _ in range(100):
        assert pool.ask(OWNER)
        pool.turn()
    pool.turn()
    for _ in range(4):
        for each in addresses(4):
            pool.ask(Requester(f"{each}@x.org", each))
    assert pool.ask(OWNER, "owner")
    begun = [entry for _ in range(3) for entry in pool.turn()]
    assert "owner" in [entry.job for entry in begun], (
        "after one of each who was there before, and no second one of them"
    )


def test_no_account_is_served_less_than_others() -> None:
    """Each client sends again when it is answered. An account's waiting requests must not keep it from being served."""
    pool, chance = Threads(threads=1), random.Random(1)  # noqa: S311  # the choice of accounts is no secret
    pool.queue = HashQueue(max_waiting=64)
    for _ in range(64):
        pool.ask(Requester(f"{chance.randrange(64)}@x.org", "198.51.100.1"))
    most = []
    for _ in range(5000):
        assert pool.turn()
        pool.ask(Requester(f"{chance.randrange(64)}@x.org", "198.51.100.1"))
        most.append(max(Counter(entry.requester.account for entry in pool.queue._waiting.values()).values()))
    assert sorted(most)[2500] < 16, "a quarter of all"


def test_an_abandoned_request_is_not_served() -> None:
    pool = Threads()
    entry, _ = pool.queue.add(OWNER, "gone")
    pool.queue.remove(entry)
    pool.queue.remove(entry)
    assert len(pool.queue) == 0
    assert pool.turn() == []
    assert pool.ask(OWNER, "there")
    assert list(pool.queue.drain()) == ["there"]
    assert pool.turn() == []
