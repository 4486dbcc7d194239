"""The client's side of ``interlock.v1``, as a pure object: messages in, messages out, over as many connections as it takes.

An intent is sent under one id until its outcome is known. On a new connection the client first resumes the stream; the messages
that follow say what became of its intents. Only what is still open after them is sent again, which repeats nothing: the same
id is the same execution, and the server answers with its ``accepted``, and its ``outcome`` if it has ended.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from interlock.client.words import (
    Connected,
    IntentAccepted,
    IntentEnded,
    IntentProgress,
    IntentRefused,
    Output,
    Problem,
    Send,
    Transition,
)
from interlock.machine.closing import Recovery
from interlock.machine.session.messages import (
    AcceptedMessage,
    CancelRequest,
    ClientMessage,
    Gap,
    Hello,
    Limits,
    OutcomeMessage,
    Progress,
    RefreshRequest,
    Refused,
    Resumed,
    ResumeRequest,
    ServerMessage,
    StreamMessage,
    StreamPosition,
    SubmitRequest,
    TransitionMessage,
)

_decoder: Final[msgspec.json.Decoder[ServerMessage]] = msgspec.json.Decoder(ServerMessage)
_RETRY_MS: Final = 1000
"""The wait after a refusal that names no time."""


class _Intent:
    """One intent whose outcome is not known. ``settled``: the stream has told of it, and will of its end."""

    def __init__(self, request: SubmitRequest) -> None:
        self.request = request
        self.execution_id: str | None = None
        self.settled = False
        self.cancelling = False
        self.retry_at_ms: int | None = None


class Dialogue:
    """The intents and the place in the stream of one session. ``position`` is where a new connection resumes."""

    def __init__(self) -> None:
        self.position: StreamPosition | None = None
        self._intents: dict[str, _Intent] = {}
        self._limits: Limits | None = None
        self._resuming = False
        self._until = 0
        self._unanswered: set[str] = set()
        self._out: list[Output] = []

    def take(self) -> list[Output]:
        """Return the outputs since the last call."""
        out, self._out = self._out, []
        return out

    def next_wake_ms(self) -> int | None:
        """Return when :meth:`tick` has something to send, or None."""
        if self._limits is None:
            return None
        return min((each.retry_at_ms for each in self._intents.values() if each.retry_at_ms is not None), default=None)

    def submit(self, intent_id: str, name: str, parameters: Any) -> None:
        """Send an intent, or keep it for the next connection."""
        self._intents[intent_id] = _Intent(SubmitRequest(intent_id, name, Raw(msgspec.json.encode(parameters))))
        self._flush()

    def cancel(self, intent_id: str) -> None:
        """Ask to stop an intent's execution, once it is accepted."""
        if (intent := self._intents.get(intent_id)) is not None:
            intent.cancelling = True
            self._flush()

    def refresh(self, access_token: str) -> None:
        """Send a newer access token, which keeps the connection open."""
        if self._limits is not None:
            self._send(RefreshRequest(access_token))

    def tick(self, now_ms: int) -> None:
        """Send again what was refused for a while."""
        for intent in self._intents.values():
            if intent.retry_at_ms is not None and intent.retry_at_ms <= now_ms:
                intent.retry_at_ms = None
        self._flush()

    def lost(self) -> None:
        """Forget the connection. What it has not answered is asked for on the next one."""
        self._limits = None
        self._unanswered.clear()

    def give_up(self) -> None:
        """Forget the intents: nobody waits for them any more."""
        self._intents.clear()

    def receive(self, text: str, now_ms: int) -> None:
        """Take a message of the server. One that this version does not know is ignored."""
        try:
            message = _decoder.decode(text)
        except msgspec.ValidationError:
            return
        match message:
            case Hello():
                self._begin(message)
            case TransitionMessage():
                self._out.append(Transition(message.event, message.target, message.version))
            case Resumed():
                self._go_on(message.epoch, message.offset)
            case Gap():
                # What became of the intents may be among what is lost.
                self._unanswered.clear()
                for intent in self._intents.values():
                    intent.settled = False
                self._go_on(message.epoch, message.offset)
            case Refused():
                self._refused(message, now_ms)
            case AcceptedMessage() | Progress() | OutcomeMessage() if not self._resuming:
                self._stream(message)
        self._flush()

    def _begin(self, hello: Hello) -> None:
        self._limits = hello.limits
        self._until = hello.stream.offset
        self._out.append(Connected(hello.connection_id, hello.state, hello.version))
        if self.position is None:
            self.position = hello.stream
            return
        self._resuming = True
        self._send(ResumeRequest(self.position.epoch, self.position.offset))

    def _go_on(self, epoch: str, offset: int) -> None:
        self._resuming = False
        self.position = StreamPosition(epoch, offset)

    def _stream(self, message: StreamMessage) -> None:
        if self.position is not None:
            self.position = msgspec.structs.replace(self.position, offset=message.offset)
        intent = self._intents.get(message.intent_id)
        if intent is None:
            return
        intent_id = message.intent_id
        match message:
            case AcceptedMessage():
                self._unanswered.discard(intent_id)
                intent.settled = True
                if intent.execution_id is None:
                    intent.execution_id = message.execution_id
                    self._out.append(IntentAccepted(intent_id, message.execution_id))
            case Progress():
                self._out += [
                    IntentProgress(intent_id, message.attempt, msgspec.json.decode(value)) for value in message.data
                ]
            case OutcomeMessage():
                self._unanswered -= {intent_id, message.execution_id}
                del self._intents[intent_id]
                self._out.append(
                    IntentEnded(
                        intent_id,
                        message.state,
                        None if message.result is UNSET else msgspec.json.decode(message.result),
                        None if message.reason is UNSET else message.reason,
                        None if message.error is UNSET else message.error,
                    )
                )

    def _refused(self, message: Refused, now_ms: int) -> None:
        intent = self._refused_intent(message)
        if intent is None:
            return
        problem = msgspec.json.decode(message.problem, type=Problem)
        if problem.recovery is Recovery.RETRY_LATER:
            wait_ms = _RETRY_MS if message.retry_after_s is UNSET else message.retry_after_s * 1000
            intent.retry_at_ms = now_ms + wait_ms
        elif message.intent_id is not UNSET:
            del self._intents[intent.request.id]
            self._out.append(IntentRefused(intent.request.id, problem))
        else:
            # The outcome says how the execution ended instead.
            intent.cancelling = False

    def _refused_intent(self, message: Refused) -> _Intent | None:
        if message.intent_id is not UNSET:
            self._unanswered.discard(message.intent_id)
            return self._intents.get(message.intent_id)
        if message.execution_id is UNSET:
            return None
        self._unanswered.discard(message.execution_id)
        found = (each for each in self._intents.values() if each.execution_id == message.execution_id)
        return next(found, None)

    def _flush(self) -> None:
        """Send what may be sent now: nothing before the stream has told what happened meanwhile."""
        if self._limits is None or self._resuming or self.position is None or self.position.offset < self._until:
            return
        for intent in list(self._intents.values()):
            if len(self._unanswered) >= self._limits.unanswered:
                return
            if intent.retry_at_ms is not None:
                continue
            if not intent.settled and intent.request.id not in self._unanswered:
                self._unanswered.add(intent.request.id)
                self._send(intent.request)
            elif intent.cancelling and intent.settled and intent.execution_id not in {None, *self._unanswered}:
                self._unanswered.add(intent.execution_id or "")
                self._send(CancelRequest(intent.execution_id or ""))

    def _send(self, message: ClientMessage) -> None:
        self._out.append(Send(msgspec.json.encode(message).decode()))
