"""A server process as its trace shows it: the rules for its lines, of whichever instance, and their reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from interlock.spec.model.trace.lines import Ack, AnyLine, Append, Close, Drop, Open, Recover, parse

Text = Iterable[str | bytes]
"""The lines of one trace, for example an open file."""


class Broken(Exception):
    """A rule is broken. ``property`` names the property, and ``sentence`` says how."""

    def __init__(self, promise: str, sentence: str) -> None:
        super().__init__(sentence)
        self.property = promise
        self.sentence = sentence


class Process:
    """The server process of one trace: its number among the traces, and what its lines have shown so far.

    ``node`` is its name in this life; ``names`` also has those of earlier lives. ``spoken``: this life has written a line
    other than a late record. ``recovered``: it has written its ``recover``. ``position`` is the last log position so far.
    """

    __slots__ = ("_lives", "life", "names", "node", "number", "position", "recovered", "spoken")

    def __init__(self, number: int) -> None:
        self.number = number
        self.names: set[str] = set()
        self.node = ""
        self.life = ""
        self.spoken = False
        self.recovered = False
        self.position = 0
        self._lives: set[str] = set()

    def begin_life(self, line: AnyLine) -> None:
        """Process the first line of another life.

        Raises:
            Broken: that life is over.
        """
        self.node = line.node
        if line.life in self._lives:
            raise Broken("crashed_recovers", f"life {line.life} of {line.node} goes on after another one has begun")
        self._lives.add(line.life)
        self.life = line.life
        self.names.add(line.node)
        self.spoken = self.recovered = False

    def say(self, line: AnyLine) -> None:
        """Check a line, of whichever instance, against the process that wrote it.

        Raises:
            Broken: the line has another node name, is too late or too early in this life, or goes back in the log.
        """
        if line.node != self.node:
            raise Broken("format", f"the line is of {line.node}, in life {line.life} of {self.node}")
        if isinstance(line, Append):
            if line.position <= self.position:
                raise Broken("format", f"position {line.position} comes after position {self.position}")
            self.position = line.position
            if line.late:
                if self.spoken:
                    raise Broken(
                        "crashed_recovers",
                        f"{line.node} tells of a late record when life {line.life} has done something already",
                    )
                return
        elif isinstance(line, Recover):
            if line.position < self.position:
                raise Broken(
                    "format", f"{line.node} recovered at position {line.position}, before position {self.position}"
                )
            self.position = line.position
        elif not self.recovered and not isinstance(line, Ack):
            raise Broken(
                "crashed_recovers", f"{socket_of(line)} is told of in life {line.life}, which has not recovered yet"
            )
        self.spoken = True


class Reader:
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


def socket_of(line: Open | Close | Drop) -> str:
    """Return the name of the line's socket in stories."""
    return f"socket {line.connection} of {line.node}"
