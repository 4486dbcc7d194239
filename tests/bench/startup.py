"""Time from process start to ready, over a log of a million transitions; and speed of verifying such a log."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Final

from interlock.server.surface.sqlite.files import LOG_NAME
from tests.bench.figure import Bench, BenchError, Figure, at_most, number
from tests.bench.population import Population, write
from tests.bench.processes import interlock
from tests.support.log import interlock as command
from tests.support.log import record_count

BAR_S: Final = 2.0
_TRANSITIONS: Final = 10
_ORPHANS: Final = 100
"""One session in this many is left connected, as by a killed server."""


async def measure(bench: Bench) -> list[Figure]:
    """Measure starts with one session in ten alive, then with all of them alive."""
    sessions = bench.pick(100_000, 5_000)
    empty = [_start(bench, bench.path(f"startup-empty-{turn}")) for turn in range(3)]
    return [
        Figure("start to ready: an empty log", f"{number(statistics.median(empty))} s"),
        *_starts(bench, Population(sessions, _TRANSITIONS, live=10, left_connected=_ORPHANS), verify=True),
        *_starts(bench, Population(sessions, _TRANSITIONS), verify=False),
    ]


def _starts(bench: Bench, population: Population, *, verify: bool) -> list[Figure]:
    folder = bench.path(f"startup-{population.live}")
    write(bench, folder, population)
    live = population.sessions // population.live
    of = f"{population.sessions * population.transitions:,} transitions, {live:,} sessions alive"
    figures = []
    if population.left_connected:
        # The first start disconnects in the log what the killed server left; later ones have nothing to do.
        orphans = population.sessions // population.left_connected
        figures.append(
            at_most(f"start to ready after a kill: {of}, {orphans:,} orphans", _start(bench, folder), BAR_S, "s")
        )
    times = [_start(bench, folder) for _ in range(bench.pick(5, 2))]
    size = (folder / LOG_NAME).stat().st_size / 2**20
    note = f"{size:,.0f} MiB on disk; {min(times):.2f}-{max(times):.2f} s over {len(times)} starts"
    figures.append(at_most(f"start to ready: {of}", statistics.median(times), BAR_S, "s", note))
    cold = _start(bench, folder, cold=True)
    figures.append(at_most(f"start to ready, file not in the page cache: {of}", cold, BAR_S, "s"))
    return [*figures, _verify(bench, folder)] if verify else figures


def _start(bench: Bench, folder: Path, *, cold: bool = False) -> float:
    bench.say(f"starting over {folder.name}{', cold' if cold else ''}")
    if cold:
        for path in folder.glob(f"{LOG_NAME}*"):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    # The log was written without a server, so it has no signed head.
    with interlock(bench, folder, "--new-head", pinned=False) as server:
        return server.ready_s


def _verify(bench: Bench, folder: Path) -> Figure:
    """Measure the whole command, from its start to its last line."""
    bench.say("verifying")
    positions = record_count(folder)
    began = time.perf_counter()
    outcome = command("verify", folder, within_s=600)
    seconds = time.perf_counter() - began
    if outcome.returncode:
        raise BenchError(outcome.stderr)
    return Figure(
        "`interlock verify`", f"{number(positions / seconds)} records/s", note=f"{positions:,} in {seconds:.1f} s"
    )
