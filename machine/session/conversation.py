"""One WebSocket connection without I/O: messages in, messages and one close out.

The caller owns the socket. It passes in what arrived (``receive_text``, ``receive_bytes``), what was recorded (``observe``)
and the time (``tick``). Then it sends what ``take`` returns, in order, and closes the socket once ``closing`` is set. Once
``closing`` is set, nothing more is sent and input is ignored.

The messages are those of :mod:`interlock.machine.session.messages`. ``hello`` is always the first. The session's stream has its
own buffer, which all connections of the session share: the conversation keeps only its place in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from interlock.machine.closing import Close
from interlock.machine.errors import MessageRefused
from interlock.machine.ledger import Record
from interlock.machine.session.commands import Authenticate, Connect, Reauthenticate
from interlock.machine.session.messages import (
    CancelRequest,
    Gap,
    Hello,
    Limits,
    PingRequest,
    Pong,
    Refreshed,
    RefreshRequest,
    Refused,
    Resumed,
    ResumeRequest,
    ServerMessage,
    StreamPosition,
    SubmitRequest,
    TransitionMessage,
    encode,
    parse,
)
from interlock.machine.session.session import FINAL_STATES, Session
from interlock.machine.session.stream import Stream
from interlock.machine.times import rfc3339
from interlock.machine.wire import own_transition_view

RESUME_WAIT_MS: Final = 1_000
"""How long after ``hello`` messages of the stream wait for a ``resume``, so that its answer comes before them."""

_TAKEN_BYTES: Final = 64 * 1024
"""About how many bytes of the stream one ``take`` returns."""

Request = RefreshRequest | SubmitRequest | CancelRequest
"""A message that the caller has to answer: see :meth:`Conversation.receive_text`."""


class Conversation:
    """The state of one open connection of one session.

    ``authorised_until_ms`` is when the connection's newest credential expires. ``outbox_limit`` is how many messages may wait
    before the client counts as a slow consumer; those of the stream are not counted. ``open_stream`` returns the stream that
    the session has at the greeting.
    """

    __slots__ = (
        "_authorised_until_ms",
        "_epoch",
        "_heard_epoch",
        "_held_until_ms",
        "_limits",
        "_open_stream",
        "_outbox",
        "_outbox_limit",
        "_ping_interval_ms",
        "_place",
        "_resumed",
        "_stream",
        "closing",
        "connection_id",
        "greeted",
        "session_id",
    )

    def __init__(  # noqa: PLR0913  # what a connection has, by name
        self,
        connection_id: str,
        session: Session,
        *,
        authorised_until_ms: int,
        outbox_limit: int,
        ping_interval_ms: int,
        limits: Limits,
        open_stream: Callable[[], Stream],
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
        self._open_stream = open_stream
        self._stream: Stream | None = None
        # The offset of the last message of the stream that was taken.
        self._place = 0
        # Set while messages of the stream wait for a resume.
        self._held_until_ms: int | None = None
        self._resumed = False

    @property
    def epoch(self) -> int:
        """The session's epoch of the connection's credential."""
        return self._epoch

    @property
    def deadline_ms(self) -> int:
        """When ``tick`` must be called next. A message appended to the stream, and each other call, may bring it forward."""
        if self._held_until_ms is None or self._stream is None or self._stream.offset == self._place:
            return self._authorised_until_ms
        return min(self._authorised_until_ms, self._held_until_ms)

    def receive_text(self, text: str) -> Request | None:
        """Process a text message, and return a request that the caller has to answer.

        Check the token of a :class:`RefreshRequest`, and call ``authorise`` or ``close``. An accepted intent, and the end of an
        execution, is answered by the stream; otherwise call ``refuse``.
        """
        if self.closing is not None:
            return None
        try:
            message = parse(text)
        except MessageRefused as refused:
            self.close(Close("bad_message", str(refused)))
            return None
        match message:
            case PingRequest():
                self._say(Pong())
                return None
            case ResumeRequest():
                self._resume(message)
                return None
            case SubmitRequest() | CancelRequest():
                # A client that resumes does so first.
                self._held_until_ms = None
        return message

    def receive_bytes(self) -> None:
        """Refuse a binary message; the protocol has none."""
        self.close(Close("bad_message", "binary frames are not part of interlock.v1"))

    def authorise(self, epoch: int, until_ms: int) -> None:
        """Keep the connection open until ``until_ms``, when the access token that the caller has checked expires."""
        self._epoch = epoch
        self._authorised_until_ms = until_ms
        self._say(Refreshed(rfc3339(until_ms)))

    def refuse(self, request: SubmitRequest | CancelRequest, problem: bytes, retry_after_s: int | None) -> None:
        """Answer ``request`` with ``problem``, a JSON object."""
        retry = UNSET if retry_after_s is None else retry_after_s
        if isinstance(request, SubmitRequest):
            self._say(Refused(Raw(problem), intent_id=request.id, retry_after_s=retry))
        else:
            self._say(Refused(Raw(problem), execution_id=request.execution_id, retry_after_s=retry))

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
        """Close the connection if its credential has expired at ``now_ms``. Stop waiting for a resume after its time."""
        if now_ms >= self._authorised_until_ms:
            self.close(Close("token_expired"))
        if self._held_until_ms is not None and now_ms >= self._held_until_ms:
            self._held_until_ms = None

    def close(self, closing: Close) -> None:
        """End the conversation. The first reason given stands."""
        if self.closing is None:
            self.closing = closing

    def take(self) -> list[bytes]:
        """Return messages to send now, in order, as JSON in UTF-8. It returns none if all are sent.

        Each call returns a part of the stream, so a caller that sends only while the client reads needs no buffer for it.
        """
        self._read_on()
        messages = [encode(message) for message in self._outbox]
        self._outbox.clear()
        stream = self._stream
        if stream is not None and self._held_until_ms is None and self.closing is None:
            told = stream.after(self._place, _TAKEN_BYTES)
            self._place += len(told)
            messages += told
        return messages

    def _greet(self, connect: Record) -> None:
        move = connect.transition
        self.greeted = True
        stream = self._stream = self._open_stream()
        self._place = stream.offset
        self._held_until_ms = move.at_ms + RESUME_WAIT_MS
        self._say(
            Hello(
                self.connection_id,
                self.session_id,
                move.target,
                move.version,
                self._ping_interval_ms,
                self._limits,
                StreamPosition(stream.epoch, stream.offset),
                connect.receipt,
            )
        )

    def _resume(self, request: ResumeRequest) -> None:
        """Continue the stream after the place that the client names, if every message from there on is kept."""
        stream = self._stream
        if stream is None or self._resumed:
            self.close(Close("bad_message", "resume once on a connection, after hello"))
            return
        self._resumed, self._held_until_ms = True, None
        if request.epoch == stream.epoch and stream.start <= request.offset <= stream.offset:
            self._place = request.offset
            self._say(Resumed(stream.epoch, request.offset))
        else:
            self._skip_to(stream, stream.start)

    def _read_on(self) -> None:
        """If the client reads so slowly that the stream has dropped what comes next, continue with what it has kept."""
        stream = self._stream
        if stream is not None and self._held_until_ms is None and self._place < stream.start:
            self._skip_to(stream, stream.start)

    def _skip_to(self, stream: Stream, place: int) -> None:
        self._place = place
        self._say(Gap(stream.epoch, place))

    def _say(self, message: ServerMessage) -> None:
        if self.closing is not None:
            return
        if len(self._outbox) >= self._outbox_limit:
            self._outbox.clear()
            self.close(Close("slow_consumer"))
            return
        self._outbox.append(message)
