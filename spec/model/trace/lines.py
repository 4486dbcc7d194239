"""The lines of a trace: their shapes and their parser.

A trace lists what one server process did, in order, as one JSON object per line. docs/reference/trace-format.md explains the
types. The server writes these same shapes. :mod:`interlock.spec.model.trace.session_rules` and ``execution_rules`` check what
they mean for a session and for an execution.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]

InstanceKind: TypeAlias = Literal["session", "execution"]
"""The lifecycles whose instances are traced."""

Instance: TypeAlias = tuple[InstanceKind, str]
"""An instance of a lifecycle: its kind and its id."""


class Line(msgspec.Struct, frozen=True, gc=False, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    """The fields of every line. ``life`` identifies one start of the process; it changes when the server is restarted."""

    node: str
    life: str

    @property
    def type(self) -> str:
        """The type: append, ack, open, close, drop or recover."""
        return str(self.__struct_config__.tag)


class Recover(Line, frozen=True, tag="recover"):
    """The node has read the log again, disconnected its former life's connections and interrupted its former life's attempts.

    ``position`` is the log's last one.
    """

    position: Count


class Append(Line, frozen=True, tag="append"):
    """A record became durable. ``view`` is the version on which the node decided it. ``data`` is the event's data.

    ``late``: the life that appended it died before it could write the line, and a later life writes it.
    """

    kind: InstanceKind
    instance: str
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

    kind: InstanceKind
    instance: str
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


InstanceLine: TypeAlias = Append | Ack | Open | Close | Drop
"""The lines that belong to an instance."""

AnyLine: TypeAlias = InstanceLine | Recover


def instance_of(line: InstanceLine) -> Instance:
    """Return the instance that the line belongs to."""
    return (line.kind, line.instance) if isinstance(line, Append | Ack) else ("session", line.session)


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


class _Accept(msgspec.Struct, forbid_unknown_fields=True):
    session_id: str
    subject: str
    realm: str
    intent: str
    intent_id: str
    fingerprint: str
    effects: Literal["once", "idempotent", "transactional"]
    on_session_end: Literal["cancel", "finish"]
    timeout_ms: Count
    parent: str | None = None


class _Fail(msgspec.Struct, forbid_unknown_fields=True):
    reason: str
    node: str | None = None
    attempt: Count | None = None
    error: str | None = None


_FIELDS: Final[dict[InstanceKind, dict[str, dict[str, type]]]] = {
    "session": {
        "create": {"policy": _Limits},
        "connect": {"connection_id": str, "node": str},
        "disconnect": {"connection_id": str, "code": int},
        "refresh": {"epoch": int, "rotation": int},
        "touch": {},
        "revoke": {"reason": str},
        "expire": {"reason": str},
    },
    "execution": {
        "start": {"node": str},
        "succeed": {"node": str, "attempt": int, "result": str},
        "interrupt": {"node": str, "attempt": int, "reason": str},
        "cancel": {"reason": str},
    },
}
_SHAPES: Final[dict[InstanceKind, dict[str, type[msgspec.Struct]]]] = {
    "session": {"authenticate": _Login, "reauthenticate": _Login},
    "execution": {"accept": _Accept, "fail": _Fail},
}
EVENT_DATA: Final[dict[InstanceKind, dict[str, type[msgspec.Struct]]]] = {
    kind: {
        **_SHAPES[kind],
        **{
            event: msgspec.defstruct(event, list(fields.items()), forbid_unknown_fields=True)
            for event, fields in events.items()
        },
    }
    for kind, events in _FIELDS.items()
}
"""The shape of each event's data, by kind, repeated here so that a test compares it with the machine's."""

_decoder: Final[msgspec.json.Decoder[AnyLine]] = msgspec.json.Decoder(AnyLine)
_FORMER: Final = re.compile(rb'\s*\{"kind":"(append|ack|open|close|drop|recover)"')
"""The beginning of a line as it was before lines named the kind of their instance."""


def parse(text: str | bytes, number: int = 1, node: str = "") -> AnyLine:
    """Return the line in ``text``. ``number`` and ``node`` are its line number and node, for the error.

    An undeclared event is not an error here; the rules refuse it.

    Raises:
        TraceFault: ``format``: the text is not a line of this format.
    """
    try:
        line = _decoder.decode(text)
        if type(line) is Append and line.event in EVENT_DATA[line.kind]:
            msgspec.convert(line.data, EVENT_DATA[line.kind][line.event])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        why = f"the line can't be read: {error}"
        if _FORMER.match(text.encode(errors="replace") if isinstance(text, str) else text):
            why = "the trace has an older format, in which lines began with their kind: name a new file"
        raise TraceFault(number, node, "format", why) from None
    return line
