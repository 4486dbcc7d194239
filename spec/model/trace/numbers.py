"""What the model reads of a trace: lines as numbers, in the order of ``spec/model/lines.h``."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec


class Numbers(NamedTuple):
    """One line as numbers. ``kind`` is the number in the model's file. A field that the kind does not have is 0.

    ``first`` and ``fresh``: this is the first line of its command or of its connection. ``elsewhere``: a connect or a start in
    another node's name, or the start of a life that was over. ``claim`` of a session's start: it has a former life to recover
    from; of an execution's line: it stands at its place in its life. ``tab`` is the attempt in the lines of an execution.
    """

    kind: int
    event: int = 0
    tab: int = 0
    command: int = 0
    version: int = 0
    view: int = 0
    source: int = 0
    target: int = 0
    alive: int = 0
    claim: int = 0
    late: int = 0
    first: int = 0
    elsewhere: int = 0
    fresh: int = 0


LARGEST: Final = 255
"""The largest number of most fields. As a state, it is none of the declared ones."""


class TooWide(Exception):
    """The session or intent has more at a time than the model can distinguish."""


class Abstract(msgspec.Struct, frozen=True):
    """A session or an intent as numbers: the lines of each node. ``origin`` has each number row's line.

    ``header`` is the session's connection limit, or the bits of what the realm declared for the intent.
    """

    header: int
    nodes: tuple[tuple[Numbers, ...], ...]
    origin: tuple[tuple[int, ...], ...]
