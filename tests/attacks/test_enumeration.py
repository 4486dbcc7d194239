"""Whether the time of a failed login reveals that the address has an account. A real server with real hashes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

import httpx
import pytest

from tests.support.client import PASSWORD
from tests.support.server import ServerProcess, check_trace

TRIES = 200

TOLERANCE = 0.2
"""Tolerance: how far the probability that an attempt at a known address takes longer may lie from a half.

With 100 of each and no difference its standard deviation is sqrt((100 + 100 + 1) / (12 * 100 * 100)) = 0.041: a false alarm
would be 4.9 of them away. Without the decoy hash nearly every attempt at a known address takes longer: 20 ms and more
against one."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with production hashes and without limits."""
    process = ServerProcess(tmp_path_factory.mktemp("enumeration") / "data", {})
    process.cheap_passwords = False
    process.start()
    try:
        yield process
    finally:
        process.stop()
        check_trace(process.trace)


def longer(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the probability that one of ``some`` exceeds one of ``others`` (Mann and Whitney's U, by ranks)."""
    ranked = sorted([(value, True) for value in some] + [(value, False) for value in others])
    assert all(before[0] <= after[0] for before, after in pairwise(ranked))
    ranks = sum(rank for rank, (_, is_one) in enumerate(ranked, start=1) if is_one)
    return (ranks - len(some) * (len(some) + 1) / 2) / (len(some) * len(others))


def test_the_statistic_detects_a_difference_and_no_difference() -> None:
    chance = random.Random(1)  # noqa: S311  # an example
    some, same, more = ([chance.gauss(mean, 1) for _ in range(500)] for mean in (0, 0, 1))
    assert abs(longer(some, same) - 0.5) < TOLERANCE
    assert longer(more, same) > 0.5 + TOLERANCE
    assert longer([1.0], [0.0]) == 1.0


@pytest.mark.slow
def test_neither_answer_nor_time_of_a_login_reveals_an_account(server: ServerProcess) -> None:
    chance = random.Random(20260123)  # noqa: S311  # the order of attempts, the same in each run
    known = [f"known{number}@example.org" for number in range(10)]
    unknown = [f"nobody{number}@example.org" for number in range(10)]
    took: dict[bool, list[float]] = {True: [], False: []}
    answers: dict[bool, set[tuple[int, str]]] = {True: set(), False: set()}
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for email in known:
            http.post("/api/auth/register", json={"email": email, "password": PASSWORD}).raise_for_status()

        def attempt(email: str) -> tuple[float, httpx.Response]:
            began = time.perf_counter()
            answer = http.post("/api/auth/login", json={"email": email, "password": f"{PASSWORD}, not"})
            return time.perf_counter() - began, answer

        for email in known + unknown:
            attempt(email)
        # In pairs of random order, so that other load on the machine affects both alike.
        for _ in range(TRIES // 2):
            for exists in chance.sample([True, False], 2):
                seconds, answer = attempt(chance.choice(known if exists else unknown))
                took[exists].append(seconds)
                answers[exists].add((answer.status_code, answer.text))
    assert answers[True] == answers[False]
    assert len(answers[True]) == 1
    assert abs(longer(took[True], took[False]) - 0.5) < TOLERANCE
