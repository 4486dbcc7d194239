"""The lines of a trace: their shapes, their parser, and the rules for the process that wrote them.

A trace lists what one server process did, in order, as one JSON object per line. docs/reference/trace-format.md explains the
kinds. The server writes these same shapes. :mod:`interlock.spec.model.rules` checks what they mean for a session.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]


class Line(msgspec.Struct, frozen=True, gc=False, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """The fields of every line. ``life`` identifies one start of the process; it changes when the server is restarted."""

    node: str
    life: str

    @property
    def kind(self) -> str:
        """The kind: append, ack, open, close, drop or recover."""
        return str(self.__struct_config__.tag)


class Recover(Line, frozen=True, tag="recover"):
    """The node has read the log again and disconnected its former life's connections. ``position`` is the log's last one."""

    position: Count


class Append(Line, frozen=True, tag="append"):
    """A record became durable. ``view`` is the version on which the node decided it. ``data`` is the event's data.

    ``late``: the life that appended it died before it could write the line, and a later life writes it.
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
    """A caller was answered that its command is recorded as ``version``. ``view`` is the version that the answer shows."""

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
    """The server decided to close a socket with ``code``, having seen version ``view``."""

    session: str
    connection: str
    view: Count
    code: int


class Drop(Line, frozen=True, tag="drop"):
    """A socket is gone that the server had not closed."""

    session: str
    connection: str
    view: Count


AnyLine: TypeAlias = Append | Ack | Open | Close | Drop | Recover
"""Every kind of line. All but Recover have ``session``."""


class TraceFault(Exception):
    """The first line that the declaration does not allow.

    ``line`` counts from 1 within the trace of ``node``. ``property`` is a name of :mod:`interlock.spec.properties`, or
    ``format`` for a line that is malformed or out of place. ``sentence`` says what is wrong.
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
    auth_age_ms: Count | None = 0
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
"""The shape of each event's data, repeated here so that a test compares it with the machine's."""

_decoder: Final[msgspec.json.Decoder[AnyLine]] = msgspec.json.Decoder(AnyLine)


def parse(text: str | bytes, number: int = 1, node: str = "") -> AnyLine:
    """Return the line in ``text``. ``number`` and ``node`` are its line number and node, for the error.

    An undeclared event is not an error here; the rules refuse it.

    Raises:
        TraceFault: ``format``: the text is not a line of this format.
    """
    try:
        line = _decoder.decode(text)
        if type(line) is Append and line.event in EVENT_DATA:
            msgspec.convert(line.data, EVENT_DATA[line.event])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TraceFault(number, node, "format", f"the line can't be read: {error}") from None
    return line


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
        """Check a line, of whichever session, against the process that wrote it.

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


def socket_of(line: Open | Close | Drop) -> str:
    """Return the name of the line's socket in stories."""
    return f"socket {line.connection} of {line.node}"
