"""The server's clock: it never goes back, never stays ahead for good, and reports when it differs from the machine's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from interlock.server.clock import SystemClock
from interlock.server.system.host import HostMonitor
from tests.support.asynchronous import asynchronous
from tests.support.steps import NOW_MS


class Machine:
    """A machine's two clocks. Before each reading of either it may pause: the next of ``pauses``, in ms."""

    def __init__(self, monotonic_ms: int) -> None:
        self.monotonic_ms = monotonic_ms
        self.wall_ms = NOW_MS
        self.pauses: list[int] = []

    def set_wall(self, by_ms: int) -> None:
        self.wall_ms += by_ms

    @contextmanager
    def read(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(time, "time_ns", lambda: self._paused().wall_ms * 1_000_000)
            patched.setattr(time, "monotonic_ns", lambda: self._paused().monotonic_ms * 1_000_000)
            yield

    def _paused(self) -> Machine:
        by_ms = self.pauses.pop(0) if self.pauses else 0
        self.monotonic_ms += by_ms
        self.wall_ms += by_ms
        return self


def test_the_clock_never_goes_back_and_never_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = iter([1_000, 500, 500, 1_500]), iter([0, 0, 10, 30, 40])
    monkeypatch.setattr(time, "time_ns", lambda: next(wall) * 1_000_000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(steady) * 1_000_000)
    clock = SystemClock(floor_ms=700)
    assert [clock.now_ms() for _ in range(4)] == [1_000, 1_010, 1_030, 1_500]


def test_a_pause_while_the_clock_is_read_is_not_kept_as_an_offset() -> None:
    """Otherwise sessions would end early as long as the server runs, wherever the pause was."""
    machine = Machine(monotonic_ms=100)
    with machine.read():
        clock = SystemClock()
        for pauses in itertools.product((0, 3_000), repeat=2):
            machine.pauses = list(pauses)
            clock.now_ms()
            machine.pauses = []
            assert clock.now_ms() == machine.wall_ms
            assert clock.ahead_ms() == 0


def test_concurrent_threads_never_see_the_time_go_back() -> None:
    """One thread is interrupted while it holds a small step of the clock, and another takes a larger one meanwhile."""
    machine = Machine(monotonic_ms=100)
    with machine.read():
        clock = SystemClock()
        before = clock.now_ms()
        machine.set_wall(+5_000)
        smaller = machine.wall_ms * 1_000_000 - machine.monotonic_ms * 1_000_000
        machine.set_wall(+5_000)
        now = clock.now_ms()
        clock._raise(smaller)
        assert clock.now_ms() >= now > before


@asynchronous
async def test_the_clocks_lead_over_a_set_back_machine_clock_is_reported() -> None:
    machine = Machine(monotonic_ms=100)
    with machine.read(), capture_logs() as logs:
        clock = SystemClock()
        host = HostMonitor(clock, Path("/"), 0, lambda _low: None, lambda: False)
        clock.now_ms()
        await host.look()
        assert (host.warnings, logs) == ([], [])
        machine.set_wall(-60_000)
        for _ in range(2):
            await host.look()
        assert clock.ahead_ms() == 60_000
        assert len(host.warnings) == 1
        machine.set_wall(+60_000)
        for _ in range(2):
            await host.look()
        assert host.warnings == []
    assert [line["event"] for line in logs] == ["clock.set_back", "clock.caught_up"]
    assert logs[0]["ahead_ms"] == 60_000


def test_a_log_ahead_of_the_machine_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    steady = iter([5, 5, 9])
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(steady) * 1_000_000)
    clock = SystemClock(floor_ms=700)
    assert [clock.now_ms(), clock.now_ms()] == [700, 704]
