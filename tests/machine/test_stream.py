"""A session's stream: every message once and in order, or an honest gap, for any readers in any order."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import Raw

from interlock.machine.ledger import Receipt, parse
from interlock.machine.machines import MACHINES
from interlock.machine.session.conversation import Conversation
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.messages import AcceptedMessage, Limits, OutcomeMessage
from interlock.machine.session.stream import Stream, StreamLimits
from tests.machine.samples import CREATE, LOGIN, OPEN, Step, history, rows_of

_RECEIPT: Final = Receipt(9, "d" * 64)
_NAMES: Final = ("a", "b", "c")
_LIMITS: Final = StreamLimits(messages=6, bytes=1_000, age_ms=1_000, frame_bytes=20)
_STEPS: Final[list[Step]] = [(CREATE, 0), (LOGIN, 0), (OPEN, 0)]
_CONNECT: Final = parse(rows_of(history("s", _STEPS))[-1], MACHINES)


def _stream(**limits: int) -> Stream:
    return Stream("e", msgspec.structs.replace(_LIMITS, **limits))


def _accepted(name: str) -> AcceptedMessage:
    return AcceptedMessage(f"intent of {name}", name, _RECEIPT)


def _outcome(name: str) -> OutcomeMessage:
    return OutcomeMessage(name, f"intent of {name}", "succeeded", _RECEIPT, result=Raw(b"1"))


def _read(stream: Stream, offset: int = 0) -> list[dict[str, Any]]:
    return [json.loads(text) for text in stream.after(offset, 1_000_000)]


def test_values_of_two_attempts_are_in_messages_of_their_own() -> None:
    stream = _stream()
    stream.collect("a", "i", 1, b"1", 0)
    stream.collect("a", "i", 2, b"2", 0)
    stream.flush(0)
    assert [(each["attempt"], each["data"]) for each in _read(stream)] == [(1, [1]), (2, [2])]


def test_values_of_a_tick_are_one_message_for_each_execution() -> None:
    stream = _stream()
    for value in (b"1", b'"two"', b"null"):
        stream.collect("a", "i", 1, value, 0)
    stream.collect("b", "j", 1, b"4", 0)
    assert _read(stream) == []
    assert stream.collecting
    stream.flush(50)
    assert [(each["execution_id"], each["data"]) for each in _read(stream)] == [("a", [1, "two", None]), ("b", [4])]
    assert not stream.collecting


def test_many_values_in_a_tick_are_cut_into_messages() -> None:
    stream = _stream()
    for n in range(5):
        stream.collect("a", "i", 1, b'"123456"', n)
    stream.flush(5)
    assert [len(each["data"]) for each in _read(stream)] == [2, 2, 1]


def test_a_value_larger_than_a_message_collects_has_its_own() -> None:
    stream = _stream()
    large = json.dumps("x" * 100).encode()
    for value in (b"1", large, b"2"):
        stream.collect("a", "i", 1, value, 0)
    stream.flush(0)
    assert [each["data"] for each in _read(stream)] == [[1], ["x" * 100], [2]]


def test_the_outcome_comes_after_all_that_was_emitted_and_is_last() -> None:
    stream = _stream()
    stream.collect("a", "i", 1, b"1", 0)
    stream.end(_outcome("a"), 1)
    stream.collect("a", "i", 1, b"2", 2)
    stream.flush(3)
    assert [each["type"] for each in _read(stream)] == ["progress", "outcome"]


def test_an_outcome_told_again_still_ends_the_progress() -> None:
    stream = _stream(messages=2)
    stream.end(_outcome("a"), 0)
    stream.accept(_accepted("a"), 1)
    stream.end(_outcome("a"), 2)
    stream.collect("a", "i", 1, b"2", 3)
    stream.flush(4)
    assert [each["type"] for each in _read(stream, stream.start)] == ["accepted", "outcome"]


@pytest.mark.parametrize(
    "limits", [{"messages": 3}, {"bytes": 700}, {"age_ms": 30}], ids=lambda limits: next(iter(limits))
)
def test_only_the_newest_messages_are_kept(limits: dict[str, int]) -> None:
    stream = _stream(**limits)
    for n in range(6):
        stream.accept(_accepted(f"execution number {n}"), n * 10)
    assert (stream.start, stream.offset) == (3, 6)
    assert [each["offset"] for each in _read(stream, 3)] == [4, 5, 6]


def test_the_newest_message_is_kept_however_large() -> None:
    stream = _stream(bytes=10)
    stream.accept(_accepted("a"), 0)
    stream.accept(_accepted("b"), 0)
    assert [each["execution_id"] for each in _read(stream, stream.start)] == ["b"]


def test_a_part_of_the_stream_is_read_at_a_time() -> None:
    stream = _stream()
    for name in "abc":
        stream.accept(_accepted(name), 0)
    one = len(stream.after(0, 1)[0])
    assert [len(stream.after(0, size)) for size in (1, one, 2 * one - 1, 2 * one, 10 * one)] == [1, 1, 1, 2, 3]


def test_forgotten_messages_leave_no_memory_in_use() -> None:
    stream = _stream()
    stream.accept(_accepted("a"), 0)
    stream.end(_outcome("a"), 10)
    stream.forget(1_009)
    assert stream.start == 1
    stream.forget(1_010)
    assert (stream.start, stream.offset, stream.size) == (2, 2, 0)


class _Reader:
    """A client that keeps to the protocol, over any number of connections. It checks what it hears of the stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.heard: dict[int, Any] = {}
        self.epoch, self.offset = "", 0
        self.connect(resume=False)

    def connect(self, *, resume: bool) -> None:
        """Drop the connection, and open the next one."""
        self.conversation = Conversation(
            "tab",
            SESSION_MACHINE.replay("s", history("s", _STEPS[:-1])),
            authorised_until_ms=10_000_000,
            outbox_limit=50,
            ping_interval_ms=1,
            limits=Limits(1, 1),
            open_stream=lambda: self.stream,
        )
        self.conversation.observe(_CONNECT)
        hello = json.loads(self.conversation.take()[0])
        self.awaits_answer = resume
        if not resume:
            # Only what follows its hello is meant for it.
            self.epoch, self.offset = hello["stream"]["epoch"], hello["stream"]["offset"]

    def ask(self) -> None:
        """Send the ``resume``, if the connection was opened for one and has not had its answer."""
        if self.awaits_answer:
            message = {"type": "resume", "epoch": self.epoch, "offset": self.offset}
            self.conversation.receive_text(json.dumps(message))
            self.read(everything=True)
            assert not self.awaits_answer

    def read(self, *, everything: bool) -> None:
        """Take one part of what waits, or all of it."""
        while texts := self.conversation.take():
            for text in texts:
                self._hear(json.loads(text))
            if not everything:
                break

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "resumed":
            assert (message["epoch"], message["offset"]) == (self.epoch, self.offset)
            self.awaits_answer = False
        elif message["type"] == "gap":
            assert (message["epoch"], message["offset"]) != (self.epoch, self.offset), "nothing was lost"
            self.epoch, self.offset = message["epoch"], message["offset"]
            self.awaits_answer = False
        elif not self.awaits_answer:
            assert message["offset"] == self.offset + 1
            self.offset += 1
            self.heard[self.offset] = message


