"""Traces of executions: the rules and the model accept good ones, and reject bad ones at the same line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from interlock.spec.lifecycles import EXECUTION
from interlock.spec.model.trace import execution_numbers
from interlock.spec.model.trace.checker import Summary, check
from interlock.spec.model.trace.lines import Append, Recover, TraceFault, parse
from interlock.spec.model.trace.split import by_intent
from interlock.spec.model.trace.validation import OF_INTENTS, judge_intents, matcher, validate
from interlock.spec.properties import PROPERTIES
from tests.spec.test_traces import read

GOLDEN = {
    "intent": Summary(13, 1, 6, 1),
    "intent-child": Summary(17, 1, 8, 2),
    "intent-cancelled": Summary(13, 1, 6, 1),
    "intent-committed": Summary(12, 1, 5, 1),
    "intent-committed-after-the-end": Summary(13, 1, 6, 1),
    "intent-failed": Summary(15, 1, 7, 2),
    "intent-finishes": Summary(13, 1, 6, 1),
    "intent-interrupted": Summary(12, 1, 5, 1),
    "intent-killed-twice": Summary(14, 1, 7, 1),
    "intent-of-an-ended-session": Summary(7, 0, 4, 1),
    "intent-repeated": Summary(16, 1, 7, 1),
    "intent-whose-store-is-late": Summary(16, 1, 7, 1),
    "intent-waits-cancelled": Summary(11, 1, 5, 1),
}

BAD = (
    ("an-intent-accepted-twice", "accepted_once", 8),
    ("an-intent-accepted-as-two-executions", "accepted_once", 8),
    ("an-execution-with-two-outcomes", "one_outcome", 12),
    ("an-intent-accepted-after-the-end", "no_execution_after_fence", 8),
    ("an-intent-accepted-in-no-session", "no_execution_after_fence", 6),
    ("an-execution-started-after-the-end", "no_execution_after_fence", 10),
    ("a-success-after-the-end-that-cancels", "no_execution_after_fence", 11),
    ("an-old-session-starts-in-a-new-trace", "no_execution_after_fence", 3),
    ("an-intent-accepted-when-overdue", "authority_at_append", 6),
    ("an-intent-in-anothers-session", "authority_at_append", 6),
    ("a-start-in-anothers-name", "owner_only", 8),
    ("a-result-of-another-attempt", "owner_only", 10),
    ("a-result-of-another-node", "owner_only", 10),
    ("a-failure-of-an-attempt-that-never-began", "owner_only", 8),
    ("a-result-of-a-lost-attempt", "owner_only", 15),
    ("an-interrupt-of-what-runs", "owner_only", 10),
    ("an-interrupt-repeats-what-must-not-be", "declared_only", 10),
    ("an-interrupt-gives-up-what-may-be-repeated", "declared_only", 10),
    ("a-result-before-the-start", "declared_only", 8),
    ("an-execution-step-from-another-state", "declared_only", 10),
    ("a-cancel-before-the-recovery", "crashed_recovers", 8),
    ("a-start-before-the-recovery", "crashed_recovers", 8),
    ("an-accept-before-the-recovery", "crashed_recovers", 8),
    ("a-lost-attempt-is-left-running", "outcome_reaches_client", 10),
    ("an-execution-version-is-missing", "versions_gapless", 8),
    ("an-execution-decided-on-an-old-version", "no_lost_update", 8),
    ("an-execution-command-recorded-twice", "command_once", 8),
    ("an-execution-answered-before-it-was-durable", "acknowledged_logged", 8),
    ("an-execution-answered-ahead-of-the-log", "cache_is_fold", 7),
    ("an-execution-answered-with-what-is-old", "view_monotonic", 10),
    ("an-execution-record-late-in-its-life", "crashed_recovers", 9),
    ("an-execution-whose-clock-goes-back", "format", 8),
    ("data-that-no-execution-has", "format", 6),
    ("a-kind-nobody-knows", "format", 6),
)
"""File, property, line: the fault in each, and where it first shows."""

_BROKEN = [(name, line) for name, promise, line in BAD if promise != "format"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with matcher(OF_INTENTS) as made:
        yield made


@pytest.mark.parametrize(("name", "summary"), GOLDEN.items())
def test_the_rules_accept_a_correct_trace_of_an_execution(name: str, summary: Summary) -> None:
    assert check(read("executions/golden", name)) == summary


@pytest.mark.parametrize(("name", "promise", "line"), BAD, ids=[row[0] for row in BAD])
def test_an_executions_fault_is_named_where_it_first_shows(name: str, promise: str, line: int) -> None:
    (text,) = read("executions/bad", name).values()
    with pytest.raises(TraceFault) as found:
        check([text])
    assert (found.value.property, found.value.line) == (promise, line)
    assert len(text) == line, "the fault is the last line there"
    check([text[:-1]])


@pytest.mark.parametrize("name", GOLDEN)
def test_a_correct_trace_of_an_intent_is_an_execution_of_the_model(folder: Path, name: str) -> None:
    judgement = judge_intents(folder, by_intent(read("executions/golden", name)).items())
    assert judgement.asked == GOLDEN[name].executions
    assert not judgement.rejections
    assert not judgement.too_wide


@pytest.mark.parametrize(("name", "line"), _BROKEN)
def test_a_bad_trace_of_an_intent_stops_being_one_at_the_same_line(folder: Path, name: str, line: int) -> None:
    (text,) = read("executions/bad", name).values()
    rejections = judge_intents(folder, by_intent([text]).items()).rejections
    assert any(parse(text[line - 1]) in rejection.stuck for rejection in rejections)
    assert not judge_intents(folder, by_intent([text[:-1]]).items()).rejections


def test_every_execution_trace_file_is_in_a_table() -> None:
    for kind, names in (("golden", set(GOLDEN)), ("bad", {row[0] for row in BAD})):
        files = Path(__file__).parent.joinpath("traces", "executions", kind).iterdir()
        assert {path.stem for path in files} == names


def test_every_property_of_an_execution_trace_is_published() -> None:
    assert {row[1] for row in BAD} - {"format"} <= {promised.name for promised in PROPERTIES}


def test_the_golden_traces_record_every_transition_of_an_execution() -> None:
    """So that no declared step of an execution is one that the rules or the model have never accepted."""
    lines = [parse(line) for name in GOLDEN for text in read("executions/golden", name).values() for line in text]
    recorded = {
        (line.event, line.source, line.target)
        for line in lines
        if isinstance(line, Append) and line.kind == "execution"
    }
    assert recorded == {(row.event, row.source, row.target) for row in EXECUTION.transitions}


def test_bad_intents_among_good_ones_are_named(folder: Path) -> None:
    heap = [
        (f"{kind}/{name}", intent)
        for kind, names in (("bad", [name for name, _ in _BROKEN]), ("golden", GOLDEN))
        for name in names
        for intent in by_intent(read(f"executions/{kind}", name)).values()
    ]
    rejected = {rejection.name for rejection in judge_intents(folder, heap).rejections}
    assert rejected == {f"bad/{name}" for name, _ in _BROKEN}, "also those that are the same but for ids and times"


def test_checker_and_model_agree_about_executions() -> None:
    outcome = validate([(name, list(read("executions/golden", name).values())) for name in GOLDEN])
    assert outcome.faults == ()
    assert outcome.executions.asked == sum(summary.executions for summary in GOLDEN.values())
    assert outcome.executions.different > len(GOLDEN) / 2
    for name in ("an-execution-started-after-the-end", "an-interrupt-of-what-runs"):
        faults = validate([("log", list(read("executions/bad", name).values()))]).faults
        assert len(faults) == 2, "one of each"
        assert faults[1].startswith("log: execution e1: the model has no execution that goes on with append by node-1")


def test_more_attempts_than_the_model_counts_are_not_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_numbers, "_ATTEMPTS", 1)
    judgement = judge_intents(folder, by_intent(read("executions/golden", "intent-killed-twice")).items())
    assert (judgement.asked, len(judgement.too_wide)) == (1, 1)


def test_executions_of_several_nodes_are_not_asked_of_the_model() -> None:
    """The model of an execution has one server."""
    (text,) = read("executions/golden", "intent").values()
    other = msgspec.json.encode(Recover("node-2", "life-9", 0))
    outcome = validate([("log", [text, [other]])])
    assert (outcome.executions.asked, outcome.executions.too_wide) == (1, 1)
    assert len(outcome.faults) == 1, "the model was asked about no execution"
