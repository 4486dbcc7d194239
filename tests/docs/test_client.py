"""The guide's example client keeps its token fresh, reconnects after a restart, and stops when its session ends."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

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
