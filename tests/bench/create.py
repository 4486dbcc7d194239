"""A durable ``POST /api/session`` against the same application without its log."""

from __future__ import annotations

from tests.bench.figure import Bench, Figure, in_turns
from tests.bench.processes import UNLIMITED, Loaded, interlock, per_cpu_second, running


async def measure(bench: Bench) -> list[Figure]:
    """Measure requests per second of one pinned process, with a new pair of servers for each number of connections."""
    return [await _measure(bench, connections) for connections in (32, 128)]


async def _measure(bench: Bench, connections: int) -> Figure:
    memory = str(bench.path(f"create-memory-{connections}"))
    with (
        interlock(bench, bench.path(f"create-{connections}")) as ours,
        running(bench, "tests.bench.memory_server", "serve", "--port", "0", "--data", memory, *UNLIMITED) as ceiling,
    ):
        sides = [
            Loaded(process, "/api/session", seconds=bench.pick(2, 1), method="POST", connections=connections)
            for process in (ours, ceiling)
        ]
        pairs = await in_turns(
            bench,
            f"POST /api/session, {connections} connections",
            bench.pick(9, 3),
            sides[0].rate,
            sides[1].rate,
        )
    title = f"`POST /api/session` vs. without the log, {connections} connections"
    return pairs.at_least(title, 0.6, "/s", per_cpu_second(*sides))
