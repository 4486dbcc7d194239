"""How soon a socket is closed after its session's revocation was acknowledged, with 2,000 others open."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

import msgspec

from tests.bench.figure import Bench, BenchError, Figure, at_most, cores, percentile
from tests.bench.processes import interlock, open_files
from tests.bench.wire import Http, Socket, User, http_pool, open_socket, spread

BAR_MS: Final = 100
_ENDED: Final = 4403
_AT_ONCE: Final = 32


class _Delay(msgspec.Struct, frozen=True):
    """Delay of one socket's close in ms: since the request was sent, and since its answer came (below 0: before it).

    The promise counts from the answer; the table shows the longer time, from the request.
    """

    since_sent: float
    since_answer: float


class _Victim(msgspec.Struct, frozen=True):
    """Sockets that must close, and the request that closes them."""

    sockets: list[Socket]
    method: str
    path: str
    token: str


async def measure(bench: Bench) -> list[Figure]:
    """Measure. The client is this process, on another core than the server's."""
    idle, single, several = bench.pick(2000, 200), bench.pick(600, 60), bench.pick(40, 8)
    open_files(idle + single + 20 * several + 500)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        with interlock(bench, bench.path("revoke")) as server:
            async with http_pool(server.url, _AT_ONCE) as pool:
                crowd = await _crowd(bench, server.url, pool, idle)
                singles = await spread(pool, single, lambda http, n: _single(server.url, http, n))
                wholes = await spread(pool, several, lambda http, n: _whole(server.url, http, n))
                bench.say("revoking one at a time")
                half = single // 2
                quiet = [await _revoke(pool[0], victim) for victim in singles[:half]]
                bench.say(f"revoking {_AT_ONCE} at a time")
                busy = await spread(pool, single - half, lambda http, n: _revoke(http, singles[half + n]))
                bench.say("revoking all sockets of a subject")
                subject = [await _revoke(pool[0], victim) for victim in wholes]
                if any(socket.closed.done() for socket in crowd):
                    raise BenchError("a socket closed that nobody revoked")
    finally:
        os.sched_setaffinity(0, before)
    return [
        _figure(f"revoke-to-closed p99, one of {idle:,} open sockets at a time", quiet),
        _figure(f"revoke-to-closed p99, {_AT_ONCE} revocations at a time", busy),
        _figure("revoke-to-closed p99, all 16 sockets of a subject's 9 other sessions", subject),
    ]


def _figure(title: str, delays: list[list[_Delay]]) -> Figure:
    answer = [each.since_answer for several in delays for each in several]
    sent = [each.since_sent for several in delays for each in several]
    note = (
        f"{len(sent):,} closes; from request to close frame: p50 {percentile(sent, 0.5):.1f}, max {max(sent):.1f} ms; "
        f"from the answer (below 0: the close came first): p99 {percentile(answer, 0.99):.2f}, max {max(answer):.2f} ms"
    )
    return at_most(title, percentile(sent, 0.99), BAR_MS, "ms", note)


async def _crowd(bench: Bench, url: str, pool: list[Http], count: int) -> list[Socket]:
    """Open sockets of as many accounts, which are not revoked."""

    async def join(http: Http, number: int) -> Socket:
        if number % 100 == 0:
            bench.say(f"opening sockets: {number:,} of {count:,}")
        user = await _new_user(http, f"idle{number}@example.org")
        return await open_socket(url, user.access_token)

    return await spread(pool, count, join)


async def _new_user(http: Http, email: str) -> User:
    return await http.log_in(await http.register(email))


async def _single(url: str, http: Http, number: int) -> _Victim:
    """Open one socket, ended from another session of the account or by its own logout."""
    user = await _new_user(http, f"single{number}@example.org")
    sockets = [await open_socket(url, user.access_token)]
    if number % 2:
        return _Victim(sockets, "POST", "/api/auth/logout", user.access_token)
    other = await http.log_in(user.email)
    return _Victim(sockets, "DELETE", f"/api/sessions/{user.session_id}", other.access_token)


async def _whole(url: str, http: Http, number: int) -> _Victim:
    """Log in a subject on nine more sessions, one of them with 8 sockets, all ended at once from a tenth."""
    user = await _new_user(http, f"whole{number}@example.org")
    others = [await http.log_in(user.email) for _ in range(9)]
    tokens = [others[0].access_token] * 8 + [other.access_token for other in others[1:]]
    sockets = [await open_socket(url, token) for token in tokens]
    return _Victim(sockets, "DELETE", "/api/sessions", user.access_token)


async def _revoke(http: Http, victim: _Victim) -> list[_Delay]:
    answer: Any = await http.ok(victim.method, victim.path, token=victim.token)
    delays = []
    for socket in victim.sockets:
        code, at = await asyncio.wait_for(socket.closed, 30)
        if code != _ENDED:
            raise BenchError(f"closed with {code}")
        delays.append(_Delay((at - answer.sent_at) * 1e3, (at - answer.answered_at) * 1e3))
    # Users do not revoke back to back; let the closing handshake and the recorded disconnect finish.
    time_left = 0.002 - (time.perf_counter() - answer.answered_at)
    await asyncio.sleep(max(0.0, time_left))
    return delays
