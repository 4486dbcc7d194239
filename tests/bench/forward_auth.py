"""``GET /api/forward-auth`` against a bare ASGI function on stock uvicorn."""

from __future__ import annotations

from tests.bench.figure import Bench, Figure, in_turns
from tests.bench.processes import Loaded, interlock, per_cpu_second, running
from tests.bench.wire import http_pool, spread

_SESSIONS = 256
_PATH = "/api/forward-auth"


async def measure(bench: Bench) -> list[Figure]:
    """Measure requests per second of one pinned process, 32 keep-alive connections, for 256 logged-in sessions in turn."""
    figures = []
    with interlock(bench, bench.path("forward-auth")) as ours, running(bench, "tests.bench.bare_asgi") as bare:
        async with http_pool(ours.url, 8) as pool:
            await spread(pool, _SESSIONS, lambda http, n: http.register(f"user{n}@example.org"))
            users = await spread(pool, _SESSIONS, lambda http, n: http.log_in(f"user{n}@example.org"))
        for name, cookies in (("access token", False), ("cookie", True)):
            tokens = bench.folder / f"forward-auth-{cookies}"
            tokens.write_text("".join(f"{user.refresh_token if cookies else user.access_token}\n" for user in users))
            sides = [
                Loaded(process, _PATH, seconds=bench.pick(2, 1), tokens=tokens, cookies=cookies)
                for process in (ours, bare)
            ]
            pairs = await in_turns(bench, f"GET {_PATH}, {name}", bench.pick(9, 3), sides[0].rate, sides[1].rate)
            title = f"`GET {_PATH}` by {name} vs. a bare ASGI function on stock uvicorn"
            figures.append(pairs.at_least(title, 0.7, "/s", per_cpu_second(*sides)))
    return figures
