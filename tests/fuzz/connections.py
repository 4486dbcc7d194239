"""Parsers of a connection's bytes, on real sockets: requests and frames, whole, broken, and split anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.world import World
from tests.support.frames import LAST, Frame, encode, read, sequences, split
from tests.support.requests import read_all, streams
from tests.support.upgraded import Noting, converse, talk

_PATIENCE_S = 60

cuts = st.lists(st.integers(0, 2000), max_size=8)


def frames(world: World) -> Callable[[], None]:
    """Fuzz frames: messages and the connection's end match a plain reading of RFC 6455."""

    @given(sequences, cuts)
    def target(sent: list[Frame], places: list[int]) -> None:
        segments = split(encode([*sent, LAST]), places)
        noted: Noting
        noted, code = world.run(asyncio.wait_for(talk(world.upgrading, segments), _PATIENCE_S))
        assert read([*sent, LAST]).fits(noted.texts, noted.binaries, code)

    return target


def requests(world: World) -> Callable[[], None]:
    """Fuzz requests: each whole one has one answer, in order; an invalid one ends the connection, and nothing later is read."""

    @given(streams, cuts)
    def target(stream: bytes, places: list[int]) -> None:
        expected = []
        for each in read_all([stream]):
            if isinstance(each, int):
                expected.append(b"%d" % each)
                break
            about = b"200 %b %b %d" % (each.method.encode(), each.target, len(each.body))
            expected.append(about if each.method != "HEAD" else b"204")
        answers = world.run(asyncio.wait_for(converse(world.upgrading, split(stream, places)), _PATIENCE_S))
        assert answers == expected

    return target
