"""The promised properties of executions."""

from __future__ import annotations

from typing import Final

from interlock.spec.property import EXECUTION_TRACES, RUNS, Property

_LIFECYCLES: Final = "tests/machine/test_every_lifecycle.py::test_every_step_of_every_lifecycle_keeps_its_promises"
_EXECUTION: Final = "tests/machine/test_execution_machine.py::"
_N18: Final = "tests/scenarios/test_n18_executions.py::"
_N18_STREAMS: Final = "tests/scenarios/test_n18_streams.py::"
_RECOVERED: Final = (
    _N18_STREAMS + "test_n18_one_id_over_sockets_and_http_has_one_outcome_for_all",
    _N18_STREAMS + "test_n18_a_rolling_restart_under_load_loses_and_repeats_nothing",
)
_STREAM: Final = "tests/machine/test_stream.py::"
_STREAMS: Final = "tests/streams/"

EXECUTION_PROPERTIES: Final[tuple[Property, ...]] = (
    Property(
        "accepted_once",
        "An intent that one account submits any number of times under one id, also at once, is accepted as one execution.",
        (
            _EXECUTION + "test_an_intent_names_one_execution_that_is_accepted_once",
            "tests/server/test_every_lifecycle_on_disk.py::test_one_intent_submitted_at_two_doors_at_once_is_accepted_once",
            RUNS + "test_acceptance.py::test_one_id_submitted_many_times_at_once_is_accepted_once",
            _N18 + "test_n18_one_id_from_16_clients_and_a_kill_is_one_execution",
            _N18 + "test_n18_kills_leave_each_accepted_intent_one_outcome",
            *_RECOVERED,
            EXECUTION_TRACES,
        ),
    ),
    Property(
        "one_outcome",
        "An execution has one outcome at most, and nothing follows it.",
        (
            _LIFECYCLES,
            RUNS + "test_recovery.py::test_code_whose_execution_another_process_ends_is_cancelled",
            _N18 + "test_n18_kills_leave_each_accepted_intent_one_outcome",
            *_RECOVERED,
            EXECUTION_TRACES,
        ),
    ),
    Property(
        "no_execution_after_fence",
        "Once the end of a session is acknowledged, nothing is accepted or started under it, and no execution that the end"
        " cancels succeeds, unless the realm's own transaction had committed its result.",
        (
            RUNS + "test_acceptance.py::test_nothing_is_accepted_under_an_authority_that_is_lost",
            RUNS + "test_acceptance.py::test_an_acceptance_racing_the_end_of_its_session_is_before_it_or_refused",
            RUNS + "test_cancellation.py::test_the_end_of_the_session_cancels_its_executions",
            RUNS + "test_cancellation.py::test_what_an_account_loses_cancels_before_its_sessions_end",
            RUNS + "test_limits.py::test_code_that_may_finish_submits_nothing_after_its_session",
            RUNS + "test_outcomes.py::test_a_result_after_the_end_of_the_session_is_refused",
            RUNS + "test_overtaken.py::test_a_record_that_the_end_of_its_session_overtakes_is_refused",
            RUNS + "test_recovery.py::test_nothing_starts_again_after_the_end_of_its_session",
            _N18 + "test_n13_a_revocation_racing_intents_is_a_fence",
            _N18_STREAMS + "test_n13_the_end_of_a_session_is_a_fence_on_all_its_sockets",
            EXECUTION_TRACES,
        ),
    ),
    Property(
        "committed_is_outcome",
        "A result that a realm's transaction has committed is the recorded outcome of its execution, and once another outcome"
        " is recorded no transaction of it commits.",
        (
            RUNS + "test_transactional.py::test_a_committed_result_is_never_recorded_as_cancelled",
            RUNS + "test_transactional.py::test_code_that_goes_on_after_its_end_commits_nothing",
            RUNS + "test_transactional.py::test_code_that_goes_on_when_it_is_cancelled_commits_nothing",
            RUNS + "test_transactional.py::test_an_attempt_that_a_crash_took_after_its_commit_has_succeeded",
            RUNS + "test_transactional.py::test_a_stale_commit_can_not_follow_the_end_of_an_interrupted_attempt",
        ),
    ),
    Property(
        "owner_only",
        "A result, a failure or an interruption is recorded only of the attempt that runs the execution then, and an"
        " interruption only once its server process does not run it any more.",
        (
            _LIFECYCLES,
            RUNS + "test_recovery.py::test_a_start_interrupts_the_attempts_of_its_own_node_only",
            EXECUTION_TRACES,
        ),
    ),
    Property(
        "once_runs_once",
        "An execution whose effects are `once` is started once at most.",
        (
            _LIFECYCLES,
            _EXECUTION + "test_an_interrupted_execution_with_effects_once_has_failed",
            RUNS + "test_recovery.py::test_a_lost_attempt_is_repeated_as_its_effects_allow",
            RUNS + "test_recovery.py::test_an_execution_of_a_killed_process_gets_its_outcome",
        ),
    ),
    Property(
        "attempts_bounded",
        "An execution is started five times at most, however often the server process dies.",
        (
            _EXECUTION + "test_an_execution_whose_fifth_attempt_is_lost_has_failed",
            RUNS + "test_recovery.py::test_code_that_ends_the_server_runs_five_times",
        ),
    ),
    Property(
        "outcome_reaches_client",
        "Whenever nothing more can happen, every accepted execution has an outcome, also after crashes, and each client that"
        " was told of its acceptance has heard it.",
        (
            _EXECUTION + "test_the_keys_say_whose_it_is_until_when_and_whether_it_runs",
            _EXECUTION + "test_an_interrupt_is_recorded_while_the_disk_is_nearly_full",
            RUNS + "test_cancellation.py::test_code_that_does_not_stop_has_five_seconds",
            RUNS + "test_recovery.py::test_a_lost_attempt_is_repeated_as_its_effects_allow",
            RUNS + "test_recovery.py::test_an_execution_of_a_killed_process_gets_its_outcome",
            EXECUTION_TRACES,
            _STREAM + "TestStream",
            _STREAMS + "test_intents.py::test_all_connections_hear_the_stream_and_a_new_one_what_follows",
            _STREAMS + "test_intents.py::test_a_repeat_from_another_session_of_the_account_hears_the_outcome",
            _STREAMS + "test_pace.py::test_a_stopping_server_closes_idle_sockets_first_and_sends_outcomes",
            _STREAMS + "test_resume.py::test_each_value_comes_once_over_connections_cut_again_and_again",
            _N18_STREAMS + "test_n18_sockets_over_a_bad_network_hear_all_once_or_of_a_gap",
            *_RECOVERED,
            _STREAMS + "test_resume.py::test_after_a_crash_the_client_is_told_of_the_gap_and_reads_the_execution",
        ),
    ),
)
