"""Bugs in what becomes of an intent: who may say what of an execution, and how often it runs."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, replace, returns
from tests.mutants.mutant import Mutant

_WALK: Final = "test_every_step_of_every_lifecycle_keeps_its_promises[execution]"

OF_EXECUTION: Final[tuple[Mutant, ...]] = (
    Mutant(
        "Two accounts that choose the same id for their intents share one execution.",
        "accepted_once",
        "test_an_intent_names_one_execution_that_is_accepted_once",
        at("execution.commands:execution_id_of", replace("subject + intent_id", "intent_id")),
    ),
    Mutant(
        "An account and an id are told apart from others only by their text, end to end.",
        "accepted_once",
        "test_an_intent_names_one_execution_that_is_accepted_once",
        at("execution.commands:execution_id_of", replace("len(subject.encode())", "0")),
    ),
    Mutant(
        "The attempt that was running may still fail an execution that is cancelled.",
        "one_outcome",
        _WALK,
        (
            *at("ExecutionLifecycle.cancelled", drop("final=True")),
            *at(
                "ExecutionLifecycle.fail",
                replace("running.to(failed, cond='owner')", "... | cancelled.to(failed)"),
            ),
        ),
        says="one_outcome is broken",
    ),
    Mutant(
        "Whatever attempt of its server process has a result, it counts.",
        "owner_only",
        _WALK,
        at("execution.execution:_owner", replace("(data.node, data.attempt) == running", "data.node == running[0]")),
        says="owner_only is broken",
    ),
    Mutant(
        "Another server process may speak for the attempt.",
        "owner_only",
        _WALK,
        at("execution.execution:_owner", replace("(data.node, data.attempt) == running", "data.attempt == running[1]")),
        says="owner_only is broken",
    ),
    Mutant(
        "An attempt that was interrupted may fail the execution until the next one begins.",
        "owner_only",
        _WALK,
        at(
            "execution.execution:_CHANGED",
            replace(
                "{'node': None, 'reason': data.reason if step.target == 'failed' else None}",
                "{'reason': data.reason if step.target == 'failed' else None}",
            ),
        ),
        says="owner_only is broken",
    ),
    Mutant(
        "After a crash an execution is repeated, whatever its effects.",
        "once_runs_once",
        "test_an_interrupted_execution_with_effects_once_has_failed",
        at("execution.execution:_repeatable", returns("True")),
    ),
    Mutant(
        "Code that ends the server process is repeated as long as its time allows.",
        "attempts_bounded",
        "test_an_execution_whose_fifth_attempt_is_lost_has_failed[idempotent]",
        at("execution.execution:_repeatable", replace("execution.attempt < MAX_ATTEMPTS", "True")),
    ),
    Mutant(
        "A start does not find what ran when its server process crashed.",
        "outcome_reaches_client",
        "test_the_keys_say_whose_it_is_until_when_and_whether_it_runs",
        at("execution.execution:keys", replace("execution.node is not None", "False")),
    ),
    Mutant(
        "A start can't give up what ran before a crash while the disk is nearly full.",
        "outcome_reaches_client",
        "test_an_interrupt_is_recorded_while_the_disk_is_nearly_full",
        at("EXECUTION_MACHINE", drop("essential=('interrupt',)")),
    ),
)
