"""One WebSocket conversation, as dialogues and as any messages of a client in any order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from interlock.machine.closing import Close
from interlock.machine.ledger import parse as parse_row
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import Connect, Data, Reauthenticate, Revoke, Touch
from interlock.machine.session.conversation import Conversation
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.messages import (
    AcceptedMessage,
    CancelRequest,
    Limits,
    RefreshRequest,
    SubmitRequest,
)
from interlock.machine.session.session import Session
from interlock.machine.session.stream import Stream, StreamLimits
from tests.machine.samples import CREATE, LOGIN, MESSAGES, OPEN, Step, history, rows_of

_OPENED: list[Step] = [(CREATE, 0), (LOGIN, 0), (OPEN, 0)]
_CREATED, _LOGGED_IN, _CONNECT = (parse_row(row, MACHINES) for row in rows_of(history("s", _OPENED)))
_LIMITS = Limits(message_bytes=1024, unanswered=4)


def _stream() -> Stream:
    return Stream("e", StreamLimits(messages=10, bytes=1_000_000, age_ms=1_000_000, frame_bytes=100))


def _conversation(
    *, until_ms: int = 300_000, outbox_limit: int = 8, greeted: bool = True, stream: Stream | None = None
) -> Conversation:
    conversation = Conversation(
        "tab",
        SESSION_MACHINE.replay("s", history("s", _OPENED[:-1])),
        authorised_until_ms=until_ms,
        outbox_limit=outbox_limit,
        ping_interval_ms=20_000,
        limits=_LIMITS,
        open_stream=lambda: stream or _stream(),
    )
    if greeted:
        conversation.observe(_CONNECT)
        conversation.take()
    return conversation


def _observe(conversation: Conversation, *data: Data) -> Session:
    """Let ``conversation`` observe the records of ``data``, which follow the session's opening."""
    transitions = history("s", [*_OPENED, *((each, 10 + n) for n, each in enumerate(data))])
    rows = rows_of(transitions)
    for n in range(len(_OPENED), len(rows)):
        conversation.observe(parse_row(rows[n], MACHINES))
    return SESSION_MACHINE.replay("s", transitions)


def _said(conversation: Conversation) -> list[dict[str, Any]]:
    return [json.loads(message) for message in conversation.take()]


def test_the_server_speaks_first() -> None:
    conversation = _conversation(greeted=False)
    conversation.observe(_CONNECT)
    assert _said(conversation) == [
        {
            "type": "hello",
            "connection_id": "tab",
            "session_id": "s",
            "state": "connected",
            "version": 3,
            "ping_interval_ms": 20_000,
            "limits": {"message_bytes": 1024, "unanswered": 4},
            "stream": {"epoch": "e", "offset": 0},
            "receipt": {"position": 3, "digest": _CONNECT.digest.hex()},
        }
    ]
    assert conversation.take() == []
    assert conversation.closing is None


def test_records_before_the_own_connect_are_ignored() -> None:
    conversation = _conversation(greeted=False)
    for record in (_CREATED, _LOGGED_IN):
        conversation.observe(record)
    _observe(conversation, Connect("another", "default"), Reauthenticate("alice", "password"), Revoke("logout"))
    assert conversation.take() == []
    assert conversation.closing is None


def test_records_after_the_own_connect_follow_the_greeting() -> None:
    conversation = _conversation(greeted=False)
    conversation.observe(_CONNECT)
    _observe(conversation, Touch(), Revoke("logout"))
    told = [(message["type"], message["version"]) for message in _said(conversation)]
    assert told == [("hello", 3), ("transition", 4), ("transition", 5)]
    assert conversation.closing == Close("session_ended", "logout")


def test_a_connection_closed_before_its_connect_is_not_greeted() -> None:
    conversation = _conversation(greeted=False)
    conversation.close(Close("draining"))
    conversation.observe(_CONNECT)
    assert conversation.take() == []


def test_ping_and_pong() -> None:
    conversation = _conversation()
    assert conversation.receive_text('{"type":"ping"}') is None
    assert _said(conversation) == [{"type": "pong"}]


def test_a_newer_token_keeps_the_connection_open() -> None:
    conversation = _conversation(until_ms=300_000)
    assert conversation.deadline_ms == 300_000
    assert conversation.receive_text('{"type":"refresh","access_token":"new"}') == RefreshRequest("new")
    assert _said(conversation) == []
    conversation.authorise(epoch=1, until_ms=600_000)
    assert _said(conversation) == [{"type": "refreshed", "expires_at": "1970-01-01T00:10:00.000Z"}]
    assert conversation.deadline_ms == 600_000
    conversation.tick(599_999)
    assert conversation.closing is None
    conversation.tick(600_000)
    assert conversation.closing == Close("token_expired")


