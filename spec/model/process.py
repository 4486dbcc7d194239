"""What a trace may say of the process that wrote it, whatever sessions its lines are of."""

from __future__ import annotations

from interlock.spec.model.lines import Ack, AnyLine, Append, Close, Drop, Open, Recover


class Broken(Exception):
    """A rule does not hold: the property, and the sentence that says how."""

    def __init__(self, promise: str, sentence: str) -> None:
        super().__init__(sentence)
        self.property = promise
        self.sentence = sentence


class Process:
    """One trace's server process: its number among the traces, and what its lines have said of itself.

    ``names``: what the node was called, in this life or before; ``node``: what it is called in this one. ``spoken``: this
    life has written a line that is not a late record; ``recovered``: it has written its ``recover``. ``position``: the last
    one of the log that any line of the trace named.
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
        """The first line of another life.

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
        """What a line says of the process that wrote it, whatever session it is of.

        Raises:
            Broken: it has another name, it is late or early in this life, or it goes back in the log.
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


def socket_of(line: Open | Close | Drop) -> str:
    """What stories call the socket of ``line``."""
    return f"socket {line.connection} of {line.node}"
