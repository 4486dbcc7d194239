"""The guide's example client keeps its token fresh, reconnects, backs off, and stops when it must not go on."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.docs.pages import captioned
from tests.support.client import logged_in
from tests.support.server import ServerProcess, running_server

PATIENCE_S = 90
"""The guide's client waits up to 30 s between attempts."""


def _load(folder: Path) -> Any:
    path = folder / "client.py"
    path.write_text(captioned("how-to/write-a-client.md", "client.py"))
    spec = importlib.util.spec_from_file_location("example_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _live(server: ServerProcess, module: Any) -> None:
    async with AsyncExitStack() as held, await logged_in(server.url) as other:
        # Two sessions of one account: the guide's client's, and one that ends it.
        tokens = dict(other.tokens)
        live = module.LiveSession(server.url, tokens)
        held.push_async_callback(live.http.aclose)
        seen: list[str] = []

        async def follow() -> None:
            async with aclosing(live.messages()) as messages:
                async for message in messages:
                    seen.append(message["type"])  # noqa: PERF401  # visible at once, not only when all have come

        following = asyncio.create_task(follow())
        await _until(lambda: "refreshed" in seen)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await _until(lambda: seen.count("hello") >= 2)
        status = httpx.codes.UNAUTHORIZED
        async with asyncio.timeout(PATIENCE_S):
            # The token of two seconds may expire before it arrives; the client soon has a new one.
            while status == httpx.codes.UNAUTHORIZED:
                ended = await live.http.post(
                    "/api/auth/logout", headers={"Authorization": f"Bearer {live.tokens['access_token']}"}
                )
                status = ended.status_code
                await asyncio.sleep(0.05)
        assert status == httpx.codes.NO_CONTENT
        with pytest.raises(module.Ended) as end:
            await asyncio.wait_for(following, PATIENCE_S)
        # Either the socket reports it, or a refresh that was in progress.
        assert end.value.code in {4403, 401}


async def _until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # another task fills the list
            await asyncio.sleep(0.02)


def test_the_guides_example_client_works(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", access_token_s=2) as server:
        asyncio.run(_live(server, _load(tmp_path)))


async def _end(module: Any, answer: Callable[[ServerConnection], Response | None]) -> Any:
    """Run the client against a server that closes every WebSocket with 1001 after a hello. Return how the client ends.

    ``answer``: a response that refuses a handshake, or None.
    """

    async def greet(connection: ServerConnection) -> None:
        await connection.send('{"type": "hello"}')
        await connection.close(1001)

    def refuse(connection: ServerConnection, _request: Request) -> Response | None:
        return answer(connection)

    async with serve(
        greet, "127.0.0.1", 0, subprotocols=[Subprotocol("interlock.v1")], process_request=refuse
    ) as server:
        [address] = [each.getsockname() for each in server.sockets]
        tokens = {"access_token": "a", "refresh_token": "r", "expires_in": 300}
        live = module.LiveSession(f"http://127.0.0.1:{address[1]}", tokens)
        async with live.http, asyncio.timeout(PATIENCE_S):
            with pytest.raises(module.Ended) as end:
                async for _ in live.messages():
                    pass
    return end.value


@pytest.mark.parametrize("status", [400, 403, 426, 431])
def test_the_example_client_does_not_retry_a_refused_handshake(tmp_path: Path, status: int) -> None:
    tries: list[int] = []

    def answer(connection: ServerConnection) -> Response:
        tries.append(status)
        return connection.respond(status, "refused")

    assert asyncio.run(_end(_load(tmp_path), answer)).code == status
    assert len(tries) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_the_example_client_waits_as_retry_after_says(tmp_path: Path, status: int) -> None:
    times: list[float] = []

    def answer(connection: ServerConnection) -> Response:
        times.append(asyncio.get_running_loop().time())
        response = connection.respond(status if len(times) == 1 else 403, "refused")
        response.headers["Retry-After"] = "1"
        return response

    assert asyncio.run(_end(_load(tmp_path), answer)).code == httpx.codes.FORBIDDEN
    first, second = times
    assert second - first >= 1


@pytest.mark.parametrize(("steady_s", "expected"), [(60, [0.5, 1, 2, 4]), (0, [0.5, 0.5, 0.5, 0.5])])
def test_the_example_client_resets_its_back_off_after_a_while(
    tmp_path: Path, steady_s: int, expected: list[float]
) -> None:
    bounds: list[float] = []
    module = _load(tmp_path)
    module.STEADY_S = steady_s

    def uniform(_low: float, bound: float) -> float:
        bounds.append(bound)
        return 0

    module.random = SimpleNamespace(uniform=uniform)

    def answer(connection: ServerConnection) -> Response | None:
        return connection.respond(403, "enough") if len(bounds) == len(expected) else None

    assert asyncio.run(_end(module, answer)).code == httpx.codes.FORBIDDEN
    assert bounds == expected
