"""Deliveries to a webhook: order within a session, independence of sessions, retries, outages, and what is stored."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from interlock.machine.events import deliveries as module
from interlock.machine.events.deliveries import AT_ONCE, RETRIES_S, WINDOW, Deliveries, Failure, Pending

_ERROR = Failure("it answered 500", 500)
_DAY_MS = 86_400_000


def new(cursor: int = 0, aside: Iterable[Pending] = (), factor: float = 1.0) -> Deliveries:
    return Deliveries(cursor, aside, lambda: factor)


def begun(deliveries: Deliveries, now_ms: int) -> list[Pending]:
    """Return every message that is sent now."""
    found = []
    while (pending := deliveries.next(now_ms)) is not None:
        found.append(pending)
    return found


def fail_all(deliveries: Deliveries, now_ms: int, failure: Failure = _ERROR) -> list[int]:
    """Have everything that is sent now fail. Return its positions."""
    sent = begun(deliveries, now_ms)
    for each in sent:
        deliveries.failed(each.key, failure, now_ms)
    return [each.position for each in sent]


def test_messages_of_a_session_are_sent_one_after_the_other() -> None:
    deliveries = new()
    for position, key in ((1, "a"), (2, "a"), (3, "b"), (4, "a")):
        deliveries.read(position, key)
    assert [each.position for each in begun(deliveries, 0)] == [1, 3]
    deliveries.delivered("a", 0)
    assert [each.position for each in begun(deliveries, 0)] == [2]
    deliveries.delivered("a", 0)
    deliveries.delivered("b", 0)
    assert [each.position for each in begun(deliveries, 0)] == [4]
    assert deliveries.cursor == 3
    deliveries.delivered("a", 0)
    deliveries.pass_to(9)
    assert (deliveries.cursor, deliveries.waiting) == (9, 0)


def test_a_message_that_is_put_aside_no_longer_waits_in_the_window() -> None:
    deliveries = new()
    deliveries.read(1, "a")
    deliveries.read(2, "b")
    assert deliveries.in_window(1)
    assert fail_all(deliveries, 0) == [1, 2]
    assert not deliveries.in_window(1)
    assert deliveries.waiting == 2


def test_only_some_messages_are_under_way_at_a_time() -> None:
    deliveries = new()
    for position in range(1, 50):
        deliveries.read(position, f"s{position}")
    assert len(begun(deliveries, 0)) == AT_ONCE
    deliveries.delivered("s1", 0)
    assert len(begun(deliveries, 0)) == 1


def test_a_poisoned_session_holds_up_itself_alone() -> None:
    deliveries = new()
    deliveries.read(1, "bad")
    assert fail_all(deliveries, 0) == [1]
    for position in range(2, 500, 2):
        deliveries.read(position, f"good{position}")
        deliveries.read(position + 1, "bad")
        (sent,) = begun(deliveries, 0)
        assert sent.position == position
        deliveries.delivered(sent.key, 0)
    assert deliveries.cursor == deliveries.read_to, "what is put aside does not hold the cursor"
    assert deliveries.room == WINDOW
    changes = deliveries.take_changes()
    assert sorted(changes.aside) == [1, *range(3, 500, 2)], "and is stored"
    assert not deliveries.has_changes


def test_a_message_is_repeated_over_three_days_and_then_given_up() -> None:
    deliveries = new()
    deliveries.read(1, "bad")
    deliveries.read(2, "bad")
    now_ms, attempts = 1, []
    while deliveries.take_changes().dead == {}:
        assert fail_all(deliveries, now_ms) == [1]
        attempts.append(now_ms)
        if deliveries.due_ms():
            now_ms = deliveries.due_ms() or 0
    waits = [(later - before) // 1000 for before, later in pairwise(attempts)]
    assert waits == list(RETRIES_S)
    assert 3 * _DAY_MS < attempts[-1] < 4 * _DAY_MS
    assert [each.position for each in begun(deliveries, now_ms)] == [2], "the next one of the session follows"
    assert deliveries.disabled is None


def test_delays_vary_at_random() -> None:
    for factor in (0.8, 1.2):
        deliveries = new(factor=factor)
        deliveries.read(1, "a")
        fail_all(deliveries, 1)
        assert deliveries.due_ms() == 1 + round(RETRIES_S[0] * 1000 * factor)


def test_410_disables_and_loses_nothing() -> None:
    deliveries = new()
    deliveries.read(1, "a")
    deliveries.read(2, "b")
    fail_all(deliveries, 1, Failure("it answered 410", 410))
    assert deliveries.disabled == "it answered 410 Gone"
    assert (begun(deliveries, 10**12), deliveries.due_ms()) == ([], None)
    deliveries.enable(5)
    assert sorted(each.position for each in begun(deliveries, 5)) == [1, 2]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_answer_of_an_overloaded_receiver_pauses_all_messages(status: int) -> None:
    deliveries = new(factor=0.8)
    deliveries.read(1, "a")
    (sent,) = begun(deliveries, 1)
    deliveries.failed(sent.key, Failure("busy", status, 60_000), 1)
    deliveries.read(2, "b")
    assert begun(deliveries, 60_000) == []
    assert deliveries.due_ms() == 60_001, "not before the time that it asked for"
    assert {each.position for each in begun(deliveries, 60_001)} == {1, 2}


def test_another_failure_pauses_its_session_only_but_respects_retry_after() -> None:
    deliveries = new()
    deliveries.read(1, "a")
    (sent,) = begun(deliveries, 1)
    deliveries.failed(sent.key, Failure("it answered 500", 500, 60_000), 1)
    deliveries.read(2, "b")
    assert [each.position for each in begun(deliveries, 59_000)] == [2]
    assert [each.position for each in begun(deliveries, 60_001)] == [1]


def outage(deliveries: Deliveries, until_ms: int) -> list[tuple[int, int]]:
    """Fail every attempt until a time. Return the attempts: when, and how many under way."""
    attempts, now_ms, position = [], 1, deliveries.read_to
    while now_ms < until_ms:
        while deliveries.room and position < deliveries.read_to + WINDOW:
            position += 1
            deliveries.read(position, f"s{position}")
        sent = begun(deliveries, now_ms)
        attempts += [(now_ms, len(sent))] if sent else []
        for each in sent:
            deliveries.failed(each.key, _ERROR, now_ms)
        if deliveries.disabled is not None:
            break
        now_ms = max(deliveries.due_ms() or 0, now_ms + 1)
    return attempts


def test_a_webhook_that_is_down_is_tried_seldom_and_one_message_at_a_time() -> None:
    deliveries = new()
    attempts = outage(deliveries, 3_600_000)
    assert deliveries.is_down
    first, *probes = attempts
    assert first[1] == AT_ONCE
    assert {count for _, count in probes} == {1}
    assert len(probes) < 30
    assert deliveries.waiting < WINDOW + 40, "the rest stays in the log"


def test_after_an_outage_everything_is_sent_at_once() -> None:
    deliveries = new()
    attempts = outage(deliveries, 3_600_000)
    now_ms = max(deliveries.due_ms() or 0, attempts[-1][0])
    delivered = []
    while sent := begun(deliveries, now_ms):
        for each in sent:
            deliveries.delivered(each.key, now_ms)
            delivered.append(each.position)
    assert sorted(delivered) == list(range(1, deliveries.read_to + 1))
    assert deliveries.waiting == 0


def test_a_webhook_that_is_down_for_days_is_disabled() -> None:
    deliveries = new()
    attempts = outage(deliveries, 30 * _DAY_MS)
    assert deliveries.disabled == "nothing was delivered for three days"
    assert 3 * _DAY_MS < attempts[-1][0] < 5 * _DAY_MS


def test_what_is_put_aside_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASIDE", 10)
    deliveries = new()
    for position in range(1, 11):
        assert deliveries.room
        deliveries.read(position, "bad")
    fail_all(deliveries, 0)
    assert deliveries.room == 0, "the log keeps the rest"


def test_a_restart_continues_with_what_was_stored() -> None:
    before = new()
    for position, key in ((1, "slow"), (2, "bad"), (3, "bad"), (4, "good")):
        before.read(position, key)
    sent = {each.key: each for each in begun(before, 1)}
    before.delivered("good", 1)
    before.failed("bad", _ERROR, 1)
    changes, cursor = copy.deepcopy(before.take_changes()), before.cursor
    assert (cursor, sorted(changes.aside)) == (0, [2, 3])
    assert set(sent) == {"slow", "bad", "good"}
    after = new(cursor, changes.aside.values())
    for position, key in ((1, "slow"), (2, "bad"), (3, "bad"), (4, "good"), (5, "bad")):
        after.read(position, key)
    assert sorted(each.position for each in begun(after, 2)) == [1, 4], "4 once more: its delivery was not stored"
    after.delivered("slow", 2)
    after.delivered("good", 2)
    order = []
    for _ in range(3):
        (each,) = begun(after, 10_000)
        order.append(each.position)
        after.delivered(each.key, 10_000)
    assert order == [2, 3, 5]


def test_changes_that_could_not_be_stored_are_stored_later() -> None:
    deliveries = new()
    deliveries.read(1, "a")
    deliveries.read(2, "b")
    fail_all(deliveries, 1)
    changes = deliveries.take_changes()
    (sent,) = [each for each in begun(deliveries, 10_000) if each.position == 1]
    deliveries.delivered(sent.key, 10_000)
    deliveries.return_changes(changes)
    again = deliveries.take_changes()
    assert (set(again.aside), again.delivered) == ({2}, {1})


def test_a_message_that_could_not_be_prepared_is_sent_a_little_later() -> None:
    deliveries = new()
    deliveries.read(1, "a")
    (sent,) = begun(deliveries, 1)
    deliveries.given_back(sent.key, 1)
    assert begun(deliveries, 500) == []
    (again,) = begun(deliveries, deliveries.due_ms() or 0)
    assert (again.position, again.attempts) == (1, 0)


def test_a_replayed_message_goes_before_those_of_its_session_that_wait() -> None:
    deliveries = new(4)
    deliveries.read(5, "a")
    deliveries.read(6, "a")
    (sent,) = begun(deliveries, 0)
    deliveries.restore(Pending(2, "a"))
    deliveries.restore(Pending(1, "b"))
    assert [each.position for each in begun(deliveries, 0)] == [1]
    deliveries.delivered(sent.key, 0)
    assert [each.position for each in begun(deliveries, 0)] == [2]
    deliveries.delivered("a", 0)
    assert [each.position for each in begun(deliveries, 0)] == [6]
    assert deliveries.take_changes().delivered == {2}


def test_a_session_with_a_replayed_message_under_way_sends_no_second_one() -> None:
    deliveries = new(4)
    deliveries.read(5, "a")
    assert fail_all(deliveries, 1) == [5]
    deliveries.restore(Pending(2, "a"))
    assert [each.position for each in begun(deliveries, 2)] == [2]
    assert begun(deliveries, 100_000) == [], "5 is due, and waits for 2"
    deliveries.delivered("a", 100_000)
    assert [each.position for each in begun(deliveries, 100_000)] == [5]


class AnyWorld(RuleBasedStateMachine):
    """Whatever the receiver answers, and whenever the server is killed: order, no loss, and a bounded number under way."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.now_ms = 1
        self.stored: dict[int, Pending] = {}
        self.dead: set[int] = set()
        self.cursor = 0
        self.delivered: list[int] = []
        self.under_way: dict[str, Pending] = {}
        self.deliveries = new()

    @rule(key=st.sampled_from("abcdefgh"))
    def record(self, key: str) -> None:
        self.log.append(key)

    @rule()
    def read(self) -> None:
        for position in range(self.deliveries.read_to + 1, len(self.log) + 1):
            if self.deliveries.room:
                self.deliveries.read(position, self.log[position - 1])

    @rule()
    def send(self) -> None:
        if (pending := self.deliveries.next(self.now_ms)) is not None:
            assert pending.key not in self.under_way, "one at a time of each session"
            earlier = {n for n in range(1, pending.position) if self.log[n - 1] == pending.key}
            assert earlier <= {*self.delivered, *self.dead}, "in order"
            self.under_way[pending.key] = pending

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), failure=st.sampled_from([None, None, _ERROR, Failure("busy", 503, 9_000), Failure("down")]))
    def answer(self, data: st.DataObject, failure: Failure | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.under_way)))
        pending = self.under_way.pop(key)
        if failure is None:
            self.delivered.append(pending.position)
            self.deliveries.delivered(key, self.now_ms)
        elif self.deliveries.failed(key, failure, self.now_ms) is not None:
            self.dead.add(pending.position)

    @rule(later_ms=st.sampled_from([1, 6_000, 400_000, _DAY_MS]))
    def wait(self, later_ms: int) -> None:
        self.now_ms += later_ms

    @rule()
    def save(self) -> None:
        changes = self.deliveries.take_changes()
        self.cursor = self.deliveries.cursor
        self.stored |= copy.deepcopy(changes.aside)
        for position in changes.delivered | changes.dead.keys():
            self.stored.pop(position, None)

    @rule()
    def kill(self) -> None:
        self.deliveries = new(self.cursor, copy.deepcopy(self.stored).values())
        self.under_way.clear()

    @rule()
    def enable(self) -> None:
        self.deliveries.enable(self.now_ms)

    @invariant()
    def nothing_is_lost(self) -> None:
        passed = set(range(1, self.cursor + 1))
        assert passed <= {*self.delivered, *self.dead, *self.stored}
        assert len(self.under_way) <= AT_ONCE

    def teardown(self) -> None:
        """Once the receiver takes everything, everything arrives."""
        self.deliveries.enable(self.now_ms)
        for _ in range(len(self.log) + 2):
            for key in [*self.under_way]:
                self.answer_well(key)
            self.read()
            for each in begun(self.deliveries, self.now_ms):
                self.under_way[each.key] = each
        assert {*self.delivered, *self.dead} == set(range(1, len(self.log) + 1))
        assert self.deliveries.waiting == 0

    def answer_well(self, key: str) -> None:
        self.delivered.append(self.under_way.pop(key).position)
        self.deliveries.delivered(key, self.now_ms)


TestAnyWorld = AnyWorld.TestCase
TestAnyWorld.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
