"""The execution's lifecycle on its own: identity, what its records hold, and what is told of it."""

from __future__ import annotations

import msgspec
import pytest

from interlock.machine.errors import ExecutionNotFound, LedgerFault, TransitionRefused
from interlock.machine.execution.commands import Cancel, Data, Effects, Fail, Interrupt, Start, Succeed, execution_id_of
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.explain import refusal
from interlock.machine.ledger import GENESIS, Record, chain, parse
from interlock.machine.machine import Command, Keys
from interlock.machine.machines import MACHINES
from interlock.machine.story import describe, snapshot
from tests.machine.worlds import accept

ID = execution_id_of("acc_1", "i")
RESULT = "B" * 43


def lived(*asked: Data) -> tuple[Execution, list[Record]]:
    """Return an execution of which ``asked`` was recorded, a second apart, and its records."""
    execution, records, digest = EXECUTION_MACHINE.absent(ID), [], GENESIS
    for number, data in enumerate(asked, 1):
        step = EXECUTION_MACHINE.decide(execution, Command(f"cmd-{number}", "server", data), number * 1000)
        execution = EXECUTION_MACHINE.evolve(execution, step)
        row = chain(digest, number, step)
        digest = row.digest
        records.append(parse(row, MACHINES))
    return execution, records


def why(execution: Execution, data: Data) -> str:
    with pytest.raises(TransitionRefused) as refused:
        EXECUTION_MACHINE.decide(execution, Command("cmd", "server", data), 9_000)
    return refusal(EXECUTION_MACHINE, refused.value, execution, data)


@pytest.mark.checks("accepted_once")
def test_an_intent_names_one_execution_that_is_accepted_once() -> None:
    assert execution_id_of("acc_1", "i") == ID
    others = [
        execution_id_of(*each) for each in (("acc_2", "i"), ("acc_1", "j"), ("acc_1i", ""), ("acc_", "1i"), ("ä", "i"))
    ]
    assert len({ID, *others}) == 6
    for told in ([], [Start("n1")], [Start("n1"), Succeed("n1", 1, RESULT)]):
        execution, _ = lived(accept("once"), *told)
        assert "The declaration has accept as an execution's first record only." in why(execution, accept("once"))


@pytest.mark.parametrize("effects", ["idempotent", "transactional"])
def test_an_interrupted_execution_runs_again_as_the_same_one(effects: Effects) -> None:
    waiting, _ = lived(accept(effects), Start("n1"), Interrupt("n1", 1))
    assert (waiting.state, waiting.node, waiting.attempt, waiting.reason) == ("accepted", None, 1, None)
    again, _ = lived(accept(effects), Start("n1"), Interrupt("n1", 1), Start("n2"))
    assert (again.node, again.attempt, again.started_at_ms, again.execution_id) == ("n2", 2, 4000, ID)
    assert "guard `owner` fails: attempt 2 on n2 runs it, and this is attempt 1 on n1." in why(
        again, Succeed("n1", 1, RESULT)
    )
    assert "guard `owner` fails: attempt 2 on n2 runs it, and this is no attempt." in why(again, Fail("timeout"))


@pytest.mark.checks("once_runs_once")
def test_an_interrupted_execution_with_effects_once_has_failed() -> None:
    execution, records = lived(accept("once"), Start("n1"), Interrupt("n1", 1))
    assert (execution.state, execution.reason, execution.node) == ("failed", "interrupted", None)
    assert "start from failed. The declaration has start from accepted only." in why(execution, Start("n1"))
    assert [EXECUTION_MACHINE.is_essential(record.transition) for record in records] == [False, False, True]


@pytest.mark.checks("attempts_bounded")
@pytest.mark.parametrize("effects", ["idempotent", "transactional"])
def test_an_execution_whose_fifth_attempt_is_lost_has_failed(effects: Effects) -> None:
    lost = [each for attempt in range(1, 6) for each in (Start("n1"), Interrupt("n1", attempt))]
    waiting, _ = lived(accept(effects), *lost[:-2])
    assert (waiting.state, waiting.attempt) == ("accepted", 4)
    execution, _ = lived(accept(effects), *lost)
    assert (execution.state, execution.reason, execution.attempt) == ("failed", "interrupted", 5)


@pytest.mark.checks("outcome_reaches_client")
def test_an_interrupt_is_recorded_while_the_disk_is_nearly_full() -> None:
    """Otherwise a start could not give up what a crash left running."""
    _, records = lived(accept("idempotent"), Start("n1"), Interrupt("n1", 1))
    assert EXECUTION_MACHINE.is_essential(records[-1].transition)


