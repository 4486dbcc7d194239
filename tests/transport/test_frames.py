"""Frames in any order, split anywhere, against a plain reading of RFC 6455."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.frames import (
    CLOSE,
    CONTINUATION,
    LAST,
    MESSAGE_BYTES,
    PING,
    TEXT,
    Frame,
    encode,
    read,
    sequences,
    split,
)
from tests.support.upgraded import Noting, Upgrading, talk, upgrading

PATIENCE_S = 60


class World:
    """One server and its event loop for all examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = AsyncExitStack()
        self.server: Upgrading = self.runner.run(self._open())

    async def _open(self) -> Upgrading:
        return await self._stack.enter_async_context(upgrading(limit_frames="off"))

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()

    def talk(self, segments: list[bytes]) -> tuple[Noting, int]:
        return self.runner.run(asyncio.wait_for(talk(self.server, segments), PATIENCE_S))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(sequences, st.lists(st.integers(0, 400), max_size=5))
@example([Frame(TEXT, b"a", fin=False), Frame(PING, b"p"), Frame(CONTINUATION, b"b")], [])
@example([Frame(TEXT, b"\xc3", fin=False), Frame(CONTINUATION, b"\xa9")], [])
@example([Frame(TEXT, b"x" * MESSAGE_BYTES)], [])
@example([Frame(TEXT, b"x" * (MESSAGE_BYTES + 1))], [])
@example([Frame(TEXT, b"x" * 40_000, fin=False), Frame(CONTINUATION, b"x" * 40_000)], [])
@example([Frame(TEXT, b"short", wide=1)], [])
@example([Frame(TEXT, b"{}", rsv=4)], [])
@example([Frame(CLOSE), Frame(TEXT, b"late")], [])
def test_frames_are_read_as_rfc_6455_says(world: World, frames: list[Frame], cuts: list[int]) -> None:
    noted, code = world.talk(split(encode([*frames, LAST]), cuts))
    assert read([*frames, LAST]).fits(noted.texts, noted.binaries, code)
