"""The lines of a trace: their shapes, reading one, and what they may say of the process that wrote them.

A trace is what one server process did, in order, one JSON object a line; docs/reference/trace-format.md explains the kinds.
The server writes these very shapes. What they mean for a session is judged in :mod:`interlock.spec.model.rules`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]


class Line(msgspec.Struct, frozen=True, gc=False, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """What every line has. ``life`` names one start of the process: it changes when the server was started again."""

    node: str
    life: str

    @property
    def kind(self) -> str:
        """append, ack, open, close, drop or recover."""
        return str(self.__struct_config__.tag)


class Recover(Line, frozen=True, tag="recover"):
    """The node has read the log again and disconnected what its former self left. ``position``: the log's last one."""

    position: Count


class Append(Line, frozen=True, tag="append"):
    """A record became durable. ``view``: the version the node decided it on. ``data``: what the event carries.

    ``late``: the life that appended it died before it could say so, and a later one says it.
    """

    session: str
    command: str
    version: Count
    view: Count
    position: Count
    event: str
    source: str | None
    target: str
    at_ms: int
    data: dict[str, Any]
    late: bool = False


class Ack(Line, frozen=True, tag="ack"):
    """A caller was answered: its command is recorded as ``version``. ``view``: the version the answer tells of."""

    session: str
    command: str
    version: Count
    view: Count


class Open(Line, frozen=True, tag="open"):
    """A socket was greeted with the session as it stood at version ``view``."""

    session: str
    connection: str
    view: Count


class Close(Line, frozen=True, tag="close"):
    """The server decided to end an open socket with close code ``code``, having seen version ``view``."""

    session: str
    connection: str
    view: Count
    code: int


class Drop(Line, frozen=True, tag="drop"):
    """An open socket is gone, and the server had not closed it."""

    session: str
    connection: str
    view: Count


AnyLine: TypeAlias = Append | Ack | Open | Close | Drop | Recover
"""Each kind of line; all but Recover have ``session``."""


class TraceFault(Exception):
    """The first line that the declaration does not allow.

    ``line`` counts from 1 within the trace of ``node``; ``property`` is a name of :mod:`interlock.spec.properties`, or
    ``format`` for a line that can't be read or can't be where it is; ``sentence`` says what is wrong.
    """

    def __init__(self, line: int, node: str, promise: str, sentence: str) -> None:
        super().__init__(f"line {line} of {node or 'the trace'}: {promise}: {sentence}")
        self.line = line
        self.node = node
        self.property = promise
        self.sentence = sentence


class _Limits(msgspec.Struct, forbid_unknown_fields=True):
    idle_timeout_ms: int
    absolute_timeout_ms: int
    connection_limit: int
    refresh_grace_ms: int


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    subject: str
    method: str
    proof_age_ms: Count | None = 0
    account_epoch: Count = 0


_FIELDS: Final[dict[str, dict[str, type]]] = {
    "create": {"policy": _Limits},
    "connect": {"connection_id": str, "node": str},
    "disconnect": {"connection_id": str, "code": int},
    "refresh": {"epoch": int, "rotation": int},
    "touch": {},
    "revoke": {"reason": str},
    "expire": {"reason": str},
}
EVENT_DATA: Final[dict[str, type[msgspec.Struct]]] = {
    "authenticate": _Login,
    "reauthenticate": _Login,
    **{
        event: msgspec.defstruct(event, list(fields.items()), forbid_unknown_fields=True)
        for event, fields in _FIELDS.items()
    },
}
"""Event name → the shape of its data, written down here once more so that it is compared with the machine's."""

_decoder: Final[msgspec.json.Decoder[AnyLine]] = msgspec.json.Decoder(AnyLine)


def parse(text: str | bytes, number: int = 1, node: str = "") -> AnyLine:
    """The line in ``text``; ``number`` and ``node`` say for the fault which line of whose trace it is.

    An event that is not declared is left to the rules.

    Raises:
        TraceFault: ``format``: it is not a line of this format.
    """
    try:
        line = _decoder.decode(text)
        if type(line) is Append and line.event in EVENT_DATA:
            msgspec.convert(line.data, EVENT_DATA[line.event])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TraceFault(number, node, "format", f"the line can't be read: {error}") from None
    return line


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
