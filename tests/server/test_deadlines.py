"""Deadlines of many sessions: each is due once, in time, and at a cost independent of their number."""

from __future__ import annotations

import gc
import random
import time

from interlock.server.runtime.deadlines import Deadlines


def test_each_deadline_is_due_once_however_it_was_added() -> None:
    deadlines = Deadlines()
    times = {f"s{n}": n % 50 for n in range(1000)}
    deadlines.restore((at_ms, each) for each, at_ms in times.items() if at_ms % 2)
    for each, at_ms in times.items():
        if not at_ms % 2:
            deadlines.push(at_ms, each)
    came: list[str] = []
    for now_ms in range(50):
        assert deadlines.earliest_ms() == now_ms
        while due := deadlines.pop_due(now_ms, 7):
            assert len(due) <= 7
            assert {times[each] for each in due} == {now_ms}
            came += due
    assert sorted(came) == sorted(times)
    assert (len(deadlines), deadlines.earliest_ms()) == (0, None)


def test_a_dropped_deadline_is_not_due_and_leaves_nothing() -> None:
    deadlines = Deadlines()
    ids = [f"s{n}" for n in range(20_000)]
    deadlines.restore((n, each) for n, each in enumerate(ids))
    kept = set(random.Random(1).sample(ids, 100))  # noqa: S311  # not a secret
    for each in ids:
        if each not in kept:
            deadlines.drop(each)
    assert len(deadlines) < 5000, "a few in each heap"
    assert set(deadlines.pop_due(len(ids), len(ids))) == kept
    assert len(deadlines) == 0


def test_dropping_a_deadline_costs_less_than_the_number_of_sessions() -> None:
    """The event loop waits for each."""
    deadlines = Deadlines()
    ids = [f"s{n}" for n in range(100_000)]
    deadlines.restore((n % 1000, each) for n, each in enumerate(ids))
    took: list[float] = []
    gc.disable()
    try:
        for each in ids:
            # Of this thread only, because the machine may be busy.
            before = time.thread_time()
            deadlines.drop(each)
            took.append(time.thread_time() - before)
    finally:
        gc.enable()
    assert max(took) < sum(took) / 20
