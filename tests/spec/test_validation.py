"""Traces against the model: it accepts good ones, and rejects bad ones at the same line as the rules do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from interlock.spec.model.spin import SearchFailed
from interlock.spec.model.trace import validation
from interlock.spec.model.trace.checker import check
from interlock.spec.model.trace.lines import Ack, AnyLine, Append, Close, Drop, Open, Recover, TraceFault, parse
from interlock.spec.model.trace.numbers import TooWide
from interlock.spec.model.trace.session_numbers import COMMANDS, TABS, abstract
from interlock.spec.model.trace.split import by_session
from interlock.spec.model.trace.validation import judge, matcher, validate
from tests.spec.test_traces import BAD, GOLDEN, read

_POLICY = {"idle_timeout_ms": 60_000, "absolute_timeout_ms": 600_000, "connection_limit": 99, "refresh_grace_ms": 0}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with matcher() as made:
        yield made


@pytest.mark.parametrize("name", GOLDEN)
def test_a_correct_servers_trace_is_an_execution_of_the_model(folder: Path, name: str) -> None:
    judgement = judge(folder, by_session(read("golden", name)).items())
    assert judgement.asked == GOLDEN[name].sessions
    assert not judgement.rejections
    assert not judgement.too_wide


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, promise, _, line in BAD if promise != "format"])
def test_a_bad_trace_stops_being_an_execution_at_the_same_line(folder: Path, name: str, line: int) -> None:
    texts = read("bad", name)
    judgement = judge(folder, by_session(texts).items())
    assert judgement.rejections
    assert any(
        parse(text[line - 1]) in rejection.stuck
        for rejection in judgement.rejections
        for text in texts.values()
        if len(text) >= line
    )


def test_identical_sessions_are_checked_once(folder: Path) -> None:
    sessions = by_session(read("golden", "life"))
    ((session_id, lines),) = sessions.items()
    judgement = judge(folder, [(f"{session_id}-{number}", lines) for number in range(50)])
    assert (judgement.asked, judgement.different) == (50, 1)


def test_every_bad_session_among_many_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even across several runs of the matcher, with good sessions between."""
    monkeypatch.setattr(validation, "_LINES_AT_ONCE", 60)
    bad = [name for name, promise, _, _ in BAD if promise not in {"format", "crashed_recovers"}]
    heap = [
        (f"{kind}/{name}", session)
        for kind, name in itertools.chain((("bad", name) for name in bad), (("golden", name) for name in GOLDEN))
        for session in by_session(read(kind, name)).values()
    ]
    rejected = {rejection.name for rejection in judge(folder, heap).rejections}
    alone = {name for name, session in heap if judge(folder, [(name, session)]).rejections}
    assert {name.partition("/")[0] for name in rejected} == {"bad"}
    assert rejected == alone


class Told:
    """Generates lines of one session on one node."""

    def __init__(self) -> None:
        self.lines: list[AnyLine] = []
        self.version = 0
        self.append("create", None, "created", {"policy": _POLICY})
        self.append("authenticate", "created", "authenticated", {"subject": "ada", "method": "password"})

    def append(self, event: str, source: str | None, target: str, data: dict[str, object], command: str = "") -> None:
        self.version += 1
        self.lines.append(
            Append(
                node="node-1",
                life="l1",
                kind="session",
                instance="s",
                command=command or f"c{self.version}",
                version=self.version,
                view=self.version - 1,
                position=self.version,
                event=event,
                source=source,
                target=target,
                at_ms=1,
                data=data,
            )
        )

    def connect(self, name: str, *, first: bool) -> None:
        self.append(
            "connect", "authenticated" if first else "connected", "connected", {"connection_id": name, "node": "node-1"}
        )
        self.lines.append(Open("node-1", "l1", "s", name, self.version))

    def disconnect(self, name: str, *, last: bool) -> None:
        self.lines.append(Drop("node-1", "l1", "s", name, self.version))
        target = "authenticated" if last else "connected"
        self.append("disconnect", "connected", target, {"connection_id": name, "code": 1000})


