"""Figures, and the fair comparison of two sides: in turns, within one run, by medians."""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec


class BenchError(Exception):
    """A figure can't be measured here; the message says what is missing."""


class Figure(msgspec.Struct, frozen=True):
    """One row of the table. ``reached`` is None for a figure without a target."""

    title: str
    ours: str
    ceiling: str = ""
    ratio: str = ""
    bar: str = ""
    reached: bool | None = None
    note: str = ""


class Bench:
    """The environment of a figure: where to put files, how thorough to be, and how to report progress.

    ``sockets``: how many a figure opens if the caller chooses.
    """

    def __init__(self, folder: Path, *, quick: bool, say: Callable[[str], None], sockets: int | None = None) -> None:
        self.folder = folder
        self.quick = quick
        self.say = say
        self.sockets = sockets

    def pick(self, full: int, quick: int) -> int:
        """Return a count by how thorough this run is."""
        return quick if self.quick else full

    def path(self, name: str) -> Path:
        """Return a new folder for one measurement."""
        path = self.folder / name
        path.mkdir(parents=True)
        return path


class Pairs(msgspec.Struct, frozen=True):
    """Rates of two sides that took turns."""

    ours: list[float]
    ceiling: list[float]

    @property
    def ratios(self) -> list[float]:
        """Each turn's own ratio, lowest first. Other load on the machine affected both sides of a turn."""
        return sorted(a / b for a, b in zip(self.ours, self.ceiling, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the turns' ratios."""
        return statistics.median(self.ratios)

    def at_least(self, title: str, bar: float, unit: str, note: str = "") -> Figure:
        """Return the figure that asks for a ratio of ``bar`` or more."""
        return Figure(
            title=title,
            ours=f"{number(statistics.median(self.ours))} {unit}",
            ceiling=f"{number(statistics.median(self.ceiling))} {unit}",
            ratio=self.spread(),
            bar=f"≥ {bar:g}",
            reached=self.ratio >= bar,
            note=note,
        )

    def spread(self) -> str:
        """Return the ratio, and the range of single turns."""
        digits = 0 if self.ratio >= 10 else 2
        low, high = self.ratios[0], self.ratios[-1]
        return f"{self.ratio:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


Side = Callable[[], Awaitable[float]]


async def in_turns(bench: Bench, what: str, rounds: int, ours: Side, ceiling: Side) -> Pairs:
    """Measure A B A B …; each side returns its rate. One uncounted turn of each goes first."""
    bench.say(f"{what}: warming up")
    await ours()
    await ceiling()
    pairs = Pairs([], [])
    for turn in range(1, rounds + 1):
        bench.say(f"{what}: turn {turn} of {rounds}")
        pairs.ours.append(await ours())
        pairs.ceiling.append(await ceiling())
    return pairs


def at_most(title: str, value: float, bar: float, unit: str, note: str = "") -> Figure:
    """Return the figure that asks for ``bar`` or less."""
    return Figure(title, f"{number(value)} {unit}", bar=f"≤ {bar:g} {unit}", reached=value <= bar, note=note)


def number(value: float) -> str:
    """Format ``value`` with a readable number of digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def now_ms() -> int:
    """Return the wall clock in milliseconds."""
    return time.time_ns() // 1_000_000


@functools.cache
def cores() -> tuple[set[int], set[int]]:
    """Return cores for the server and for its clients: one each if there are two, so that they don't compete.

    Whoever pins itself asks first, and later calls must return the same.
    """
    available = sorted(os.sched_getaffinity(0))
    return ({available[0]}, set(available[1:])) if len(available) > 1 else (set(available), set(available))
