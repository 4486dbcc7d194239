"""A session's history as a picture: records as points, sockets and executions as bars, over an axis without idle gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log2
from typing import Final

import msgspec

from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Connect, Disconnect
from interlock.machine.session.machine import SESSION_MACHINE

_LEFT: Final = 16.0
_NARROWEST: Final = 7.0
_LONG_MS: Final = 60_000
"""A gap of this length is drawn as a break that says how long it is."""
_BREAK: Final = 62.0
_S: Final = 1000
_LETTER: Final = 6.7
_PAD: Final = 5.0


class Point(msgspec.Struct, frozen=True):
    """A record at ``x``."""

    x: float
    event: str
    position: int
    at_ms: int


class Gap(msgspec.Struct, frozen=True):
    """A break of the axis, and how long it lasted."""

    x: float
    length: str


class Bar(msgspec.Struct, frozen=True):
    """A socket or an execution, from ``x`` on. ``open``: it has not ended. ``lane`` counts from the top."""

    x: float
    width: float
    lane: int
    label: str
    label_x: float
    style: str
    open: bool


class Timeline(msgspec.Struct, frozen=True):
    """The picture. ``axis`` is how long its axis is, and ``lanes`` how many rows of bars are below."""

    width: float
    axis: float
    lanes: int
    points: list[Point]
    gaps: list[Gap]
    bars: list[Bar]


def timeline(records: Sequence[Record], runs: Sequence[Execution], now_ms: int) -> Timeline:
    """Return the picture of a session's ``records`` and of its executions, up to ``now_ms``."""
    ended = records[-1].transition.target in SESSION_MACHINE.final
    last_ms = records[-1].transition.at_ms if ended else max(now_ms, records[-1].transition.at_ms)
    spans = [*_sockets(records, last_ms), *_runs(runs, last_ms)]
    moments = {each.transition.at_ms for each in records} | {last_ms}
    moments |= {at_ms for begin_ms, end_ms, *_ in spans for at_ms in (begin_ms, end_ms)}
    x, gaps = _axis(sorted(moments))
    bars, ends = _packed(spans, x)
    points = [Point(x[r.transition.at_ms], r.transition.event, r.position, r.transition.at_ms) for r in records]
    return Timeline(max(x[last_ms] + _LEFT, *ends, 0.0), x[last_ms], len(ends), points, gaps, bars)


def _packed(spans: Sequence[_Span], x: Mapping[int, float]) -> tuple[list[Bar], list[float]]:
    """Return the bars of ``spans``, each in the first lane that is free there, and where the last one in each lane ends."""
    bars: list[Bar] = []
    ends: list[float] = []
    for begin_ms, end_ms, label, style, still in spans:
        begin, width, text = x[begin_ms], max(6.0, x[end_ms] - x[begin_ms]), len(label) * _LETTER
        inside = text + 2 * _PAD <= width
        end = begin + width + (0 if inside else text + 2 * _PAD)
        lane = next((n for n, taken in enumerate(ends) if taken + _PAD <= begin), len(ends))
        ends[lane : lane + 1] = [end]
        bars.append(Bar(begin, width, lane, label, begin + _PAD + (0 if inside else width), style, still))
    return bars, ends


_Span = tuple[int, int, str, str, bool]


def _sockets(records: Sequence[Record], last_ms: int) -> list[_Span]:
    opened: dict[str, int] = {}
    spans: list[_Span] = []
    for record in records:
        move = record.transition
        match move.data:
            case Connect(connection_id=connection):
                opened[connection] = move.at_ms
            case Disconnect(connection_id=connection, code=code) if connection in opened:
                spans.append((opened.pop(connection), move.at_ms, f"socket {code}", "socket", False))
            case _ if move.target in SESSION_MACHINE.final:
                spans += [(at_ms, move.at_ms, "socket", "socket", False) for at_ms in opened.values()]
                opened.clear()
    spans += [(at_ms, last_ms, "socket, open", "socket", True) for at_ms in opened.values()]
    return sorted(spans)


def _runs(runs: Sequence[Execution], last_ms: int) -> list[_Span]:
    spans = []
    for run in runs:
        over = run.state in EXECUTION_MACHINE.final
        end_ms = min(run.updated_at_ms if over else last_ms, last_ms)
        if run.created_at_ms <= last_ms:
            spans.append((run.created_at_ms, end_ms, f"{run.intent}, {run.state}", f"run {run.state}", not over))
    return sorted(spans)


def _axis(moments: Sequence[int]) -> tuple[dict[int, float], list[Gap]]:
    """Return where each moment is. Distance grows with the logarithm of the time between two, so all gaps stay readable."""
    x, gaps = {moments[0]: _LEFT}, []
    for before_ms, at_ms in pairwise(moments):
        between_ms = at_ms - before_ms
        if between_ms >= _LONG_MS:
            gaps.append(Gap(x[before_ms] + _BREAK / 2, lasted(between_ms)))
            x[at_ms] = x[before_ms] + _BREAK
        else:
            x[at_ms] = x[before_ms] + _NARROWEST + 4 * log2(1 + between_ms / 50)
    return x, gaps


def lasted(ms: int) -> str:
    """Return a duration in words, by its largest unit."""
    for name, unit_ms in (("d", 86_400 * _S), ("h", 3600 * _S), ("min", 60 * _S), ("s", _S)):
        if ms >= unit_ms:
            return f"{ms // unit_ms} {name}"
    return f"{ms} ms"
