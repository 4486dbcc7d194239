"""The model and its runner: it matches the declaration, its bugs are caught and explained, and no search ends unnoticed."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import msgspec
import pytest

from interlock.spec.export import LIFECYCLES
from interlock.spec.lifecycles import SESSION
from interlock.spec.model import spin
from interlock.spec.model.bounds import GROUPS, described
from interlock.spec.model.checks import CHECKS
from interlock.spec.model.mutants.programs import Mutant, mutated, program
from interlock.spec.model.mutants.seeded import MUTANTS
from interlock.spec.model.spin import MODEL, Program, SearchFailed, SearchResult, SpinMissing, relation, require, verify
from interlock.spec.model.story import describe
from interlock.spec.model.workbench import catch_all, check_all
from interlock.spec.promela import promela
from interlock.spec.properties import PROPERTIES
from interlock.spec.transitions import Lifecycle

_TINY = {"DECISIONS": 2, "CRASHES": 0, "DROPS": 0, "RECORDS": 2, "ROTATIONS": 2, "EPOCHS": 1}


def find(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def ask(tmp_path: Path, lifecycle: Lifecycle) -> list[int]:
    """Return the value of ``NEXT`` in Promela, for every state, event and value of each guard."""
    guards = [guard.name for guard in lifecycle.guards]
    cases = "\n".join(
        f'  printf("= %d\\n", NEXT({", ".join(map(str, (state, event, *facts)))}));'
        for state, event, *facts in product(
            range(len(lifecycle.states) + 1), range(1, len(lifecycle.events) + 1), *[(0, 1)] * len(guards)
        )
    )
    (tmp_path / "ask.pml").write_text(f"{promela(lifecycle)}\ninit {{ d_step {{\n{cases}\n}} }}\n")
    command = shutil.which("spin")
    assert command
    said = subprocess.run([command, "-T", "ask.pml"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    return [int(number) for number in re.findall(r"= (\d+)", said)]


@pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda lifecycle: lifecycle.name)
def test_the_promela_relation_is_the_declared_one(tmp_path: Path, lifecycle: Lifecycle) -> None:
    """For every state, event and combination of guards, against the rows read one by one."""
    guards = [guard.name for guard in lifecycle.guards]
    names = [None, *(state.name for state in lifecycle.states)]
    events = [event.name for event in lifecycle.events]
    expected = []
    for state, event, *facts in product(names, events, *[(False, True)] * len(guards)):
        holds = dict(zip(guards, facts, strict=True))
        rows = [row for row in lifecycle.transitions if (row.source, row.event) == (state, event)]
        target = next((r.target for r in rows if all(holds[g.name] is g.expected for g in r.guards)), None)
        expected.append(names.index(target))
    assert ask(tmp_path, lifecycle) == expected


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.edits], ids=lambda mutant: mutant.name)
def test_a_declaration_mutant_changes_the_declaration(mutant: Mutant) -> None:
    changed = mutated(mutant)
    (declared,) = [lifecycle for lifecycle in LIFECYCLES if lifecycle.name == changed.name]
    assert changed.transitions != declared.transitions
    assert [*program(mutant)[1].files.values()] == [promela(changed)]


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if not m.edits], ids=lambda mutant: mutant.name)
def test_a_model_mutant_is_a_switch_in_the_model(mutant: Mutant) -> None:
    assert any(f"MUTANT_{mutant.name}\n" in path.read_text() for path in MODEL.glob("*.pml"))
    assert f"MUTANT_{mutant.name}" in program(mutant)[1].defines


def test_every_switch_in_the_model_is_a_mutant() -> None:
    switches = {name for path in MODEL.glob("*.pml") for name in re.findall(r"MUTANT_(\w+)", path.read_text())}
    assert switches - {""} == {mutant.name for mutant in MUTANTS if not mutant.edits}


def test_an_edit_of_a_missing_declaration_part_is_an_error() -> None:
    stale = Mutant("stale", "A bug.", "lifecycle", "declared_only", (("no such text", ""),))
    with pytest.raises(ValueError, match=r"stale: 'no such text'"):
        program(stale)


def test_every_bound_has_a_reason_and_the_deeper_is_deeper() -> None:
    bounds = [bound for group in GROUPS.values() for bound in group]
    assert all(bound.reason.endswith(".") and bound.deep >= bound.quick for bound in bounds)
    assert all(check.bounds in GROUPS.values() for check in CHECKS)
    assert "rotation: TABS 3, ROTATIONS 5, EPOCHS 0\n" in described(deep=False)
    assert "rotation: TABS 3, ROTATIONS 6, EPOCHS 0\n" in described(deep=True)


def test_every_step_of_the_model_has_a_sentence() -> None:
    told = {
        name
        for path in MODEL.glob("*.pml")
        if path.name != "promises.pml"
        for name in re.findall(r"TELL\d\((\w+),", path.read_text())
    }
    words = {2: "0 1", 4: "0 1 2 3", 6: "0 4 1 3 2 1"}
    for path in MODEL.glob("*.pml"):
        for count, name in re.findall(r"TELL(\d)\((\w+),", path.read_text()):
            if name in told:
                (sentence,) = describe([f"{name} {words[int(count)]}"])
                assert sentence.endswith((".", ",")), sentence
    assert len(told) > 25


def test_a_counterexample_ends_with_the_first_broken_promise() -> None:
    story = describe(["decide_ 0 4 0 3 2 1", "broken open_guard", "broken declared_only"])
    assert story[0].startswith("node-1, seeing version 2, decides connect of connection 1 ")
    assert len(story) == 2
    assert "open_guard: " in story[1]


def test_a_liveness_counterexample_ends_in_its_cycle() -> None:
    resting = describe(["crash_ 0 0", "<<<<<START OF CYCLE>>>>>"], "crashed_recovers")
    assert len(resting) == 3
    assert "crashed_recovers: " in resting[2]
    busy = describe(["<<<<<START OF CYCLE>>>>>", "close_ 1 3"], "expired_closes")
    assert busy[1] == "node-2 closes the socket of connections 1 and 2."
    assert busy[0] != resting[1]
    assert len(set(describe(["tick_ 1 0", "tick_ 0 0"]))) == 2


def tiny(name: str) -> tuple[str, ...]:
    check = next(check for check in CHECKS if check.name == name)
    bounds = tuple(msgspec.structs.replace(bound, quick=_TINY.get(bound.name, bound.quick)) for bound in check.bounds)
    return tuple(msgspec.structs.replace(check, bounds=bounds).defines(deep=False))


def test_a_search_counts_its_states() -> None:
    seen: list[int] = []
    outcome = verify(Program("lifecycle.pml", tiny("lifecycle")), timeout_s=60, progress=seen.append)
    assert outcome.states > 1000
    assert outcome.transitions > outcome.states
    assert not outcome.broken
    assert "crash_" in outcome.untold  # so small a world has none
    assert "append_" not in outcome.untold


def test_a_long_search_reports_progress() -> None:
    seen: list[int] = []
    check = next(check for check in CHECKS if check.name == "orphan_reaped")
    program_ = Program("lifecycle.pml", ("DECISIONS=5", *check.defines(deep=False)[1:]), check.claim)
    verify(program_, timeout_s=120, progress=seen.append)
    assert seen
    assert seen == sorted(seen)


def test_a_search_that_times_out_is_no_result() -> None:
    defines = ("DECISIONS=9", *tiny("lifecycle")[1:])
    with pytest.raises(SearchFailed):
        verify(Program("lifecycle.pml", defines), timeout_s=0.2)


def test_an_invalid_model_is_an_error() -> None:
    with pytest.raises(SearchFailed, match="syntax error"):
        verify(Program("lifecycle.pml", tiny("lifecycle"), files={relation(SESSION): "init init"}), timeout_s=60)


def test_a_search_without_spin_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SpinMissing, match="apt-get install spin gcc"):
        require()


def test_a_failing_check_gives_the_shortest_counterexample(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the declaration had been edited: anonymous sessions may connect."""
    changed = promela(mutated(find("connect_from_created")))
    real = verify

    def with_the_edit(program_: Program, **arguments: object) -> object:
        return real(msgspec.structs.replace(program_, files={relation(SESSION): changed}), **arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("interlock.spec.model.workbench.verify", with_the_edit)
    (result,) = check_all(deep=False, jobs=1, only=["lifecycle"])
    assert not result.good
    assert "authentication_first: " in result.story[-1]
    assert any("connect of connection 1" in sentence for sentence in result.story)
    assert len(result.story) < 12


def test_a_check_that_never_tries_an_event_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [*tiny("lifecycle"), "UNUSED"]
    monkeypatch.setattr(
        "interlock.spec.model.checks.Check.defines", lambda _self, *, deep: small[: -1 if deep else None]
    )
    (result,) = check_all(deep=False, jobs=1, only=["lifecycle"])
    assert not result.good
    assert "never reached: " in result.trouble
    assert "crash_" in result.trouble


@pytest.mark.parametrize(
    ("check", "lifecycle"), [(check.name, check.covers) for check in CHECKS if check.covers is not None]
)
def test_a_check_that_never_records_a_declared_transition_fails(
    monkeypatch: pytest.MonkeyPatch, check: str, lifecycle: Lifecycle
) -> None:
    creation = lifecycle.transitions[0]
    first = f"{creation.event} (none → {creation.target})"
    numbers = frozenset(range(1, len(lifecycle.transitions) + 1))
    for missing, trouble in ((frozenset({1}), f"never recorded: {first}; "), (frozenset(), "")):
        outcome = SearchResult(1, 1, 1, 0.1, 1.0, (), frozenset(), numbers - missing)
        monkeypatch.setattr("interlock.spec.model.workbench.verify", lambda *_, result=outcome, **__: result)
        (result,) = check_all(deep=False, jobs=1, only=[check])
        assert (result.good, result.trouble.startswith(trouble)) == (not missing, True)


def test_a_check_that_could_not_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise SearchFailed("max search depth too small")

    monkeypatch.setattr("interlock.spec.model.workbench.verify", fails)
    (checked,) = check_all(deep=True, jobs=1, only=["rotation"])
    (caught,) = catch_all(jobs=1, only=["no_grace"])
    assert (checked.good, checked.trouble, checked.outcome) == (False, "max search depth too small", None)
    assert (caught.good, caught.trouble, caught.outcome) == (False, "max search depth too small", None)


@pytest.mark.parametrize(("broken", "trouble"), [(None, "survived"), ("no_early_expiry", "caught by another property")])
def test_a_model_mutant_not_caught_by_its_property_survives(
    monkeypatch: pytest.MonkeyPatch, broken: str | None, trouble: str
) -> None:
    outcome = verify(Program("durability.pml", tiny("durability")), timeout_s=60)
    story = (f"broken {broken}",) if broken else ()
    monkeypatch.setattr(
        "interlock.spec.model.workbench.verify", lambda *_, **__: msgspec.structs.replace(outcome, story=story)
    )
    (result,) = catch_all(jobs=1, only=["no_fail_stop"])
    assert (result.good, result.trouble) == (False, trouble)


def test_a_model_mutant_is_caught_by_its_property() -> None:
    (result,) = catch_all(jobs=1, only=["ack_before_sync"])
    assert result.good
    assert "durability: " in result.story[-1]


def test_every_lifecycle_is_covered_by_a_model_check() -> None:
    assert {check.covers.name for check in CHECKS if check.covers} == {lifecycle.name for lifecycle in LIFECYCLES}


def test_an_accounts_counterexample_is_told_in_its_words() -> None:
    (result,) = catch_all(jobs=1, only=["start_ends_nobody"])
    assert result.good
    assert result.story[:-1] == (
        "The log takes register of the account: no account → active, epoch 0.",
        "Login 1 shows the account's password, at epoch 0.",
        "The log takes session 1 of login 1, granted at epoch 0.",
        "The log takes disable of the account: active → disabled, epoch 1.",
        "The process is killed.",
        "The server has started and takes work; the account is disabled, at epoch 1.",
        "The server serves a request of session 1; the account is disabled.",
    )


def test_the_trail_of_a_liveness_check_is_readable() -> None:
    (result,) = catch_all(jobs=1, only=["no_recovery"])
    assert result.good
    assert "node-1 crashes." in result.story or "node-2 crashes." in result.story


def test_the_model_uses_the_published_property_names() -> None:
    names = {promised.name for promised in PROPERTIES}
    asserted = {
        name
        for path in MODEL.glob("*.pml")
        for name in re.findall(r"(?:PROMISE\(|promise_fold\(|ltl )(\w+)", path.read_text())
    }
    assert asserted - {"name"} <= names


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("error: max search depth too small", "max search depth too small"),
        ("pan: out of memory", "out of memory"),
        ("", "the verifier said nothing"),
        ("Segmentation fault", "Segmentation fault"),
        ("State-vector 40 byte, depth reached 9, errors: 1", "the verifier reports an error and has no trail"),
    ],
)
def test_an_unfinished_spin_search_is_no_result(monkeypatch: pytest.MonkeyPatch, said: str, why: str) -> None:
    monkeypatch.setattr("interlock.spec.model.spin._run", lambda *_: said)
    with pytest.raises(SearchFailed, match=why):
        verify(Program("durability.pml", tiny("durability")), timeout_s=60)


def test_an_empty_counterexample_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.spec.model.spin._TOLD_LINE", "no such line")
    check, broken = program(find("ack_before_sync"))
    assert check.name == "durability"
    with pytest.raises(SearchFailed):
        verify(broken, timeout_s=60)


@pytest.mark.parametrize(
    ("status", "why"), [(137, "it was killed, perhaps for want of memory"), (124, "not finished within")]
)
def test_reasons_for_an_early_end_of_a_search_are_told_apart(tmp_path: Path, status: int, why: str) -> None:
    (tmp_path / "pan").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "pan").chmod(0o700)
    with pytest.raises(SearchFailed, match=why):
        spin._run(["./pan"], tmp_path, 60, print)
