"""Cost of observability: a durable ``POST /api/session`` with metrics, and without."""

from __future__ import annotations

from tests.bench.figure import Bench, Figure, in_turns
from tests.bench.processes import Loaded, interlock, per_cpu_second


async def measure(bench: Bench) -> list[Figure]:
    """Measure requests per second of one pinned process over 32 keep-alive connections."""
    with (
        interlock(bench, bench.path("observed"), "--metrics-port", "0") as ours,
        interlock(bench, bench.path("unobserved")) as ceiling,
    ):
        sides = [
            Loaded(process, "/api/session", seconds=bench.pick(2, 1), method="POST", connections=32)
            for process in (ours, ceiling)
        ]
        pairs = await in_turns(bench, "POST /api/session, metrics", bench.pick(9, 3), sides[0].rate, sides[1].rate)
    return [
        pairs.at_least(
            "`POST /api/session` with metrics vs. without, 32 connections", 0.9, "/s", per_cpu_second(*sides)
        )
    ]