class StreamMachine(RuleBasedStateMachine):
    """Executions that emit and end, and clients that come, read, break and resume, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.stream = Stream("e", _LIMITS)
        self.emitted: dict[str, list[int]] = {name: [] for name in _NAMES}
        self.told: dict[str, list[int]] = {name: [] for name in _NAMES}
        self.ended: set[str] = set()
        self.values = 0
        self.appended: dict[int, Any] = {}
        self.readers = [_Reader(self.stream), _Reader(self.stream)]

    @rule(passed_ms=st.sampled_from([1, 400, 1_100]))
    def time_passes(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self.stream.forget(self.now_ms)
        for reader in self.readers:
            reader.conversation.tick(self.now_ms)

    @rule(name=st.sampled_from(_NAMES))
    def accept(self, name: str) -> None:
        self.stream.accept(_accepted(name), self.now_ms)

    @rule(name=st.sampled_from(_NAMES), digits=st.integers(1, 30))
    def emit(self, name: str, digits: int) -> None:
        if name in self.ended:
            return
        self.values += 1
        value = self.values + 10**digits
        self.emitted[name].append(value)
        self.stream.collect(name, "i", 1, str(value).encode(), self.now_ms)

    @rule(name=st.sampled_from(_NAMES))
    def end(self, name: str) -> None:
        self.ended.add(name)
        self.stream.end(_outcome(name), self.now_ms)
        self.stream.collect(name, "i", 1, b"0", self.now_ms)

    @rule()
    def flush(self) -> None:
        self.stream.flush(self.now_ms)

    @rule(which=st.integers(0, 1), everything=st.booleans())
    def read(self, which: int, *, everything: bool) -> None:
        self.readers[which].read(everything=everything)

    @rule(which=st.integers(0, 1), resume=st.booleans(), at_once=st.booleans())
    def reconnect(self, which: int, *, resume: bool, at_once: bool) -> None:
        self.readers[which].connect(resume=resume)
        if at_once:
            self.readers[which].ask()

    @rule(which=st.integers(0, 1))
    def resume_late(self, which: int) -> None:
        self.readers[which].ask()

    @invariant()
    def each_step_appends_the_next_messages(self) -> None:
        for text in self.stream.after(max(len(self.appended), self.stream.start), 1_000_000):
            message = json.loads(text)
            assert message["offset"] == len(self.appended) + 1, "a step appends fewer messages than are kept"
            self.appended[message["offset"]] = message
            if message["type"] == "progress":
                self.told[message["execution_id"]] += message["data"]
        for name, told in self.told.items():
            assert told == self.emitted[name][: len(told)]
            assert name not in self.ended or told == self.emitted[name], "an outcome comes after all that was emitted"

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        kept = self.stream.after(self.stream.start, 1_000_000)
        assert len(kept) <= _LIMITS.messages
        assert len(kept) <= 1 or sum(map(len, kept)) <= _LIMITS.bytes

    def teardown(self) -> None:
        self.stream.flush(self.now_ms)
        self.each_step_appends_the_next_messages()
        for reader in self.readers:
            reader.ask()
            reader.conversation.tick(self.now_ms + 10_000)
            reader.read(everything=True)
            assert reader.offset == self.stream.offset, "every client catches up"
            assert reader.heard.items() <= self.appended.items()


TestStream = pytest.mark.checks("outcome_reaches_client")(StreamMachine.TestCase)
