"""One WebSocket connection, sans I/O: messages in; messages and one close out.

The caller owns the socket. It hands in what arrived (``receive_text``, ``receive_bytes``), what was recorded
(``observe``) and what time it is (``tick``), then sends what ``take`` returns, in order, and closes when ``closing`` is
set. Once ``closing`` is set nothing else is said, and what arrives is ignored.

Server → client: ``hello`` (always first), ``transition``, ``refreshed``, ``pong``. Client → server: ``refresh``,
``ping``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from interlock.machine.closing import Close
from interlock.machine.errors import MessageRefused
from interlock.machine.ledger import Receipt, Record
from interlock.machine.session.commands import Authenticate, Reauthenticate
from interlock.machine.session.session import FINAL_STATES, Session
from interlock.machine.times import rfc3339
from interlock.machine.wire import TransitionView, own_transition_view

SUBPROTOCOL: Final = "interlock.v1"


class Limits(msgspec.Struct, frozen=True):
    """What the client has to keep within: the size of one message in bytes."""

    message_bytes: int


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The first message: which connection this is, where the session stands, how often the server pings.

    ``receipt`` is that of the recorded ``connect``.
    """

    connection_id: str
    session_id: str
    state: str
    version: int
    ping_interval_ms: int
    limits: Limits
    receipt: Receipt


class TransitionMessage(TransitionView, frozen=True, tag_field="type", tag="transition"):
    """A transition of the own session, just recorded."""


class Refreshed(msgspec.Struct, frozen=True, tag_field="type", tag="refreshed"):
    """The access token was accepted; without another, the connection closes with 4408 at ``expires_at``."""

    expires_at: str


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to the client's ``ping``."""


class RefreshRequest(msgspec.Struct, frozen=True, tag_field="type", tag="refresh", forbid_unknown_fields=True):
    """A newer access token of the same session, so that the connection may stay open."""

    access_token: str


class PingRequest(msgspec.Struct, frozen=True, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """The client asks whether the server is there."""


ServerMessage = Hello | TransitionMessage | Refreshed | Pong
ClientMessage = RefreshRequest | PingRequest

_decoder: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)
_encoder: Final = msgspec.json.Encoder()


def parse(text: str) -> ClientMessage:
    """The client's message in ``text``.

    Raises:
        MessageRefused: it is not a message of ``interlock.v1``; the text says what is wrong and quotes nothing of it.
    """
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise MessageRefused("nested too deeply") from None
    except msgspec.ValidationError as error:
        known = "unknown type" if "Invalid value" in str(error) else "wrong or unknown field"
        raise MessageRefused("no type" if "missing required field `type`" in str(error) else known) from None
    except (msgspec.DecodeError, UnicodeError):
        raise MessageRefused("not JSON") from None


class Conversation:
    """The state of one open connection of one session.

    ``authorised_until_ms``: when the credential it was opened with, or the last one it was given, expires.
    ``outbox_limit``: how many messages may wait before the client counts as a slow consumer.
    """

    __slots__ = (
        "_authorised_until_ms",
        "_epoch",
        "_greeted",
        "_heard_epoch",
        "_heard_version",
        "_outbox",
        "_outbox_limit",
        "closing",
        "connection_id",
        "session_id",
    )

    def __init__(self, connection_id: str, session: Session, *, authorised_until_ms: int, outbox_limit: int) -> None:
        self.connection_id = connection_id
        self.session_id = session.session_id
        self.closing: Close | None = None
        self._epoch = session.epoch
        # What it has heard of the session; records that are part of it may still come.
        self._heard_version, self._heard_epoch = session.version, session.epoch
        self._greeted = False
        self._authorised_until_ms = authorised_until_ms
        self._outbox: list[ServerMessage] = []
        self._outbox_limit = outbox_limit

    @property
    def deadline_ms(self) -> int:
        """When ``tick`` must be called next."""
        return self._authorised_until_ms

    def greet(self, session: Session, receipt: Receipt, *, ping_interval_ms: int, limits: Limits) -> None:
        """Say hello, with ``session`` as it stands after the connection was recorded, and the ``receipt`` of that."""
        self._greeted = True
        self._heard_version, self._heard_epoch = session.version, session.epoch
        self._say(
            Hello(
                self.connection_id,
                self.session_id,
                session.state or "",
                session.version,
                ping_interval_ms,
                limits,
                receipt,
            )
        )

    def receive_text(self, text: str) -> RefreshRequest | None:
        """Take a text message. A returned request wants its token checked, then ``authorise`` or ``close``."""
        if self.closing is not None:
            return None
        try:
            message = parse(text)
        except MessageRefused as refused:
            self.close(Close("bad_message", str(refused)))
            return None
        if isinstance(message, RefreshRequest):
            return message
        self._say(Pong())
        return None

    def receive_bytes(self) -> None:
        """Take a binary message: there are none in this protocol."""
        self.close(Close("bad_message", "binary frames are not part of interlock.v1"))

    def authorise(self, epoch: int, until_ms: int) -> None:
        """An access token of this session was checked: the connection may stay open until it expires."""
        self._epoch = epoch
        self._authorised_until_ms = until_ms
        self._say(Refreshed(rfc3339(until_ms)))

    def observe(self, record: Record) -> None:
        """``record`` of the session was written; they come in order.

        What comes before the greeting is part of the state the greeting tells, so only an end matters then. Records that the
        session held already when the connection was opened, or greeted, are none of its business.
        """
        move = record.transition
        if move.version <= self._heard_version:
            return
        self._heard_version = move.version
        if isinstance(move.data, Authenticate | Reauthenticate):
            self._heard_epoch += 1
        if self._greeted:
            self._say(TransitionMessage(*msgspec.structs.astuple(own_transition_view(record))))
        if move.target in FINAL_STATES:
            self.close(Close("session_ended", move.data.reason))
        elif self._heard_epoch > self._epoch:
            # The credential this connection lives by was superseded; the client refreshes and comes back.
            self.close(Close("token_expired"))

    def tick(self, now_ms: int) -> None:
        """It is ``now_ms``: close if the credential has expired."""
        if now_ms >= self._authorised_until_ms:
            self.close(Close("token_expired"))

    def close(self, closing: Close) -> None:
        """End the conversation; the first reason given stands."""
        if self.closing is None:
            self.closing = closing

    def take(self) -> list[bytes]:
        """The messages to send now, as JSON in UTF-8, in order."""
        messages = [_encoder.encode(message) for message in self._outbox]
        self._outbox.clear()
        return messages

    def _say(self, message: ServerMessage) -> None:
        if self.closing is not None:
            return
        if len(self._outbox) >= self._outbox_limit:
            self._outbox.clear()
            self.close(Close("slow_consumer"))
            return
        self._outbox.append(message)