@pytest.mark.checks("outcome_reaches_client")
def test_the_keys_say_whose_it_is_until_when_and_whether_it_runs() -> None:
    waiting, _ = lived(accept("once"))
    assert EXECUTION_MACHINE.keys(waiting) == Keys(owner="acc_1", deadline_ms=2000)
    running, _ = lived(accept("once"), Start("n1"))
    assert EXECUTION_MACHINE.keys(running) == Keys(owner="acc_1", deadline_ms=2000, busy=True)
    ended, _ = lived(accept("once"), Start("n1"), Cancel("session_ended"))
    assert EXECUTION_MACHINE.keys(ended) == Keys(owner="acc_1", deadline_ms=2000, reason="session_ended")


def test_a_whole_execution_is_told_in_words() -> None:
    child = msgspec.structs.replace(accept("idempotent"), parent="exe_0")
    told = (child, Start("n1"), Interrupt("n1", 1), Start("n2"), Succeed("n2", 2, RESULT))
    execution, records = lived(*told)
    steps, last = describe(EXECUTION_MACHINE, ID, records)
    assert last == execution
    assert [step.particulars for step in steps] == [
        (
            "notes.create of realm notes for acc_1, in session s, as i, submitted by exe_0; effects idempotent, 1000 ms;"
            " cancel when the session ends"
        ),
        "attempt 1 on n1",
        "attempt 1 on n1; its effects are idempotent",
        "attempt 2 on n2",
        "attempt 2 on n2",
    ]
    stands = snapshot(EXECUTION_MACHINE, execution, 9_000)
    assert (stands.state, stands.stands["attempt"], stands.stands["has_result"]) == ("succeeded", 2, True)
    assert {each.target for each in stands.events} == {None}


@pytest.mark.parametrize(
    ("data", "particulars"),
    [
        (Fail("error", "n1", 1, RESULT), "error, attempt 1 on n1"),
        (Cancel("asked"), "asked, attempt 1 on n1"),
    ],
)
def test_an_end_says_why_and_of_which_attempt(data: Data, particulars: str) -> None:
    execution, records = lived(accept("once"), Start("n1"), data)
    steps, _ = describe(EXECUTION_MACHINE, ID, records)
    assert steps[-1].particulars == particulars
    assert execution.reason == data.reason  # type: ignore[union-attr]  # both have one


def test_what_is_possible_while_it_waits_and_while_it_runs() -> None:
    waiting, _ = lived(accept("once"))
    running, _ = lived(accept("once"), Start("n1"))
    possible = [
        {each.event: each.target for each in snapshot(EXECUTION_MACHINE, execution, 5_000).events if each.target}
        for execution in (waiting, running)
    ]
    assert possible == [
        {"start": "running", "fail": "failed", "cancel": "cancelled"},
        {"succeed": "succeeded", "fail": "failed", "interrupt": "failed", "cancel": "cancelled"},
    ]
    stands = snapshot(EXECUTION_MACHINE, waiting, 5_000).stands
    assert (stands["started_at"], stands["deadline"]) == (None, "1970-01-01T00:00:02.000Z")


_ACCEPT = msgspec.json.encode(accept("once")).decode()


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ("accept", _ACCEPT.replace('"i"', '""')),
        ("accept", _ACCEPT.replace('"i"', f'"{"i" * 129}"')),
        ("accept", _ACCEPT.replace('"once"', '"twice"')),
        ("accept", _ACCEPT.replace("1000", "0")),
        ("accept", _ACCEPT.replace("}", ',"parameters":{}}')),
        ("succeed", '{"node":"n1","attempt":1,"result":"hello"}'),
        ("fail", '{"reason":"interrupted"}'),
        ("cancel", '{"reason":"bored"}'),
    ],
)
def test_data_without_its_declared_shape_is_found(event: str, text: str) -> None:
    EXECUTION_MACHINE.data_of(1, "accept", _ACCEPT)
    with pytest.raises(LedgerFault, match=f"data of {event} is malformed"):
        EXECUTION_MACHINE.data_of(1, event, text)


def test_an_unknown_execution_has_an_error_of_its_own() -> None:
    error = EXECUTION_MACHINE.not_found("exe_1")
    assert isinstance(error, ExecutionNotFound)
    assert str(error) == "Execution not found"
