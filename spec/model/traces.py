"""Is a trace one that the declaration allows? A linear check of what real servers did, line by line.

Give :func:`check` one trace a node, each an iterable of lines; opening files is the caller's. It stops at the first fault, so
everything before it is the shortest bad prefix. :func:`by_session` cuts traces into sessions, for who wants to look at one.

Only what is wrong can be found, not what is missing: a server that stops in the middle is no fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from interlock.spec.model.lines import (
    Ack,
    AnyLine,
    Append,
    Broken,
    Close,
    Drop,
    Line,
    Open,
    Process,
    Recover,
    TraceFault,
    parse,
)
from interlock.spec.model.rules import FINAL, Ended, Fold

__all__ = [
    "Ack",
    "AnyLine",
    "Append",
    "Close",
    "Drop",
    "Line",
    "Open",
    "Recover",
    "Summary",
    "TraceFault",
    "by_session",
    "check",
    "parse",
]

Text = Iterable[str | bytes]
"""The lines of one trace, for example an open file."""

Traces = Mapping[str, Text] | Iterable[Text]
"""One trace a node; the names of a mapping are the caller's own."""


class Summary(msgspec.Struct, frozen=True):
    """How much was checked: lines of all traces, sessions in them, records appended."""

    lines: int
    sessions: int
    appends: int


def check(traces: Traces) -> Summary:
    """Check ``traces``, one for each node, all of the same log.

    Within a trace the lines keep their order. Between traces a line waits until what it tells of is durable, and the
    records go in the order of the log. When no trace can go on, the fault is at the first line that waits.

    Raises:
        TraceFault: the first line that breaks a property.
    """
    texts = _texts(traces)
    checker = _Checker(len(texts))
    readers = [_Reader(number, text) for number, text in enumerate(texts)]
    if len(readers) == 1:
        # Nobody to wait for.
        (reader,) = readers
        while reader.line is not None:
            checker.take(reader, reader.line)
    else:
        _interleave(checker, readers)
    return Summary(sum(reader.number for reader in readers), len(checker.sessions), checker.appends)


def by_session(traces: Traces) -> dict[str, list[list[AnyLine]]]:
    """The lines of each session: for each session id one list a trace, in the order of the traces, each in its own order.

    A new life shows in the field ``life`` of the lines. A ``recover`` line, which is of no session, is in the list of each
    session that has earlier lines in that trace and whose end is not among them.

    Raises:
        TraceFault: ``format``: a line can't be read.
    """
    texts = _texts(traces)
    found: dict[str, list[list[AnyLine]]] = {}
    for number, text in enumerate(texts):
        # Those that a recovery concerns, in the order in which they came.
        living: dict[str, None] = {}
        for line in _Reader(number, text):
            if isinstance(line, Recover):
                for session_id in living:
                    found[session_id][number].append(line)
                continue
            lists = found.setdefault(line.session, [[] for _ in texts])
            if not lists[number]:
                living[line.session] = None
            lists[number].append(line)
            if isinstance(line, Append) and line.target in FINAL:
                living.pop(line.session, None)
    return found


def _texts(traces: Traces) -> list[Text]:
    return list(traces.values() if isinstance(traces, Mapping) else traces)


class _Reader:
    """One trace being read: ``line`` is the next line, or None at the end; ``number`` counts it from 1."""

    def __init__(self, index: int, text: Text) -> None:
        self._text: Iterator[str | bytes] = iter(text)
        self.process = Process(index)
        self.number = 0
        self.line: AnyLine | None = None
        self.advance()

    def advance(self) -> None:
        """Read the next line."""
        text = next(self._text, None)
        if text is None:
            self.line = None
        else:
            self.number += 1
            self.line = parse(text, self.number, self.line.node if self.line else "")

    def __iter__(self) -> Iterator[AnyLine]:
        while self.line is not None:
            yield self.line
            self.advance()


class _Checker:
    """All sessions, as the lines that were taken so far amount to them."""

    def __init__(self, processes: int) -> None:
        self.sessions: dict[str, Fold | Ended] = {}
        self.appends = 0
        self._processes: Final = processes

    def take(self, reader: _Reader, line: AnyLine) -> None:
        """Judge ``line``, the reader's next, and go on to the one after it.

        Raises:
            TraceFault: it breaks a property.
        """
        try:
            self._judge(line, reader.process)
        except Broken as broken:
            # The name that the life has: the line may be in another.
            raise TraceFault(reader.number, reader.process.node, broken.property, broken.sentence) from None
        reader.advance()

    def waits(self, line: AnyLine) -> bool:
        """Something that the line tells of is not durable yet, or, for a record, it is not the session's next."""
        if isinstance(line, Recover):
            return False
        fold = self.sessions.get(line.session)
        durable = 0 if fold is None else fold.version
        if isinstance(line, Append):
            return line.version != durable + 1
        return line.view > durable or (isinstance(line, Ack) and line.version > durable)

    def _judge(self, line: AnyLine, process: Process) -> None:
        if line.life != process.life:
            self._begin_life(line, process)
        process.say(line)
        if isinstance(line, Recover):
            self._recover(line, process)
            return
        session_id = line.session
        fold = self.sessions.get(session_id) or Fold(session_id, self._processes)
        if isinstance(line, Append):
            fold.append(line, process)
            self.sessions[session_id] = fold
            self.appends += 1
            return
        if isinstance(line, Ack):
            fold.ack(line, process)
        elif isinstance(line, Open):
            fold.open(line, process)
        else:
            fold.gone(line, process)
        self._settle(fold)

    def _begin_life(self, line: AnyLine, process: Process) -> None:
        process.begin_life(line)
        for fold in list(self.sessions.values()):
            fold.begin_life(process)
            self._settle(fold)

    def _recover(self, line: Recover, process: Process) -> None:
        if process.recovered:
            raise Broken("crashed_recovers", f"{line.node} recovered twice in one life")
        for fold in self.sessions.values():
            if isinstance(fold, Fold):
                fold.recovered(process)
        process.recovered = True

    def _settle(self, fold: Fold | Ended) -> None:
        """Keep little of a session that is over: traces are long."""
        if isinstance(fold, Fold) and fold.settled:
            self.sessions[fold.session_id] = Ended(fold)


def _interleave(checker: _Checker, readers: list[_Reader]) -> None:
    """Take the lines of several traces: first what can be told already, then the next record of the log."""
    while True:
        for reader in readers:
            while (line := reader.line) and not isinstance(line, Append | Recover) and not checker.waits(line):
                checker.take(reader, line)
        waiting = [(reader, reader.line) for reader in readers if reader.line is not None]
        if not waiting:
            return
        ready = [(reader, line) for reader, line in waiting if not checker.waits(line)]
        # When none can go on, judging the first says what is wrong with it.
        checker.take(*(min(ready, key=_place_in_log) if ready else waiting[0]))


def _place_in_log(next_line: tuple[_Reader, AnyLine]) -> tuple[int, bool]:
    """A recovery comes after the record that was the last one then; else its node may be told to own what others ended."""
    line = next_line[1]
    return (line.position, isinstance(line, Recover)) if isinstance(line, Append | Recover) else (0, False)