def test_own_transitions_are_pushed_as_they_are_recorded() -> None:
    conversation = _conversation()
    _observe(conversation, Touch())
    (message,) = _said(conversation)
    assert len(message.pop("digest")) == 64
    assert message == {
        "type": "transition",
        "position": 4,
        "kind": "session",
        "instance_id": "s",
        "version": 4,
        "event": "touch",
        "source": "connected",
        "target": "connected",
        "at": "1970-01-01T00:00:00.010Z",
        "actor": "test",
        "data": {},
    }
    assert conversation.closing is None


def test_the_end_of_the_session_is_sent_before_the_close() -> None:
    conversation = _conversation()
    assert _observe(conversation, Revoke("password_changed")).ended
    assert [message["event"] for message in _said(conversation)] == ["revoke"]
    assert conversation.closing is not None
    assert (conversation.closing.code, conversation.closing.reason) == (4403, "session ended: password_changed")


def test_a_newer_login_supersedes_the_credential() -> None:
    conversation = _conversation()
    _observe(conversation, Reauthenticate("alice", "password"))
    assert [message["event"] for message in _said(conversation)] == ["reauthenticate"]
    assert conversation.closing == Close("token_expired")


def test_a_connection_that_brought_the_new_epoch_stays() -> None:
    conversation = _conversation()
    conversation.authorise(epoch=2, until_ms=600_000)
    _observe(conversation, Reauthenticate("alice", "password"), Touch())
    assert [message["type"] for message in _said(conversation)] == ["refreshed", "transition", "transition"]
    assert conversation.closing is None


def test_a_slow_consumer_and_its_queue_are_dropped() -> None:
    conversation = _conversation(outbox_limit=2)
    closings = []
    for _ in range(3):
        conversation.receive_text('{"type":"ping"}')
        closings.append(conversation.closing)
    assert closings == [None, None, Close("slow_consumer")]
    assert conversation.take() == []


def test_a_consumer_that_keeps_up_is_not_slow() -> None:
    conversation = _conversation(outbox_limit=2)
    for _ in range(50):
        conversation.receive_text('{"type":"ping"}')
        assert _said(conversation) == [{"type": "pong"}]
    assert conversation.closing is None


def test_a_binary_message_closes_the_conversation() -> None:
    conversation = _conversation()
    conversation.receive_bytes()
    assert conversation.closing is not None
    assert conversation.closing.code == 4400


def test_the_first_reason_to_close_stands() -> None:
    conversation = _conversation()
    conversation.close(Close("draining"))
    conversation.close(Close("internal_error"))
    conversation.receive_bytes()
    conversation.tick(999_999_999)
    assert conversation.closing == Close("draining")


def test_an_intent_is_for_the_caller_to_answer() -> None:
    conversation = _conversation()
    text = '{"type":"intent","id":"i","name":"notes.create","parameters":{"a": [1]}}'
    request = conversation.receive_text(text)
    assert isinstance(request, SubmitRequest)
    assert (request.id, request.name, bytes(request.parameters)) == ("i", "notes.create", b'{"a": [1]}')
    assert _said(conversation) == []
    conversation.refuse(request, b'{"status":429}', 3)
    assert _said(conversation) == [
        {"type": "refused", "problem": {"status": 429}, "intent_id": "i", "retry_after_s": 3}
    ]


def test_a_refused_cancel_names_its_execution() -> None:
    conversation = _conversation()
    request = conversation.receive_text('{"type":"cancel","execution_id":"exe"}')
    assert request == CancelRequest("exe")
    conversation.refuse(request, b'{"status":404}', None)
    assert _said(conversation) == [{"type": "refused", "problem": {"status": 404}, "execution_id": "exe"}]


def test_the_stream_has_no_part_in_the_limit_of_waiting_messages() -> None:
    stream = _stream()
    conversation = _conversation(outbox_limit=2, stream=stream)
    conversation.tick(10_000)
    for n in range(10):
        stream.accept(AcceptedMessage(f"i{n}", f"exe{n}", _CONNECT.receipt), 0)
    assert [message["offset"] for message in _said(conversation)] == list(range(1, 11))
    assert conversation.closing is None


def test_a_client_that_reads_too_slowly_hears_of_the_gap() -> None:
    stream = _stream()
    conversation = _conversation(stream=stream)
    conversation.tick(10_000)
    for n in range(13):
        stream.accept(AcceptedMessage(f"i{n}", f"exe{n}", _CONNECT.receipt), 0)
    said = _said(conversation)
    assert said[0] == {"type": "gap", "epoch": "e", "offset": 3}
    assert [message["offset"] for message in said[1:]] == list(range(4, 14))


def test_a_large_stream_is_taken_in_parts() -> None:
    stream = _stream()
    conversation = _conversation(stream=stream)
    conversation.tick(10_000)
    for n in range(4):
        stream.accept(AcceptedMessage("i" * 30_000, f"exe{n}", _CONNECT.receipt), 0)
    assert [len(conversation.take()) for _ in range(3)] == [2, 2, 0]


