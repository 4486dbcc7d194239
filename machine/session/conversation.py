"""One WebSocket connection without I/O: messages in, messages and one close out.

The caller owns the socket. It passes in what arrived (``receive_text``, ``receive_bytes``), what was recorded (``observe``)
and the time (``tick``). Then it sends what ``take`` returns, in order, and closes the socket once ``closing`` is set. Once
``closing`` is set, nothing more is sent and input is ignored.

Server → client: ``hello`` (always first), ``transition``, ``refreshed``, ``pong``. Client → server: ``refresh``, ``ping``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from interlock.machine.closing import Close
from interlock.machine.errors import MessageRefused
from interlock.machine.ledger import Receipt, Record
from interlock.machine.session.commands import Authenticate, Connect, Reauthenticate
from interlock.machine.session.session import FINAL_STATES, Session
from interlock.machine.times import rfc3339
from interlock.machine.wire import TransitionView, own_transition_view

SUBPROTOCOL: Final = "interlock.v1"


class Limits(msgspec.Struct, frozen=True):
    """The limits for the client: the size of one message in bytes."""

    message_bytes: int


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The first message: the connection's id, the session's state, and how often the server pings.

    ``receipt`` is the receipt of the recorded ``connect``.
    """

    connection_id: str
    session_id: str
    state: str
    version: int
    ping_interval_ms: int
    limits: Limits
    receipt: Receipt


class TransitionMessage(TransitionView, frozen=True, tag_field="type", tag="transition"):
    """A transition of the client's session that was just recorded."""


class Refreshed(msgspec.Struct, frozen=True, tag_field="type", tag="refreshed"):
    """The access token was accepted. The connection closes with 4408 at ``expires_at`` unless the client sends another."""

    expires_at: str


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to the client's ``ping``."""


class RefreshRequest(msgspec.Struct, frozen=True, tag_field="type", tag="refresh", forbid_unknown_fields=True):
    """A newer access token of the same session, to keep the connection open."""

    access_token: str


class PingRequest(msgspec.Struct, frozen=True, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """A request for a ``pong``, to check that the server responds."""


ServerMessage = Hello | TransitionMessage | Refreshed | Pong
ClientMessage = RefreshRequest | PingRequest

_decoder: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)
_encoder: Final = msgspec.json.Encoder()


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
        known = "unknown type" if "Invalid value" in str(error) else "wrong or unknown field"
        raise MessageRefused("no type" if "missing required field `type`" in str(error) else known) from None
    except (msgspec.DecodeError, UnicodeError):
        raise MessageRefused("not JSON") from None


class Conversation:
    """The state of one open connection of one session.

    ``authorised_until_ms`` is when the connection's newest credential expires. ``outbox_limit`` is how many messages may wait
    before the client counts as a slow consumer.
    """

    __slots__ = (
        "_authorised_until_ms",
        "_epoch",
        "_heard_epoch",
        "_limits",
        "_outbox",
        "_outbox_limit",
        "_ping_interval_ms",
        "closing",
        "connection_id",
        "greeted",
        "session_id",
    )

    def __init__(
        self,
        connection_id: str,
        session: Session,
        *,
        authorised_until_ms: int,
        outbox_limit: int,
        ping_interval_ms: int,
        limits: Limits,
    ) -> None:
        self.connection_id = connection_id
        self.session_id = session.session_id
        self.closing: Close | None = None
        self.greeted = False
        # The connect is recorded only at this epoch. Later logins are observed.
        self._epoch = self._heard_epoch = session.epoch
        self._authorised_until_ms = authorised_until_ms
        self._outbox: list[ServerMessage] = []
        self._outbox_limit = outbox_limit
        self._ping_interval_ms = ping_interval_ms
        self._limits = limits

    @property
    def deadline_ms(self) -> int:
        """When ``tick`` must be called next."""
        return self._authorised_until_ms

    def receive_text(self, text: str) -> RefreshRequest | None:
        """Process a text message. If it returns a request, check its token and call ``authorise`` or ``close``."""
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
        """Refuse a binary message; the protocol has none."""
        self.close(Close("bad_message", "binary frames are not part of interlock.v1"))

    def authorise(self, epoch: int, until_ms: int) -> None:
        """Keep the connection open until ``until_ms``, when the access token that the caller has checked expires."""
        self._epoch = epoch
        self._authorised_until_ms = until_ms
        self._say(Refreshed(rfc3339(until_ms)))

    def observe(self, record: Record) -> None:
        """Process a ``record`` of the session. Records come in order.

        The connection's own ``connect`` queues the hello, with the session as it is after that record. Earlier records are
        ignored: the ``connect`` is recorded only while the credential is valid.
        """
        move = record.transition
        if not self.greeted:
            if isinstance(move.data, Connect) and move.data.connection_id == self.connection_id:
                self._greet(record)
            return
        if isinstance(move.data, Authenticate | Reauthenticate):
            self._heard_epoch += 1
        self._say(TransitionMessage(*msgspec.structs.astuple(own_transition_view(record))))
        if move.target in FINAL_STATES:
            self.close(Close("session_ended", move.data.reason))
        elif self._heard_epoch > self._epoch:
            # A later login superseded the connection's credential; the client must refresh and reconnect.
            self.close(Close("token_expired"))

    def tick(self, now_ms: int) -> None:
        """Close the connection if its credential has expired at ``now_ms``."""
        if now_ms >= self._authorised_until_ms:
            self.close(Close("token_expired"))

    def close(self, closing: Close) -> None:
        """End the conversation. The first reason given stands."""
        if self.closing is None:
            self.closing = closing

    def take(self) -> list[bytes]:
        """Return the messages to send now, in order, as JSON in UTF-8."""
        messages = [_encoder.encode(message) for message in self._outbox]
        self._outbox.clear()
        return messages

    def _greet(self, connect: Record) -> None:
        move = connect.transition
        self.greeted = True
        self._say(
            Hello(
                self.connection_id,
                self.session_id,
                move.target,
                move.version,
                self._ping_interval_ms,
                self._limits,
                connect.receipt,
            )
        )

    def _say(self, message: ServerMessage) -> None:
        if self.closing is not None:
            return
        if len(self._outbox) >= self._outbox_limit:
            self._outbox.clear()
            self.close(Close("slow_consumer"))
            return
        self._outbox.append(message)
