"""Somebody else's requests while the server is busy: ``python -m tests.bench.prober URL TOKEN``.

Eight keep-alive connections ask ``GET /api/forward-auth`` every 20 ms each, whether or not the server is quick, until the
standard input ends. It writes ``asking`` when the server has answered each of them, and at the end how long each answer took,
in ms. It is a process of its own, with a real-time priority where that is allowed (root): the storm's clients keep their core
busy, and what an answer waits for there is not the server's.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from typing import Final

import msgspec
import uvloop

from tests.bench.wire import Http, http_pool

_CONNECTIONS: Final = 8
_EVERY_S: Final = 0.02


async def main() -> None:
    """Ask until told to stop."""
    url, token = sys.argv[1:]
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    took_ms: list[float] = []
    async with http_pool(url, _CONNECTIONS) as pool:
        for http in pool:
            await http.ok("GET", "/api/forward-auth", token=token)
        sys.stdout.write("asking\n")
        sys.stdout.flush()
        asking = [asyncio.create_task(_ask(http, token, took_ms)) for http in pool]
        await asyncio.to_thread(sys.stdin.read)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    sys.stdout.write(msgspec.json.encode(took_ms).decode())


async def _ask(http: Http, token: str, took_ms: list[float]) -> None:
    while True:
        answer = await http.ok("GET", "/api/forward-auth", token=token)
        took_ms.append((answer.answered_at - answer.sent_at) * 1e3)
        await asyncio.sleep(max(0.0, answer.sent_at + _EVERY_S - time.perf_counter()))


if __name__ == "__main__":
    uvloop.run(main())
