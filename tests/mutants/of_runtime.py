"""Bugs in the runtime of executions: what it records when, and under whose authority."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, replace
from tests.mutants.mutant import Mutant

_OVERTAKEN: Final = "test_a_record_that_the_end_of_its_session_overtakes_is_refused"

OF_RUNTIME: Final[tuple[Mutant, ...]] = (
    Mutant(
        "An intent is accepted because its session was alive when the request came.",
        "no_execution_after_fence",
        "test_nothing_is_accepted_under_an_authority_that_is_lost[end]",
        at("executions:Executions._accept", drop("under=under")),
    ),
    Mutant(
        "An execution is started because its session was alive a moment ago.",
        "no_execution_after_fence",
        f"{_OVERTAKEN}[start-events0-end]",
        at("run:Run._start", drop("under=under")),
    ),
    Mutant(
        "A result is recorded because its session was alive a moment ago.",
        "no_execution_after_fence",
        f"{_OVERTAKEN}[succeed-events1-end]",
        at("run:Run._record_outcome", drop("under=under")),
    ),
    Mutant(
        "An outcome needs a live session, whatever has become of its account.",
        "no_execution_after_fence",
        f"{_OVERTAKEN}[succeed-events1-disable]",
        at(
            "executions:Executions.standing",
            replace(
                "authority_in(session)", "__import__('msgspec').structs.replace(authority_in(session), rests_on=None)"
            ),
        ),
    ),
    Mutant(
        "The end of a session lets its running executions be.",
        "no_execution_after_fence",
        "test_the_end_of_the_session_cancels_its_executions[Obeys]",
        at("runner:Runner.observe_session", replace("run.stop('session_ended')", "pass")),
    ),
    Mutant(
        "An account that is disabled keeps its executions until its sessions have ended.",
        "no_execution_after_fence",
        "test_what_an_account_loses_cancels_before_its_sessions_end[disable]",
        at("runner:Runner._check_sessions", replace("run.stop('session_ended')", "pass")),
    ),
    Mutant(
        "Of many submissions at once, each looks for the execution before any is recorded, and counts.",
        "accepted_once",
        "test_one_id_submitted_many_times_at_once_is_accepted_once[echo]",
        at("executions:Executions._recorded", replace("repeated=True", "repeated=False")),
    ),
    Mutant(
        "An execution whose code does not stop is not over before it does.",
        "outcome_reaches_client",
        "test_code_that_does_not_stop_has_five_seconds",
        at("run:Run._await_stop", replace("[self.code, self.grace_over]", "[self.code]")),
    ),
    Mutant(
        "A start leaves what had been accepted and not started.",
        "outcome_reaches_client",
        "test_what_had_not_started_starts_after_a_restart",
        at("runner:Runner.recover", replace("each.node in {None, self._parts.node}", "each.node == self._parts.node")),
    ),
    Mutant(
        "A start interrupts what other server processes run.",
        "owner_only",
        "test_a_start_interrupts_the_attempts_of_its_own_node_only",
        at("runner:Runner.recover", replace("each.node in {None, self._parts.node}", "True")),
    ),
    Mutant(
        "Cancelled is cancelled, whatever the realm's transaction has committed.",
        "committed_is_outcome",
        "test_a_committed_result_is_never_recorded_as_cancelled[asked]",
        at("run:Run._run_code", replace("self._end_stopped(await closing)", "self._end_stopped(None)")),
    ),
    Mutant(
        "Code that swallows its cancellation may commit for five more seconds.",
        "committed_is_outcome",
        "test_code_that_goes_on_when_it_is_cancelled_commits_nothing[session_ended]",
        at(
            "run:Run._run_code",
            replace("asyncio.ensure_future(self._committed(store))", "asyncio.get_running_loop().create_future()"),
            replace("self._end_stopped(await closing)", "self._end_stopped(await self._committed(store))"),
        ),
    ),
    Mutant(
        "An attempt that a crash took is given up without a look at the realm's store.",
        "committed_is_outcome",
        "test_an_attempt_that_a_crash_took_after_its_commit_has_succeeded",
        at("run:Run._end_lost_attempt", replace("await self._committed(...)", "None")),
    ),
    Mutant(
        "A committed result needs a session that is still alive.",
        "committed_is_outcome",
        "test_an_attempt_that_a_crash_took_after_its_commit_has_succeeded",
        at("run:Run._end_lost_attempt", replace("under_session=False", "under_session=True")),
    ),
    Mutant(
        "A start repeats one lost attempt while another one still counts as running.",
        "crashed_recovers",
        "test_nothing_starts_before_every_lost_attempt_is_interrupted",
        at("run:Run.drive", replace("await self.parts.working.wait()", "None")),
    ),
    Mutant(
        "A remote realm's report of one attempt becomes the outcome of another.",
        "owner_only",
        "test_a_callback_for_anything_but_the_running_attempt_is_refused",
        at(
            "remote_realms:RemoteRealms.report",
            replace("(running.realm, running.attempt) != (realm, attempt)", "running.realm != realm"),
        ),
    ),
    Mutant(
        "A call that a remote realm has got is repeated, whatever its effects.",
        "once_runs_once",
        "test_an_intent_with_effects_once_is_posted_once",
        at("remote_realms:RemoteRealms._post", replace("not error.sent", "True")),
    ),
)
