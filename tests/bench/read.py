"""``GET /api/session`` against a bare Litestar route on stock uvicorn."""

from __future__ import annotations

from tests.bench.figure import Bench, Figure, in_turns
from tests.bench.processes import Loaded, interlock, per_cpu_second, running
from tests.bench.wire import http_pool, spread

_SESSIONS = 256


async def measure(bench: Bench) -> list[Figure]:
    """Measure requests per second of one pinned process, 32 keep-alive connections, for 256 logged-in sessions in turn."""
    tokens = bench.folder / "read-tokens"
    with interlock(bench, bench.path("read")) as ours, running(bench, "tests.bench.bare_app") as bare:
        async with http_pool(ours.url, 8) as pool:
            await spread(pool, _SESSIONS, lambda http, n: http.register(f"user{n}@example.org"))
            users = await spread(pool, _SESSIONS, lambda http, n: http.log_in(f"user{n}@example.org"))
        tokens.write_text("".join(f"{user.access_token}\n" for user in users))
        sides = [Loaded(process, "/api/session", seconds=bench.pick(2, 1), tokens=tokens) for process in (ours, bare)]
        pairs = await in_turns(bench, "GET /api/session", bench.pick(9, 3), sides[0].rate, sides[1].rate)
    return [
        pairs.at_least(
            "`GET /api/session` vs. a bare Litestar route on stock uvicorn", 0.6, "/s", per_cpu_second(*sides)
        )
    ]
