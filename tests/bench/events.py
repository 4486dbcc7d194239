"""How soon back ends hear of the end of a session, on a stream and by a webhook, while others write to the log."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets
from interlock.server.guard.webhook_files import WebhookFiles
from tests.bench.figure import Bench, BenchError, Figure, at_most, cores, percentile
from tests.bench.processes import interlock
from tests.bench.wire import Http, http_pool, spread

BAR_MS: Final = 50
_AT_ONCE: Final = 16
_A_SECOND: Final = 100
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.05


class _End(msgspec.Struct, frozen=True):
    """The end of a session: when the request for it was sent, and when it was acknowledged."""

    session_id: str
    sent_at: float
    answered_at: float


class _Heard:
    """When a back end heard of the end of each session, by its clock."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def note(self, message: bytes) -> None:
        """Note an event message that has just arrived."""
        now = time.perf_counter()
        self.at.setdefault(msgspec.json.decode(message)["data"]["session_id"], now)


async def measure(bench: Bench) -> list[Figure]:
    """Measure. The clients are this process, on another core than the server's."""
    quiet, paced, busy = bench.pick(400, 40), bench.pick(1500, 100), bench.pick(1600, 80)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    streamed, posted = _Heard(), _Heard()
    try:
        async with _receiver(posted) as port:
            data = bench.path("events")
            secret = _secrets(data / "keys", port)
            with interlock(bench, data, "--outgoing-networks", "127.0.0.0/8") as server:
                async with http_pool(server.url, _AT_ONCE) as pool:
                    following = asyncio.create_task(_follow(server.url, secret, streamed))
                    await _both_hear(pool[0], streamed, posted)
                    bench.say("ending one session at a time")
                    single = [await _end(pool[0]) for _ in range(quiet)]
                    bench.say(f"ending {_A_SECOND} sessions a second")
                    began = time.perf_counter()
                    steady = await spread(pool, paced, lambda http, n: _end(http, began + n / _A_SECOND))
                    bench.say(f"ending {_AT_ONCE} sessions at a time")
                    several = await spread(pool, busy, lambda http, _: _end(http))
                    await _all_heard([*single, *steady, *several], streamed, posted)
                    following.cancel()
    finally:
        os.sched_setaffinity(0, before)
    return [
        _figure(f"feed lag p99, {how}, {load}", heard, ends)
        for how, heard in (("stream", streamed), ("webhook", posted))
        for load, ends in (
            ("one end at a time", single),
            (f"{_A_SECOND} ends a second", steady),
            (f"{_AT_ONCE} at a time, as fast as the server can", several),
        )
    ]


def _figure(title: str, heard: _Heard, ends: list[_End]) -> Figure:
    sent = [(heard.at[each.session_id] - each.sent_at) * 1e3 for each in ends]
    answered = [(heard.at[each.session_id] - each.answered_at) * 1e3 for each in ends]
    note = (
        f"{len(ends):,} ends of sessions; from the answer (below 0: the message first): p50 {percentile(answered, 0.5):.2f},"
        f" max {max(answered):.1f} ms; from the request: p50 {percentile(sent, 0.5):.2f}, p99 {percentile(sent, 0.99):.1f} ms"
    )
    return at_most(title, percentile(answered, 0.99), BAR_MS, "ms", note)


def _secrets(keys: Any, port: int) -> str:
    """Create a webhook, and a subscriber whose secret is returned."""
    load_keys(keys)
    WebhookFiles(keys).create("bench", f"http://127.0.0.1:{port}/", ("session-ends",), 1)
    return Secrets(keys, "subscriber").create("bench", 1, ("session-ends",))


async def _end(http: Http, not_before: float = 0.0) -> _End:
    """Begin a session and end it."""
    await asyncio.sleep(max(0.0, not_before - time.perf_counter()))
    begun = msgspec.json.decode((await http.ok("POST", "/api/session")).body)
    answer = await http.ok("POST", "/api/auth/logout", token=begun["access_token"])
    return _End(begun["session_id"], answer.sent_at, answer.answered_at)


async def _both_hear(http: Http, *heard: _Heard) -> None:
    """End sessions until both back ends hear of them: from here on none is missed."""
    async with asyncio.timeout(_PATIENCE_S):
        while not all(each.at for each in heard):
            await _end(http)
            await asyncio.sleep(_LOOK_S)


async def _all_heard(ends: list[_End], *heard: _Heard) -> None:
    began = time.perf_counter()
    while any(end.session_id not in each.at for each in heard for end in ends):
        if time.perf_counter() > began + _PATIENCE_S:
            raise BenchError("a back end did not hear of every session")
        await asyncio.sleep(_LOOK_S)


async def _follow(url: str, secret: str, heard: _Heard) -> None:
    """Hold a stream, and note its messages."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /api/events/stream HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {secret}\r\n\r\n"
    writer.write(head.encode())
    try:
        while line := await reader.readline():
            if line.startswith(b"data: "):
                heard.note(line[6:])
    finally:
        writer.close()


@asynccontextmanager
async def _receiver(heard: _Heard) -> AsyncIterator[int]:
    """Receive webhooks, note them, and take each. Yield the port."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                heard.note(await reader.readexactly(int(length)))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