def test_the_next_tick_is_due_when_a_message_waits_for_a_resume() -> None:
    stream = _stream()
    conversation = _conversation(until_ms=300_000, stream=stream)
    assert conversation.deadline_ms == 300_000
    stream.accept(AcceptedMessage("i", "exe", _CONNECT.receipt), 0)
    assert conversation.deadline_ms == 1_000
    conversation.tick(1_000)
    assert conversation.deadline_ms == 300_000
    assert len(conversation.take()) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("ping", "not JSON"),
        ('{"type":"ping"', "not JSON"),
        ("\ud800", "not JSON"),
        ('{"type":"ping"} {}', "not JSON"),
        ("{}", "no type"),
        ('{"access_token":"a"}', "no type"),
        ('{"type":"hello"}', "unknown type"),
        ('{"type":"Ping"}', "unknown type"),
        ("[]", "not an object"),
        ("null", "not an object"),
        ('{"type":7}', "field `type` has a wrong value"),
        ('{"type":"ping","access_token":"a"}', "unknown field"),
        ('{"type":"refresh"}', "field `access_token` is missing"),
        ('{"type":"intent","id":"i","name":"n"}', "field `parameters` is missing"),
        ('{"type":"intent","id":7,"name":"n","parameters":{}}', "field `id` has a wrong value"),
        ('{"type":"resume","epoch":"e","offset":-1}', "field `offset` has a wrong value"),
        ('{"type":"resume","epoch":"e","offset":1.5}', "field `offset` has a wrong value"),
        ('{"type":"cancel"}', "field `execution_id` is missing"),
        ('{"type":"accepted"}', "unknown type"),
        ('{"type":"refresh","access_token":7}', "field `access_token` has a wrong value"),
        ('{"x":' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_an_invalid_message_is_refused_with_the_reason(text: str, why: str) -> None:
    conversation = _conversation()
    assert conversation.receive_text(text) is None
    assert conversation.closing == Close("bad_message", why)
    assert conversation.take() == []


class ConversationMachine(RuleBasedStateMachine):
    """Everything that can happen to a conversation, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = list(_OPENED)
        self.conversation = _conversation(until_ms=1_000, outbox_limit=3, greeted=False)
        self.greeted = False
        self.heard: list[bytes] = []
        self.after_closing = 0
        self.first_close: Close | None = None

    @precondition(lambda self: not self.greeted)
    @rule()
    def greet(self) -> None:
        self.greeted = True
        self.conversation.observe(_CONNECT)

    @precondition(lambda self: self.greeted)
    @rule(text=st.sampled_from([json.dumps(message) for message in MESSAGES]) | st.text(max_size=3))
    def receive_text(self, text: str) -> None:
        closed = self.conversation.closing is not None
        request = self.conversation.receive_text(text)
        assert request is None or not closed

    @rule()
    def receive_bytes(self) -> None:
        self.conversation.receive_bytes()

    @rule(data=st.sampled_from([Touch(), Touch(), Reauthenticate("alice", "password"), Revoke("logout")]))
    def observe(self, data: Data) -> None:
        if not self.greeted or SESSION_MACHINE.replay("s", history("s", self.steps)).ended:
            return
        self.steps.append((data, 10))
        transitions = history("s", self.steps)
        row = rows_of(transitions)[-1]
        session = SESSION_MACHINE.replay("s", transitions)
        self.conversation.observe(parse_row(row, MACHINES))
        assert not session.ended or self.conversation.closing is not None

    @precondition(lambda self: self.greeted)
    @rule(epoch=st.integers(1, 4), until_ms=st.integers(0, 2_000))
    def authorise(self, epoch: int, until_ms: int) -> None:
        self.conversation.authorise(epoch, until_ms)

    @rule(now_ms=st.integers(0, 2_000))
    def tick(self, now_ms: int) -> None:
        due = now_ms >= self.conversation.deadline_ms
        self.conversation.tick(now_ms)
        assert not due or self.conversation.closing is not None

    @rule()
    def take(self) -> None:
        self.heard += self.conversation.take()

    @precondition(lambda self: self.conversation.closing is not None)
    @rule()
    def take_for_the_last_time(self) -> None:
        self.heard += self.conversation.take()
        self.after_closing += 1

    @invariant()
    def nothing_is_said_after_the_last_word(self) -> None:
        if self.after_closing:
            assert self.conversation.take() == []

    @invariant()
    def hello_is_first_and_said_once(self) -> None:
        types = [json.loads(message)["type"] for message in self.heard]
        assert types.count("hello") == (1 if types else 0)
        assert types[:1] in ([], ["hello"])

    @invariant()
    def the_first_close_stands(self) -> None:
        self.first_close = self.first_close or self.conversation.closing
        assert self.conversation.closing == self.first_close


TestConversation = ConversationMachine.TestCase
