"""The Python client under any schedule: answers lost, late and doubled, connections that break anywhere, clocks that jump."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from interlock.client.words import (
    ConnectionWanted,
    Failure,
    HandshakeFailed,
    Input,
    IntentAccepted,
    IntentEnded,
    IntentProgress,
    IntentSubmitted,
    LoggedOut,
    OpenSocket,
    Problem,
    Refresh,
    RefreshAnswered,
    SessionEnded,
    SocketClosed,
    SocketOpened,
    Stopped,
    TextReceived,
    Tick,
    TokensArrived,
)
from interlock.machine.closing import CLOSE_CODES, ClientAction, Recovery
from tests.clients.replaying import Player, tokens

_ACTIONS = {row.code: row.next for row in CLOSE_CODES.values()}
_SURVIVED = [code for code, action in _ACTIONS.items() if action in {ClientAction.RECONNECT, ClientAction.REFRESH}]
_RECEIPT = {"position": 9, "digest": "d"}
_OVER = Problem("urn:interlock:problem:session-ended", 401, Recovery.START_SESSION, reason="revoked")
_BUSY = Problem("urn:interlock:problem:overloaded", 503, Recovery.RETRY_LATER)


class AnySchedule(RuleBasedStateMachine):
    """A server that keeps a stream and executes each intent once, and a network that loses and delays."""

    def __init__(self) -> None:
        super().__init__()
        self.player = Player()
        self.stream: list[dict[str, Any]] = []
        self.epoch = 0
        self.read = 0
        self.wire: list[dict[str, Any]] = []
        self.executed: list[str] = []
        self.submitted: set[str] = set()
        self.open = False
        self.asked: list[Refresh] = []
        self.numbers = 0
        self.opened_with = ""
        self.refused: set[str] = set()
        self.skipped: set[str] = set()

    def give(self, given: Input) -> None:
        """Give the core an input, and check what it says."""
        over = self.player.core.end is not None
        out = self.player.give(given)
        assert not over or out == [], "nothing follows the end"
        for each in out:
            if isinstance(each, OpenSocket):
                assert each.access_token == self.player.core.tokens.access_token
                assert each.access_token not in self.refused, "a token that was refused is not used again"
                assert not self.player.core.stale(self.player.now_ms)
                self.open, self.opened_with = False, each.access_token
            elif isinstance(each, Refresh):
                self.asked.append(each)
        self.wire += self.player.sent
        self.player.sent.clear()

    @precondition(lambda self: self.player.core.end is None)
    @rule()
    def submit(self) -> None:
        name = f"i{len(self.submitted)}"
        self.submitted.add(name)
        self.give(IntentSubmitted(name, "notes.create", {}))

    @precondition(lambda self: self.attempting() and not self.open)
    @rule(broken=st.booleans())
    def answer_handshake(self, *, broken: bool) -> None:
        if broken:
            self.give(HandshakeFailed(Failure()))
            return
        self.wire.clear()
        self.give(SocketOpened())
        self.open, self.read = True, len(self.stream)
        place = {"epoch": str(self.epoch), "offset": len(self.stream)}
        hello = {"type": "hello", "connection_id": "c", "session_id": "s", "state": "connected", "version": 3}
        limits = {"message_bytes": 65_536, "unanswered": 2}
        self.deliver({**hello, "ping_interval_ms": 20_000, "limits": limits, "stream": place, "receipt": _RECEIPT})

    def attempting(self) -> bool:
        """Return whether the client has a handshake under way or a connection open."""
        return self.player.core._socket != "closed"

    def deliver(self, message: dict[str, Any]) -> None:
        self.give(TextReceived(json.dumps(message)))

    @precondition(lambda self: self.open and self.wire)
    @rule()
    def hear_the_client(self) -> None:
        match self.wire.pop(0):
            case {"type": "resume", "epoch": epoch, "offset": offset}:
                here = epoch == str(self.epoch)
                self.read = offset if here else 0
                kind = "resumed" if here else "gap"
                self.deliver({"type": kind, "epoch": str(self.epoch), "offset": self.read})
            case {"type": "intent", "id": intent_id}:
                known = {each["intent_id"] for each in self.stream} - self.skipped
                assert intent_id not in known, "it is sent again although the stream has told of it"
                about = {"intent_id": intent_id, "execution_id": f"e-{intent_id}"}
                self.stream.append({"type": "accepted", "receipt": _RECEIPT, **about})
                if intent_id not in self.executed:
                    self.executed.append(intent_id)
                    self.stream.append({"type": "progress", "attempt": 1, "data": [intent_id], **about})
                ended = {"state": "succeeded", "result": intent_id, "receipt": _RECEIPT}
                self.stream.append({"type": "outcome", **ended, **about})

    @precondition(lambda self: self.open and self.read < len(self.stream))
    @rule()
    def send_the_stream(self) -> None:
        self.read += 1
        self.deliver({**self.stream[self.read - 1], "offset": self.read})

    @precondition(lambda self: self.open and self.read < len(self.stream) and not self.wire)
    @rule()
    def read_too_slowly(self) -> None:
        self.skipped |= {each["intent_id"] for each in self.stream[self.read :]}
        self.read = len(self.stream)
        self.deliver({"type": "gap", "epoch": str(self.epoch), "offset": self.read})

    @precondition(lambda self: self.open)
    @rule(code=st.sampled_from([1006, *_SURVIVED]))
    def break_the_connection(self, code: int) -> None:
        self.open = False
        self.wire.clear()
        if _ACTIONS.get(code) is ClientAction.REFRESH and self.opened_with == self.player.core.tokens.access_token:
            self.refused.add(self.opened_with)
        self.give(SocketClosed(code))

    @precondition(lambda self: not self.open)
    @rule()
    def restart_the_server(self) -> None:
        self.epoch += 1
        self.stream.clear()
        self.skipped.clear()

    @precondition(lambda self: self.attempting())
    @rule(heard=st.integers(0, 4), told=st.integers(0, 6))
    def go_on(self, heard: int, told: int) -> None:
        """Let a part of what is under way arrive."""
        if not self.open:
            self.answer_handshake(broken=False)
        for _ in range(min(heard, len(self.wire))):
            self.hear_the_client()
        for _ in range(min(told, len(self.stream) - self.read)):
            self.send_the_stream()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), how=st.sampled_from(["tokens", "lost", "busy", "refused"]))
    def answer_a_refresh(self, data: st.DataObject, how: str) -> None:
        """Answer any of them, also one that was answered before."""
        asked = data.draw(st.sampled_from(self.asked))
        self.numbers += 1
        held, late = self.player.core.tokens, asked.generation != self.player.core.generation
        answer = tokens(f"a{self.numbers}", refresh_token=f"r{self.numbers}")
        failures = {"lost": Failure(), "busy": Failure(_BUSY), "refused": Failure(_OVER if late else _BUSY)}
        self.give(RefreshAnswered(asked.generation, failures.get(how, answer)))
        assert not late or self.player.core.tokens == held, "a late answer changes nothing"

    @rule()
    def log_in_again(self) -> None:
        self.numbers += 1
        self.give(TokensArrived(tokens(f"a{self.numbers}", refresh_token=f"r{self.numbers}")))

    @rule(step_ms=st.integers(-100_000, 400_000))
    def step_the_clock(self, step_ms: int) -> None:
        self.player.now_ms = max(0, self.player.now_ms + step_ms)
        self.give(Tick())

    @precondition(lambda self: len(self.submitted) > 3)
    @rule(how=st.sampled_from(["logout", "refused"]))
    def end(self, how: str) -> None:
        if how == "logout" or not self.asked:
            self.give(LoggedOut())
        else:
            self.give(RefreshAnswered(self.asked[-1].generation, Failure(_OVER)))

    @invariant()
    def no_intent_is_told_twice(self) -> None:
        for kind in (IntentAccepted, IntentEnded):
            told = [each.intent_id for each in self.player.of(kind)]
            assert len(told) == len(set(told))
        parts = [each.value for each in self.player.of(IntentProgress)]
        assert len(parts) == len(set(parts))
        assert len(self.player.of(SessionEnded)) <= 1
        assert self.player.of(Stopped) == []

    @invariant()
    def what_is_over_holds_no_token(self) -> None:
        if self.player.core.end is not None:
            assert self.player.core.tokens.refresh_token == ""
            assert self.player.core.next_wake_ms() is None

    def teardown(self) -> None:
        """With a network that works again, every intent has its outcome."""
        self.give(ConnectionWanted(wanted=True))
        for _ in range(2000):
            if self.player.core.end is not None or self.told() == self.submitted:
                return
            if self.player.core.refreshing:
                self.numbers += 1
                answer = tokens(f"a{self.numbers}", refresh_token=f"r{self.numbers}")
                self.give(RefreshAnswered(self.player.core.generation, answer))
            elif self.attempting() and not self.open:
                self.answer_handshake(broken=False)
            elif self.open and self.wire:
                self.hear_the_client()
            elif self.open and self.read < len(self.stream):
                self.send_the_stream()
            else:
                at_ms = self.player.core.next_wake_ms()
                self.player.now_ms = max(self.player.now_ms, at_ms or 0)
                self.give(Tick())
        raise AssertionError(f"without an outcome: {self.submitted - self.told()}")

    def told(self) -> set[str]:
        """Return the intents whose outcome the application has."""
        return {each.intent_id for each in self.player.of(IntentEnded)}


TestAnySchedule = AnySchedule.TestCase
TestAnySchedule.settings = settings(stateful_step_count=60, deadline=None)
