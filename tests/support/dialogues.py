"""Replays a dialogue of ``tests/machine/dialogues`` (its README describes the format) against the real conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from msgspec import Raw

from interlock.machine.ledger import Receipt, parse
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import (
    Connect,
    Data,
    Disconnect,
    Reauthenticate,
    RevocationReason,
    Revoke,
    Touch,
)
from interlock.machine.session.conversation import Conversation, Request
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.messages import AcceptedMessage, EndState, Limits, OutcomeMessage, SubmitRequest
from interlock.machine.session.stream import Stream, StreamLimits
from tests.machine.samples import CREATE, LOGIN, Step, history, rows_of
from tests.support.source import ROOT

DIALOGUES: Final = sorted((ROOT / "tests" / "machine" / "dialogues").glob("*.txt"))

_ANY: Final = "*"
_LIMITS: Final = StreamLimits(messages=100, bytes=100_000, age_ms=60_000, frame_bytes=1_000)
_RECEIPT: Final = Receipt(9, "d" * 64)
_EPOCHS: Final = ("first", "second", "third")


def replay(path: Path) -> list[dict[str, Any]]:
    """Replay the dialogue in ``path``. Return all messages that the server and the client sent."""
    server = _Server()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word, _, rest = line.partition(" ")
        if not line or word == "#":
            continue
        try:
            server.play(word, rest)
        except AssertionError as error:
            raise AssertionError(f"{path.name}:{number}: {line}\n{error}") from error
    server.expect_silence()
    return server.messages


class _Server:
    """The server's side of a dialogue: one session, its stream, and its newest connection."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._now_ms = 0
        self._steps: list[Step] = [(CREATE, 0), (LOGIN, 0)]
        self._connections = 0
        self._streams = 0
        self._conversation: Conversation | None = None
        self._said: list[Any] = []
        self._asked: list[Request] = []
        self._start()

    def play(self, word: str, rest: str) -> None:
        """Play one line."""
        if word not in {"S", "close"}:
            self.expect_silence()
        match word:
            case "now":
                self._pass_time(int(rest))
            case "connect":
                self._connect()
            case "S":
                self._expect(json.loads(rest))
            case "C":
                self._hear(rest)
            case "close":
                self._expect_close(rest)
            case "cut":
                self._record(Disconnect(self._open.connection_id, 1006))
                self._conversation = None
            case "do":
                self._do(*rest.split(" ", 1))
            case _:
                raise AssertionError(f"unknown line: {word}")

    def expect_silence(self) -> None:
        """Check that the server has sent nothing else, and has not closed."""
        if self._conversation is None:
            return
        self._listen()
        assert self._said == [], f"not expected: {self._said}"
        assert self._open.closing is None, f"not expected: {self._open.closing}"

    @property
    def _open(self) -> Conversation:
        assert self._conversation is not None, "no connection is open"
        return self._conversation

    def _start(self) -> None:
        self._stream = Stream(_EPOCHS[self._streams], _LIMITS)
        self._streams += 1

    def _pass_time(self, now_ms: int) -> None:
        self._now_ms = now_ms
        if self._conversation is not None:
            self._conversation.tick(now_ms)

    def _hear(self, text: str) -> None:
        self.messages.append(json.loads(text))
        request = self._open.receive_text(text)
        if request is not None:
            self._asked.append(request)

    def _expect_close(self, wanted: str) -> None:
        closing = self._open.closing
        assert closing is not None, "the server does not close"
        assert f"{closing.code} {closing.reason}" == wanted
        self._conversation = None

    def _connect(self) -> None:
        self._connections += 1
        name = f"tab{self._connections}"
        self._conversation = Conversation(
            name,
            SESSION_MACHINE.replay("s", history("s", self._steps)),
            authorised_until_ms=300_000,
            outbox_limit=8,
            ping_interval_ms=20_000,
            limits=Limits(message_bytes=65_536, unanswered=16),
            open_stream=lambda: self._stream,
        )
        self._record(Connect(name, "node"))

    def _record(self, data: Data) -> None:
        self._steps.append((data, self._now_ms))
        row = rows_of(history("s", self._steps))[-1]
        self._open.observe(parse(row, MACHINES))

    def _listen(self) -> None:
        while texts := self._open.take():
            self._said += [json.loads(text) for text in texts]

    def _expect(self, wanted: Any) -> None:
        self._listen()
        assert self._said, "the server sends nothing"
        said = self._said.pop(0)
        masked = {name: _ANY if wanted.get(name) == _ANY else value for name, value in said.items()}
        assert masked == wanted, f"the server sends {said}"
        self.messages.append(said)

    def _do(self, what: str, about: str = "") -> None:
        parts = about.split(" ", 3)
        stream, now_ms = self._stream, self._now_ms
        match what:
            case "accepted":
                stream.accept(AcceptedMessage(parts[0], parts[1], _RECEIPT), now_ms)
            case "refused":
                self._refuse(*about.split(" ", 1))
            case "progress":
                execution_id, intent_id, value = about.split(" ", 2)
                stream.collect(execution_id, intent_id, 1, value.encode(), now_ms)
            case "flush":
                stream.flush(now_ms)
            case "outcome":
                stream.end(_outcome(*parts), now_ms)
            case "record":
                self._record(_event(about))
            case "authorised":
                self._open.authorise(int(parts[0]), int(parts[1]))
            case "forget":
                stream.forget_all()
            case "restart":
                self._start()
            case _:
                raise AssertionError(f"unknown happening: {what}")

    def _refuse(self, intent_id: str, problem: str) -> None:
        (request,) = (each for each in self._asked if isinstance(each, SubmitRequest) and each.id == intent_id)
        self._open.refuse(request, problem.encode(), None)


def _outcome(execution_id: str, intent_id: str, state: str, value: str) -> OutcomeMessage:
    ended = OutcomeMessage(execution_id, intent_id, cast("EndState", state), _RECEIPT)
    if state == "succeeded":
        return msgspec.structs.replace(ended, result=Raw(value.encode()))
    return msgspec.structs.replace(ended, reason=value)


def _event(about: str) -> Data:
    name, _, reason = about.partition(" ")
    match name:
        case "revoke":
            return Revoke(cast("RevocationReason", reason))
        case "reauthenticate":
            return Reauthenticate("alice", "password")
    return Touch()
