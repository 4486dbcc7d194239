"""The messages of ``interlock.v1``, the protocol of one WebSocket: JSON objects with a ``type``.

:data:`StreamMessage` are the messages of a session's stream (:mod:`interlock.machine.session.stream`). Each carries its
``offset`` there, and reaches every connection of the session.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from interlock.machine.errors import MessageRefused
from interlock.machine.ledger import Receipt
from interlock.machine.wire import TransitionView

SUBPROTOCOL: Final = "interlock.v1"

EndState: TypeAlias = Literal["succeeded", "failed", "cancelled"]
"""The final states of an execution."""


class Limits(msgspec.Struct, frozen=True):
    """The limits for the client: bytes of one message, and intents and cancels that may be unanswered at the same time."""

    message_bytes: int
    unanswered: int


class StreamPosition(msgspec.Struct, frozen=True):
    """A place in the session's stream: after message ``offset`` of ``epoch``. The first message has offset 1.

    ``epoch`` is a random name of the stream. A stream with another epoch has other messages.
    """

    epoch: str
    offset: int


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The first message: the connection's id, the session's state, and how often the server pings.

    ``stream`` is the end of the session's stream. ``receipt`` is the receipt of the recorded ``connect``.
    """

    connection_id: str
    session_id: str
    state: str
    version: int
    ping_interval_ms: int
    limits: Limits
    stream: StreamPosition
    receipt: Receipt


class TransitionMessage(TransitionView, frozen=True, tag_field="type", tag="transition"):
    """A transition of the client's session that was just recorded."""


class Refreshed(msgspec.Struct, frozen=True, tag_field="type", tag="refreshed"):
    """The access token was accepted. The connection closes with 4408 at ``expires_at`` unless the client sends another."""

    expires_at: str


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to the client's ``ping``."""


class AcceptedMessage(msgspec.Struct, frozen=True, tag_field="type", tag="accepted"):
    """The intent is recorded as the execution ``execution_id``. ``receipt`` is that of the recorded ``accept``.

    It also answers a repeated intent, which records nothing.
    """

    intent_id: str
    execution_id: str
    receipt: Receipt
    offset: int = 0


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refused", omit_defaults=True):
    """The intent or the cancel was refused; nothing was recorded. Only the connection that sent it gets this message.

    ``problem`` is what HTTP would answer, ``retry_after_s`` its Retry-After. ``intent_id`` or ``execution_id`` is that of the
    refused message.
    """

    problem: Raw
    intent_id: str | UnsetType = UNSET
    execution_id: str | UnsetType = UNSET
    retry_after_s: int | UnsetType = UNSET


class Progress(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """The values that the execution has emitted since its last ``progress``, in order.

    ``attempt`` rises when the execution begins again after a crash. Then discard the progress of the earlier attempt.
    """

    execution_id: str
    intent_id: str
    attempt: int
    data: list[Raw]
    offset: int = 0


class OutcomeMessage(msgspec.Struct, frozen=True, tag_field="type", tag="outcome"):
    """The execution has ended; none of its ``progress`` follows.

    It has ``result`` if it succeeded, else ``reason``; ``error`` describes a failure of the realm's code. ``receipt`` is that
    of the recorded end.
    """

    execution_id: str
    intent_id: str
    state: EndState
    receipt: Receipt
    result: Raw | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    offset: int = 0


class Resumed(msgspec.Struct, frozen=True, tag_field="type", tag="resumed"):
    """The answer to ``resume``: every message after ``offset`` follows, once and in order."""

    epoch: str
    offset: int


class Gap(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """Messages are lost to this connection; every message after ``offset`` follows, once and in order.

    It answers a ``resume`` from a place that the server no longer holds, and also comes to a client that reads too slowly.
    Read the executions over HTTP.
    """

    epoch: str
    offset: int


class RefreshRequest(msgspec.Struct, frozen=True, tag_field="type", tag="refresh", forbid_unknown_fields=True):
    """A newer access token of the same session, to keep the connection open."""

    access_token: str


class PingRequest(msgspec.Struct, frozen=True, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """A request for a ``pong``, to check that the server responds."""


class SubmitRequest(msgspec.Struct, frozen=True, tag_field="type", tag="intent", forbid_unknown_fields=True):
    """A request to execute the intent ``name``. The answer is ``accepted`` or ``refused``.

    ``id`` is the client's own name for it. The same ``id`` with the same parameters is the same execution, so an intent whose
    answer was lost can be sent again.
    """

    id: str
    name: str
    parameters: Raw


class CancelRequest(msgspec.Struct, frozen=True, tag_field="type", tag="cancel", forbid_unknown_fields=True):
    """A request to stop an execution. The answer is its ``outcome``, or ``refused``."""

    execution_id: str


class ResumeRequest(msgspec.Struct, frozen=True, tag_field="type", tag="resume", forbid_unknown_fields=True):
    """A request to continue the session's stream after the last message that the client has. Send it first, and only once.

    The answer is ``resumed`` or ``gap``. Ignore messages of the stream that come before it.
    """

    epoch: str
    offset: Annotated[int, Meta(ge=0)]


StreamMessage: TypeAlias = AcceptedMessage | Progress | OutcomeMessage
ServerMessage = (
    Hello | TransitionMessage | Refreshed | Pong | AcceptedMessage | Refused | Progress | OutcomeMessage | Resumed | Gap
)
ClientMessage = RefreshRequest | PingRequest | SubmitRequest | CancelRequest | ResumeRequest

_decoder: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)
_encoder: Final = msgspec.json.Encoder()


def encode(message: ServerMessage) -> bytes:
    """Return ``message`` as JSON in UTF-8."""
    return _encoder.encode(message)


def parse(text: str) -> ClientMessage:
    """Return the client's message in ``text``.

    Raises:
        MessageRefused: ``text`` is not a message of ``interlock.v1``. The error says what is wrong and quotes nothing of
            ``text``.
    """
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise MessageRefused("nested too deeply") from None
    except msgspec.ValidationError as error:
        raise MessageRefused(_problem(str(error))) from None
    except (msgspec.DecodeError, UnicodeError):
        raise MessageRefused("not JSON") from None


def _problem(said: str) -> str:
    """Return what is wrong with a message, without what the client sent. ``said`` is msgspec's text."""
    if missing := _MISSING.match(said):
        return "no type" if missing[1] == "type" else f"field `{missing[1]}` is missing"
    # The next two quote the client.
    if said.startswith("Object contains unknown field"):
        return "unknown field"
    if said.startswith("Invalid value"):
        return "unknown type"
    wrong = _WRONG.search(said)
    return f"field `{wrong[1]}` has a wrong value" if wrong else "not an object"


# These names are those of declared fields.
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_WRONG: Final = re.compile(r" - at `\$\.(\w+)")
