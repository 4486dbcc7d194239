"""``GET /api/forward-auth`` against a bare ASGI function on the same server software."""

from __future__ import annotations

from tests.bench.figure import Bench, Figure, in_turns
from tests.bench.processes import Loaded, interlock, per_cpu_second, running
from tests.bench.wire import http_pool, spread

_SESSIONS = 256


async def measure(bench: Bench) -> list[Figure]:
    """Requests a second to one pinned process, 32 keep-alive connections; 256 logged-in sessions ask in turn."""
    tokens = bench.folder / "forward-auth-tokens"
    with interlock(bench, bench.path("forward-auth")) as ours, running(bench, "tests.bench.bare_asgi") as bare:
        async with http_pool(ours.url, 8) as pool:
            await spread(pool, _SESSIONS, lambda http, n: http.register(f"user{n}@example.org"))
            users = await spread(pool, _SESSIONS, lambda http, n: http.log_in(f"user{n}@example.org"))
        tokens.write_text("".join(f"{user.access_token}\n" for user in users))
        path = "/api/forward-auth"
        sides = [Loaded(process, path, seconds=bench.pick(2, 1), tokens=tokens) for process in (ours, bare)]
        pairs = await in_turns(bench, f"GET {path}", bench.pick(9, 3), sides[0].rate, sides[1].rate)
    return [pairs.at_least("`GET /api/forward-auth` vs. a bare ASGI function", 0.7, "/s", per_cpu_second(*sides))]
