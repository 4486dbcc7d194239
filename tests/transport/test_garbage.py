"""A finished connection frees all of its memory without the garbage collector, whose full passes are rare."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from interlock.server.process import begin_collecting
from tests.support.asynchronous import on_uvloop
from tests.support.frames import CLOSE, TEXT, Frame, encode
from tests.support.running import eventually
from tests.support.upgraded import Upgrading, talk, upgrading

_COUNT = 20
_PACKAGES = ("interlock", "httptools", "picows", "uvloop", "multidict")


@pytest.fixture
def _no_passes() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def _ask(server: Upgrading, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


def _request(more: bytes = b"") -> Callable[[Upgrading], Awaitable[None]]:
    return lambda server: _ask(server, b"POST / HTTP/1.1\r\nHost: x\r\n" + more + b"Content-Length: 2\r\n\r\n{}")


def _socket(*frames: Frame) -> Callable[[Upgrading], Awaitable[object]]:
    return lambda server: talk(server, [encode(list(frames))])


async def _vanish(server: Upgrading) -> None:
    _, writer, noted = await server.connect()
    writer.close()
    await noted.over.wait()


@pytest.fixture
def _restored() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_restored")
def test_thousands_of_new_connections_trigger_no_full_garbage_collection() -> None:
    begin_collecting()
    assert gc.isenabled()
    full, young = (gc.get_stats()[generation]["collections"] for generation in (2, 1))
    made: list[list[list[int]]] = [[[] for _ in range(80)] for _ in range(10_000)]
    assert gc.get_stats()[2]["collections"] == full
    assert gc.get_stats()[1]["collections"] > young
    assert len(made) == 10_000


@pytest.mark.slow
@pytest.mark.usefixtures("_no_passes")
@pytest.mark.parametrize(
    "live",
    [
        pytest.param(_request(), id="a request"),
        pytest.param(_request(b"Connection: close\r\n"), id="a last request"),
        pytest.param(_request(b"Connection: upgrade\r\nUpgrade: foo\r\n"), id="an offer that is not taken"),
        pytest.param(lambda server: _ask(server, b"nonsense\r\n\r\n"), id="no request"),
        pytest.param(_vanish, id="a WebSocket whose client vanishes"),
        pytest.param(_socket(Frame(TEXT, b"hello"), Frame(CLOSE)), id="a WebSocket that its client closes"),
        pytest.param(_socket(Frame(TEXT, b"hello", rsv=4)), id="a WebSocket that the server closes"),
        pytest.param(_socket(Frame(TEXT, b"x" * 60_000), Frame(CLOSE)), id="a WebSocket with a large message"),
        pytest.param(_socket(Frame(3, b"")), id="a WebSocket that picows can't read"),
    ],
)
@on_uvloop
async def test_a_finished_connection_leaves_no_garbage(
    live: Callable[[Upgrading], Awaitable[None]],
) -> None:
    async with upgrading() as server:
        await live(server)
        before = await _objects(server)
        for _ in range(_COUNT):
            await live(server)
        after = await _objects(server)
    assert {name: more for name, more in (after - before).items() if more >= _COUNT // 2} == {}


async def _objects(server: Upgrading) -> Counter[str]:
    """Return the objects left for the garbage collector, by type, once every connection is over."""
    await eventually(lambda: not server.count)
    for endpoint in server.endpoints:
        endpoint.wire = None
    server.endpoints.clear()
    await asyncio.sleep(0.05)
    return Counter(
        type(each).__name__ for each in gc.get_objects() if str(type(each).__module__).partition(".")[0] in _PACKAGES
    )
