"""Rate limits: what is allowed, and that a crowd of keys gives nobody a fresh limit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.rate_limit import RATE_PATTERN, Limiter, Rate, parse_rate

SALT = b"salt"


class Exact:
    """GCRA with an exact number for each key, as in the textbook."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.interval_us = rate.period_ms * 1000 // rate.count
        self.used_up_us: dict[str, int] = {}

    def take(self, key: str, now_ms: int) -> bool:
        now_us = now_ms * 1000
        at_us = max(now_us, self.used_up_us.get(key, 0))
        if at_us - now_us > self.interval_us * (self.rate.count - 1):
            return False
        self.used_up_us[key] = at_us + self.interval_us
        return True


def take(limiter: Limiter, key: str, now_ms: int) -> bool:
    if limiter.wait_ms(key, now_ms):
        return False
    limiter.take(key, now_ms)
    return True


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("off", None),
        ("10/15m", Rate(10, 900_000)),
        ("1/1s", Rate(1, 1_000)),
        ("100/1h", Rate(100, 3_600_000)),
        ("5/2d", Rate(5, 172_800_000)),
    ],
)
def test_a_rate_is_a_count_and_a_period(text: str, rate: Rate | None) -> None:
    assert re.match(RATE_PATTERN, text)
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0/1s", "1/0s", "1/1", "1/1w", "-1/1s", "1/1s ", "on", "10000000/1s"])
def test_other_texts_are_no_rates(text: str) -> None:
    assert not re.match(RATE_PATTERN, text)


def test_a_burst_is_free_and_then_one_each_interval() -> None:
    limiter = Limiter(Rate(3, 30_000), salt=SALT)
    now_ms = 1_700_000_000_000
    assert [take(limiter, "a", now_ms) for _ in range(4)] == [True, True, True, False]
    assert limiter.wait_ms("a", now_ms) == 10_000
    assert limiter.wait_ms("b", now_ms) == 0
    assert not take(limiter, "a", now_ms + 9_999)
    assert take(limiter, "a", now_ms + 10_000)
    assert not take(limiter, "a", now_ms + 10_000)
    assert [take(limiter, "a", now_ms + 100_000) for _ in range(4)] == [True, True, True, False]


def test_a_charge_that_is_given_back_does_not_count() -> None:
    limiter = Limiter(Rate(2, 20_000), salt=SALT)
    for _ in range(10):
        limiter.give_back(limiter.take("a", 5_000))
    assert [take(limiter, "a", 5_000) for _ in range(3)] == [True, True, False]


def test_the_rate_off_is_no_limit() -> None:
    limiter = Limiter(None, salt=SALT)
    for _ in range(1000):
        assert take(limiter, "a", 0)
    limiter.give_back(limiter.take("a", 0))


def test_a_refusals_wait_is_never_zero() -> None:
    limiter = Limiter(Rate(3_000, 1_000), salt=SALT)
    for _ in range(3_000):
        assert take(limiter, "a", 0)
    assert limiter.wait_ms("a", 0) == 1


STEPS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4_000)), max_size=60)


@given(st.integers(1, 5), st.integers(1_000, 10_000), STEPS)
def test_with_enough_cells_the_limiter_is_exact_gcra(count: int, period_ms: int, steps: list[tuple[str, int]]) -> None:
    rate = Rate(count, period_ms)
    limiter, exact, now_ms = Limiter(rate, salt=SALT), Exact(rate), 0
    for key, passed_ms in steps:
        now_ms += passed_ms
        assert take(limiter, key, now_ms) == exact.take(key, now_ms)


@given(st.integers(1, 5), st.integers(1_000, 10_000), STEPS)
def test_with_shared_cells_the_limiter_is_only_stricter(
    count: int, period_ms: int, steps: list[tuple[str, int]]
) -> None:
    """Eight cells for six keys: keys that share a cell also wait for each other, and none gets more than alone."""
    rate = Rate(count, period_ms)
    limiter, exact, now_ms = Limiter(rate, salt=SALT, cells=8), Exact(rate), 0
    for key, passed_ms in steps:
        now_ms += passed_ms
        if take(limiter, key, now_ms):
            assert exact.take(key, now_ms)


@pytest.mark.asvs("2.4.1")
def test_a_crowd_of_made_up_keys_changes_hardly_any_other_limit() -> None:
    limiter = Limiter(Rate(1, 3_600_000), salt=SALT)
    assert take(limiter, "attacker", 0)
    for number in range(10_000):
        limiter.take(f"made up {number}", 0)
    assert not take(limiter, "attacker", 0)
    refused = sum(limiter.wait_ms(f"innocent {number}", 0) > 0 for number in range(10_000))
    assert refused < 50
