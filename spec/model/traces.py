"""Check line by line whether the declaration allows a trace of real servers.

Pass :func:`check` one trace per node, each an iterable of lines; the caller opens the files. It stops at the first fault, so
the lines up to it are the shortest bad prefix. :func:`by_session` splits traces into sessions. Only what is wrong can be
found, not what is missing: a server that stops in the middle is no fault.
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
"""One trace per node. The caller chooses the names of a mapping."""


class Summary(msgspec.Struct, frozen=True):
    """The amount that was checked: lines of all traces, sessions in them, records appended."""

    lines: int
    sessions: int
    appends: int


def check(traces: Traces) -> Summary:
    """Check ``traces``, one for each node, all of the same log.

    Within a trace the lines keep their order. Between traces, a line waits until what it refers to is durable, and records are
    taken in the order of the log. If no trace can continue, the fault is the first waiting line.

    Raises:
        TraceFault: the first line that breaks a property.
    """
    texts = _texts(traces)
    checker = _Checker(len(texts))
    readers = [_Reader(number, text) for number, text in enumerate(texts)]
    if len(readers) == 1:
        # A single trace never waits.
        (reader,) = readers
        while reader.line is not None:
            checker.take(reader, reader.line)
    else:
        _interleave(checker, readers)
    return Summary(sum(reader.number for reader in readers), len(checker.sessions), checker.appends)


def by_session(traces: Traces) -> dict[str, list[list[AnyLine]]]:
    """Return the lines of each session, by id: one list per trace, in the order of the traces, each in its own order.

    A new life shows in the field ``life`` of the lines. A ``recover`` line belongs to no session. It is added to the list of
    each session that has earlier lines in that trace, unless its end is among them.

    Raises:
        TraceFault: ``format``: a line can't be read.
    """
    texts = _texts(traces)
    found: dict[str, list[list[AnyLine]]] = {}
    for number, text in enumerate(texts):
        # The sessions that a recovery concerns, in order of their first line.
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
    """The reader of one trace. ``line`` is the next line, None at the end; ``number`` is its line number, from 1."""

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
    """The state of all sessions after the lines taken so far."""

    def __init__(self, processes: int) -> None:
        self.sessions: dict[str, Fold | Ended] = {}
        self.appends = 0
        self._processes: Final = processes

    def take(self, reader: _Reader, line: AnyLine) -> None:
        """Check ``line``, the reader's next one, and advance the reader.

        Raises:
            TraceFault: the line breaks a property.
        """
        try:
            self._judge(line, reader.process)
        except Broken as broken:
            # The life's name, because the line may have a wrong one.
            raise TraceFault(reader.number, reader.process.node, broken.property, broken.sentence) from None
        reader.advance()

    def waits(self, line: AnyLine) -> bool:
        """Return whether the line refers to something that is not durable yet, or, for a record, is not the session's next."""
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
        """Keep only the rest of a session that is over, because traces are long."""
        if isinstance(fold, Fold) and fold.settled:
            self.sessions[fold.session_id] = Ended(fold)


def _interleave(checker: _Checker, readers: list[_Reader]) -> None:
    """Take the lines of several traces: first all that need no later record, then the next record of the log."""
    while True:
        for reader in readers:
            while (line := reader.line) and not isinstance(line, Append | Recover) and not checker.waits(line):
                checker.take(reader, line)
        waiting = [(reader, reader.line) for reader in readers if reader.line is not None]
        if not waiting:
            return
        ready = [(reader, line) for reader, line in waiting if not checker.waits(line)]
        # If none can continue, judging the first one raises its fault.
        checker.take(*(min(ready, key=_place_in_log) if ready else waiting[0]))


def _place_in_log(next_line: tuple[_Reader, AnyLine]) -> tuple[int, bool]:
    """Return a line's sort key. A recovery sorts after the record before it, or its node may seem to own what others ended."""
    line = next_line[1]
    return (line.position, isinstance(line, Recover)) if isinstance(line, Append | Recover) else (0, False)
