"""The trace checker: real servers' traces are accepted, and each rule finds its own fault at the right line."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from interlock.machine.machines import MACHINES
from interlock.spec.lifecycles import EXECUTION, SESSION
from interlock.spec.model.trace.checker import Summary, check
from interlock.spec.model.trace.execution_rules import GUARDS as EXECUTION_GUARDS
from interlock.spec.model.trace.lines import EVENT_DATA, Append, InstanceKind, Recover, TraceFault, parse
from interlock.spec.model.trace.session_facts import FOLDS, GUARDS
from interlock.spec.model.trace.session_rules import Fold
from interlock.spec.model.trace.split import by_session
from interlock.spec.properties import PROPERTIES

_TRACES = Path(__file__).parent / "traces"

GOLDEN = {
    "life": Summary(19, 1, 7),
    "kill": Summary(23, 1, 9),
    "rename": Summary(15, 2, 7),
    "expiry": Summary(11, 1, 4),
    "repeat": Summary(8, 1, 3),
    "two-nodes": Summary(18, 1, 6),
    "two-nodes-restart": Summary(20, 1, 7),
    "two-nodes-end": Summary(12, 1, 4),
}

BAD = (
    ("a-version-is-missing", "versions_gapless", "node-1", 4),
    ("decided-on-an-old-version", "no_lost_update", "node-1", 4),
    ("a-record-after-the-end", "expired_absorbs", "node-1", 20),
    ("a-record-after-the-end-before-its-answer", "expired_absorbs", "node-1", 18),
    ("a-step-that-is-not-declared", "declared_only", "node-1", 4),
    ("an-event-that-is-not-declared", "declared_only", "node-1", 4),
    ("a-step-from-another-state", "declared_only", "node-1", 15),
    ("a-connect-over-the-limit", "declared_only", "node-1", 9),
    ("a-renewal-after-the-deadline", "declared_only", "node-1", 15),
    ("a-disconnect-of-nobody", "declared_only", "node-1", 13),
    ("an-expiry-before-the-deadline", "no_early_expiry", "node-1", 9),
    ("a-refresh-with-an-old-token", "rotation", "node-1", 15),
    ("a-command-recorded-twice", "command_once", "node-1", 9),
    ("a-connect-before-the-login", "authentication_first", "node-1", 4),
    ("authenticated-with-a-connection", "owner_coherence", "node-1", 13),
    ("a-connect-in-anothers-name", "single_owner", "node-1", 6),
    ("a-connection-that-connects-twice", "single_owner", "node-1", 9),
    ("a-socket-that-opens-twice", "single_owner", "node-1", 9),
    ("a-disconnect-of-an-open-socket", "open_guard", "node-1", 12),
    ("a-connect-before-the-recovery", "crashed_recovers", "node-1", 17),
    ("a-strangers-disconnect-before-the-recovery", "crashed_recovers", "node-1", 13),
    ("recovered-twice", "crashed_recovers", "node-1", 18),
    ("an-orphan-is-left", "orphan_reaped", "node-1", 15),
    ("answered-before-it-was-durable", "acknowledged_logged", "node-1", 4),
    ("answered-as-another-version", "acknowledged_logged", "node-1", 7),
    ("answered-for-a-session-nobody-knows", "acknowledged_logged", "node-1", 3),
    ("answered-after-the-end-what-never-was", "acknowledged_logged", "node-1", 20),
    ("an-answer-ahead-of-the-log", "cache_is_fold", "node-1", 7),
    ("an-answer-behind-its-own-record", "cache_is_fold", "node-1", 7),
    ("an-answer-older-than-the-one-before", "view_monotonic", "node-1", 8),
    ("a-new-life-that-tells-what-is-old", "view_monotonic", "node-1", 18),
    ("a-revocation-answered-with-a-socket-open", "revocation_fence", "node-1", 18),
    ("a-socket-of-nobody-opens", "open_guard", "node-1", 8),
    ("a-socket-opens-on-an-ended-session", "open_guard", "node-1", 14),
    ("a-socket-opens-after-the-end-was-answered", "open_guard", "node-1", 16),
    ("a-socket-opens-ahead-of-the-log", "cache_is_fold", "node-1", 8),
    ("a-socket-opens-on-an-old-view", "view_monotonic", "node-1", 11),
    ("a-socket-closes-that-was-not-open", "open_guard", "node-1", 17),
    ("a-socket-is-dropped-twice", "open_guard", "node-1", 13),
    ("a-socket-closes-after-the-end-was-answered", "open_guard", "node-1", 20),
    ("a-drop-ahead-of-the-log", "cache_is_fold", "node-1", 12),
    ("a-socket-of-the-life-before-is-dropped", "open_guard", "node-1", 18),
    ("a-line-that-was-cut", "format", "node-1", 5),
    ("a-type-nobody-knows", "format", "node-1", 5),
    ("a-line-of-the-older-format", "format", "node-1", 5),
    ("a-field-that-is-missing", "format", "node-1", 5),
    ("data-of-another-event", "format", "node-1", 4),
    ("a-late-record-in-the-middle-of-a-life", "crashed_recovers", "node-1", 15),
    ("a-late-record-after-one-of-its-own-life", "crashed_recovers", "node-1", 15),
    ("a-socket-opens-before-the-recovery", "crashed_recovers", "node-1", 13),
    ("a-socket-closes-before-the-recovery", "crashed_recovers", "node-1", 13),
    ("a-socket-is-dropped-before-the-recovery", "crashed_recovers", "node-1", 13),
    ("a-life-that-comes-back", "crashed_recovers", "node-1", 18),
    ("a-connection-that-connects-again", "single_owner", "node-1", 15),
    ("a-socket-that-opens-again", "single_owner", "node-1", 13),
    ("a-position-that-does-not-rise", "format", "node-1", 15),
    ("a-recovery-behind-its-own-records", "format", "node-1", 17),
    ("a-node-that-changes-its-name", "format", "node-1", 7),
    ("a-clock-that-goes-back", "format", "node-1", 15),
    ("two-nodes-decide-on-one-version", "versions_gapless", "node-2", 2),
    ("a-node-waits-for-a-record-that-never-comes", "acknowledged_logged", "node-2", 3),
    ("a-socket-opens-on-another-node", "open_guard", "node-2", 2),
)
"""File, property, node, line: the fault in each, and where it first shows."""


def read(folder: str, name: str) -> dict[str, list[str]]:
    """Read the lines of the trace, or of the traces by node, called ``name``."""
    found = sorted((_TRACES / folder).glob(f"{name}.*jsonl"))
    return {path.suffixes[0].strip(".").replace("jsonl", "node-1"): path.read_text().splitlines() for path in found}


@pytest.mark.parametrize(("name", "summary"), GOLDEN.items())
def test_the_checker_accepts_a_correct_servers_trace(name: str, summary: Summary) -> None:
    traces = read("golden", name)
    assert check(traces) == summary
    assert check(list(traces.values())[::-1]) == summary, "in any order of the nodes"


@pytest.mark.parametrize(("name", "promise", "node", "line"), BAD, ids=[row[0] for row in BAD])
def test_the_checker_names_a_fault_at_the_line_where_it_first_shows(
    name: str, promise: str, node: str, line: int
) -> None:
    traces = read("bad", name)
    with pytest.raises(TraceFault) as found:
        check(traces)
    fault = found.value
    assert (fault.property, fault.node, fault.line) == (promise, node, line)
    assert str(fault) == f"line {line} of {node}: {promise}: {fault.sentence}"
    assert len(traces[node]) == line, "the fault is the last line there"
    traces[node].pop()
    check(traces)


def test_every_trace_file_is_in_a_table() -> None:
    for folder, names in (("golden", set(GOLDEN)), ("bad", {row[0] for row in BAD})):
        assert {path.name.partition(".")[0] for path in (_TRACES / folder).iterdir()} == names


def test_every_trace_rules_property_is_published() -> None:
    assert {row[1] for row in BAD} - {"format"} <= {promised.name for promised in PROPERTIES}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "answered-before-it-was-durable",
            "node-1 acknowledged command c2 as version 2 of session s1, but the log holds only 1 version",
        ),
        (
            "a-revocation-answered-with-a-socket-open",
            "node-1 acknowledged command c7, whose answer says that session s1 has ended, while it holds socket w1 open",
        ),
        (
            "an-orphan-is-left",
            "node-1 has recovered, but session s1 still holds connection w2 of it",
        ),
        (
            "a-node-that-changes-its-name",
            "the line is of node-9, in life life-1 of node-1",
        ),
        (
            "a-life-that-comes-back",
            "life life-1 of node-1 goes on after another one has begun",
        ),
        (
            "a-line-of-the-older-format",
            "the trace has an older format, in which lines began with their kind: name a new file",
        ),
        (
            "an-expiry-before-the-deadline",
            "expire was recorded at 1400, but the guard not alive does not hold",
        ),
    ],
)
def test_a_trace_fault_is_told_in_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(TraceFault) as found:
        check(read("bad", name))
    assert found.value.sentence == sentence


@pytest.mark.parametrize("text", ["", "no JSON", "[]", b"\xff", '{"kind": "recover"}', "[" * 100_000])
def test_an_invalid_trace_line_is_a_format_fault(text: str | bytes) -> None:
    with pytest.raises(TraceFault) as found:
        parse(text, 7, "node-3")
    assert (found.value.line, found.value.node, found.value.property) == (7, "node-3", "format")


def test_no_trace_and_an_empty_one_are_accepted() -> None:
    assert check([]) == check([[]]) == check({"node-1": [], "node-2": []}) == Summary(0, 0, 0)


def test_checker_and_machine_agree_on_every_events_data() -> None:
    assert EVENT_DATA.keys() == set(get_args(InstanceKind))
    for kind, events in EVENT_DATA.items():
        machine = MACHINES.get(kind)
        assert machine is not None
        assert events.keys() == machine.data.keys()
        for event, data_type in machine.data.items():
            assert events[event].__struct_fields__ == data_type.__struct_fields__


def test_the_checker_evaluates_every_declared_guard() -> None:
    assert GUARDS.keys() == {guard.name for guard in SESSION.guards}
    assert EXECUTION_GUARDS.keys() == {guard.name for guard in EXECUTION.guards}


def test_a_trace_is_split_into_sessions() -> None:
    lines = read("golden", "kill")["node-1"]
    other = [line.replace('"s1"', '"s2"').replace('"node-1"', '"node-2"') for line in lines[1:3]]
    ended = [line.replace('"s1"', '"s3"') for line in read("golden", "life")["node-1"][1:]]
    found = by_session({"node-1": lines[:1] + ended + lines[1:], "node-2": other})
    assert [line.type for line in found["s1"][0]].count("recover") == 1, "the first came before the session"
    assert [msgspec.json.decode(line) for line in lines[1:]] == [msgspec.to_builtins(line) for line in found["s1"][0]]
    assert found["s1"][1] == found["s2"][0] == []
    assert [type(line) for line in found["s2"][1]] == [Append, Append]
    assert not any(isinstance(line, Recover) for line in found["s3"][0]), "it had ended"
    assert {line.life for line in found["s1"][0]} == {"life-1", "life-2"}


def test_an_unheld_token_stays_refused_even_after_it_is_forgotten() -> None:
    fold = Fold("s", 1)
    policy = {"idle_timeout_ms": 1_000, "absolute_timeout_ms": 100_000, "refresh_grace_ms": 10}
    FOLDS["create"](fold, {"policy": policy}, 0)
    for rotation in range(200):
        at_ms = 100 * (rotation + 1)
        data = {"epoch": 0, "rotation": rotation}
        assert GUARDS["rotation_honoured"](fold, data, at_ms)
        FOLDS["refresh"](fold, data, at_ms)
        assert not any(
            GUARDS["rotation_honoured"](fold, {"epoch": 0, "rotation": old}, at_ms + 50) for old in range(rotation)
        )
    assert len(fold.issued) < 100