def test_a_long_session_fits_the_model_if_little_is_open_at_a_time(folder: Path) -> None:
    told = Told()
    for number in range(3 * max(TABS, COMMANDS)):
        told.connect(f"con-{number}", first=True)
        told.disconnect(f"con-{number}", last=True)
    judgement = judge(folder, [("s", [told.lines])])
    assert not judgement.rejections
    assert not judgement.too_wide


def test_a_session_too_wide_for_the_model_is_reported(folder: Path) -> None:
    told = Told()
    for number in range(TABS + 1):
        told.connect(f"con-{number}", first=number == 0)
    with pytest.raises(TooWide):
        abstract([told.lines])
    assert judge(folder, [("s", [told.lines])]).too_wide == ("s",)
    narrow = Told()
    assert judge(folder, [("s", [narrow.lines, [], []])]).too_wide == ("s",)  # three nodes


def test_a_validation_that_never_runs_the_model_fails() -> None:
    (text,) = read("golden", "life").values()
    faults = validate([("three nodes", [text, [], []])]).faults
    assert len(faults) == 1


def test_model_numbers_are_reused_only_when_no_longer_needed() -> None:
    """A connection that never closes keeps its number; a command keeps its own until its last answer."""
    told = Told()
    told.connect("held", first=True)
    told.connect("second", first=False)
    told.disconnect("second", last=False)
    told.connect("third", first=False)
    told.lines.append(Close("node-1", "l1", "s", "held", told.version, 4403))
    told.lines.append(Ack("node-1", "l1", "session", "s", "c1", 1, told.version))
    lines = abstract([told.lines]).nodes[0]
    assert [line.tab for line in lines if line.kind == 5] == [0, 1, 1]
    create, *_, ack = lines[1:]
    assert (create.command, create.first) == (ack.command, True)
    assert not ack.first


def test_many_logs_are_validated_by_checker_and_model() -> None:
    logs = [(name, list(read("golden", name).values())) for name in GOLDEN]
    outcome = validate(logs)
    assert outcome.faults == ()
    assert (outcome.traces, outcome.sessions.asked) == (11, sum(summary.sessions for summary in GOLDEN.values()))
    assert outcome.lines == sum(summary.lines for summary in GOLDEN.values())


@pytest.mark.parametrize(
    ("name", "promise"), [("an-orphan-is-left", "orphan_reaped"), ("a-line-that-was-cut", "format")]
)
def test_a_bad_trace_is_named_by_checker_and_model(name: str, promise: str) -> None:
    faults = validate([("log", list(read("bad", name).values()))]).faults
    assert f": {promise}: " in faults[0]
    assert len(faults) == (1 if promise == "format" else 2)
    assert promise == "format" or faults[1].endswith(f"that goes on with recover by node-1: {promise}")


def test_disagreement_of_checker_and_model_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = list(read("golden", "life").values()), list(read("bad", "an-orphan-is-left").values())

    def accepts(_traces: object) -> None:
        """Return no faults."""

    monkeypatch.setattr(validation, "check", accepts)
    (_, differs) = validate([("log", bad)]).faults
    assert differs.startswith("log: ")

    def rejects(_traces: object) -> None:
        raise TraceFault(1, "node-1", "declared_only", "No.")

    monkeypatch.setattr(validation, "check", rejects)
    (_, differs) = validate([("log", good)]).faults
    assert differs.startswith("log: ")


def test_a_matcher_without_an_answer_is_not_acceptance(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pan").write_text("#!/bin/sh\necho pan: out of memory\n")
    (tmp_path / "pan").chmod(0o700)
    with pytest.raises(SearchFailed, match="pan: out of memory"):
        judge(tmp_path, by_session(read("golden", "life")).items())
    assert (folder / "pan").exists()


def test_checker_and_model_skip_the_same_lines() -> None:
    """Only the sessions concerned see a recovery: by_session and the model's start of a run agree on which."""
    (lines,) = next(iter(by_session(read("golden", "kill")).values()))
    kinds = [line.kind for line in abstract([lines]).nodes[0]]
    assert kinds.count(1) == len({line.life for line in lines})
    assert kinds.count(2) == sum(isinstance(line, Recover) for line in lines)
    assert check(read("golden", "kill")) == GOLDEN["kill"]
    assert msgspec.json.encode(lines[0])
