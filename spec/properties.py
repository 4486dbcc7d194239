"""Every promised property: its statement, and the tests that fail if it is broken.

:mod:`interlock.spec.model.checks` lists where the model checks it; :mod:`interlock.spec.model.mutants` and ``tests/mutants``
list the bugs that must break it. The documentation shows all of this in one table. A property may list only tests that check
it: tests declare their property, and the two are compared.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Property(msgspec.Struct, frozen=True):
    """One promise. ``checked_in`` lists pytest nodes, ``file::test`` or ``file::Class``, relative to the repository.

    ``liveness``: the promise is that something eventually happens, so it holds only if no task is starved.
    """

    name: str
    statement: str
    checked_in: tuple[str, ...] = ()
    liveness: bool = False


_WALKS: Final = (
    "tests/machine/test_exhaustive.py::test_every_edge_keeps_every_promise",
    "tests/machine/test_session_machine.py::TestSession",
)
_LEDGER: Final = "tests/machine/test_ledger.py::"
_EXECUTION_TRACES: Final = "tests/spec/test_execution_traces.py::test_an_executions_fault_is_named_where_it_first_shows"
_TRACE_RULES: Final = "tests/spec/test_traces.py::test_the_checker_names_a_fault_at_the_line_where_it_first_shows"
_SQL: Final = "tests/server/test_database.py::test_an_illegal_row_is_refused"
_TRACED: Final = "tests/server/test_trace.py::"
_ADMIN: Final = "tests/server/administration/test_admin.py::"
_FAULTS: Final = "tests/faults/"
_WHOLE: Final = "tests/server/test_whole_operations.py::"
_CHANGE_RACES: Final = "tests/server/test_app.py::"
_FEED: Final = "tests/server/test_feed.py::"
_TWO_NODES: Final = "tests/server/test_two_nodes.py::"
_SECRETS: Final = "tests/server/test_secret_records.py::"
_LIFECYCLES: Final = "tests/machine/test_every_lifecycle.py::test_every_step_of_every_lifecycle_keeps_its_promises"
_EXECUTION: Final = "tests/machine/test_execution_machine.py::"
_RUNS: Final = "tests/executions/"
_N18: Final = "tests/scenarios/test_n18_executions.py::"
_N18_STREAMS: Final = "tests/scenarios/test_n18_streams.py::"
_RECOVERED: Final = (
    _N18_STREAMS + "test_n18_one_id_over_sockets_and_http_has_one_outcome_for_all",
    _N18_STREAMS + "test_n18_a_rolling_restart_under_load_loses_and_repeats_nothing",
)
_STREAM: Final = "tests/machine/test_stream.py::"
_STREAMS: Final = "tests/streams/"
_ENDING: Final = "tests/scenarios/test_n13_n16_ending.py::"

PROPERTIES: Final[tuple[Property, ...]] = (
    Property(
        "declared_only",
        "Every record's source, event, guards and target are a row of the declaration; its source is the target of the"
        " record before; the first record of an instance is its creation.",
        (*_WALKS, _LEDGER + "test_an_undeclared_transition_is_found", _SQL, _TRACE_RULES, _EXECUTION_TRACES),
    ),
    Property(
        "expired_absorbs",
        "Nothing follows the end of a session.",
        (*_WALKS, _LEDGER + "test_a_record_after_the_end_is_found", _SQL, _TRACE_RULES),
    ),
    Property("authentication_first", "A session connects only after a login.", (*_WALKS, _TRACE_RULES)),
    Property("owner_coherence", "A session is connected exactly while it holds a connection.", (*_WALKS, _TRACE_RULES)),
    Property(
        "open_guard",
        "A socket is open only on the node that owns its connection: opened while the session holds it, gone before the"
        " disconnect is recorded.",
        (
            _TRACED + "test_a_session_ending_during_the_handshake_leaves_no_socket_open",
            _TRACED + "test_concurrent_sockets_each_open_with_their_own_connect",
            _TRACE_RULES,
        ),
    ),
    Property(
        "acknowledged_logged",
        "What a caller was told is recorded, is in the log.",
        (
            _TRACED + "test_nobody_is_answered_before_the_commit",
            "tests/scenarios/test_process.py::test_kill_9_under_load_loses_nothing_acknowledged",
            _TRACE_RULES,
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "command_once",
        "A command is recorded at most once; a repeat is answered with what was recorded, or refused as any"
        " other command is.",
        (
            _LEDGER + "test_a_repeated_command_is_found",
            _TRACED + "test_a_repeat_is_traced_as_acknowledged_again_and_appended_once",
            _SQL,
            _TRACE_RULES,
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "versions_gapless",
        "The versions of a session count from 1 without a gap.",
        (
            *_WALKS,
            _LEDGER + "test_a_version_gap_is_found",
            _SQL,
            _TRACED + "test_two_doors_on_one_log_each_decide_on_the_latest_version",
            _TRACE_RULES,
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "no_lost_update",
        "A record follows the very version it was decided on.",
        (
            _TRACED + "test_two_doors_on_one_log_each_decide_on_the_latest_version",
            _TWO_NODES + "test_concurrent_commands_at_both_nodes_lose_no_update",
            _TRACE_RULES,
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "replay_equals_state",
        "The session in memory, and its projection row, are the fold of its log.",
        (*_WALKS, "tests/server/test_service_machine.py::TestService"),
    ),
    Property(
        "cache_is_fold",
        "What a node says of a session is the fold of that session's log at some version that is durable.",
        (
            "tests/server/test_service_machine.py::TestService",
            _FEED + "test_a_server_with_failing_memory_closes_sockets_and_refuses_all",
            _TRACE_RULES,
            _EXECUTION_TRACES,
        ),
    ),
    Property("single_owner", "A connection is connected once, by the node that holds its socket.", (_TRACE_RULES,)),
    Property(
        "view_monotonic",
        "A node never tells an older version of a session than it told before.",
        (_FEED + "test_a_read_overtaken_by_the_log_is_not_cached", _TRACE_RULES, _EXECUTION_TRACES),
    ),
    Property(
        "durability",
        "What was acknowledged stays in the log: over a kill, a power cut, torn and dropped writes, and a failed fsync. The"
        " signed head never speaks of more than is there.",
        (
            "tests/scenarios/test_process.py::test_kill_9_under_load_loses_nothing_acknowledged",
            _FAULTS + "test_power.py::test_acknowledged_records_survive_a_power_cut",
            _FAULTS + "test_disk.py::test_a_full_disk_stops_acknowledgements_and_loses_nothing",
            _FAULTS + "test_head.py::test_after_a_kill_the_head_lags_and_never_leads",
            "tests/server/test_database.py::test_a_start_rewrites_what_it_found_in_the_write_ahead_log",
        ),
    ),
    Property(
        "no_early_expiry",
        "A session expires only once a deadline that follows from its log has passed; from then on nothing renews it.",
        (
            *_WALKS,
            "tests/server/test_expiry.py::test_a_session_ends_at_its_deadline_and_not_a_millisecond_before",
            _TRACE_RULES,
        ),
    ),
    Property(
        "rotation",
        "A refresh is recorded for every answer to a refresh token, each of which is a new one. No token that an honest"
        " browser may hold is taken for stolen. A copy opens nothing, or the session has ended, once the owner has exchanged"
        " two tokens, each two graces after the last exchange.",
        (
            *_WALKS,
            _TRACED + "test_the_trace_shows_one_exchange_and_the_end_by_reuse",
            _ENDING + "test_n15_two_tabs_that_refresh_at_once_stay_logged_in",
            _TRACE_RULES,
        ),
    ),
    Property(
        "revocation_fence",
        "Once the end of a session is acknowledged by a node, no socket of the session is open on it, and no intent of the"
        " session is executed anywhere.",
        (
            _TRACED + "test_a_sessions_end_is_acknowledged_after_its_sockets_are_closed",
            _FEED + "test_a_server_closes_sockets_before_other_listeners_are_called",
            _ENDING + "test_n13_an_ended_session_holds_no_socket",
            _TRACE_RULES,
        ),
    ),
    Property(
        "deleted_absorbs",
        "Nothing follows the deletion of an account.",
        (
            "tests/server/administration/test_account_deletion.py::test_a_deleted_accounts_personal_data_is_gone",
            "tests/server/test_account_deletion_by_owner.py::test_an_owner_deletes_the_account_with_all_that_is_theirs",
        ),
    ),
    Property(
        "removed_absorbs",
        "Nothing follows the removal of a secret.",
        (_SECRETS + "test_a_restored_secret_is_a_new_instance",),
    ),
    Property(
        "secrets_recorded",
        "After each look at the files, and before a start takes work, the log holds as present the secrets that count and"
        " no others.",
        (
            _SECRETS + "test_changes_of_secrets_are_recorded_while_the_server_runs",
            _SECRETS + "test_a_start_records_changes_made_while_no_server_ran",
        ),
    ),
    Property(
        "authority_at_append",
        "Nothing is recorded under the authority of a session, an account or a secret that had lost it at that place of the"
        " log.",
        (
            _SECRETS + "test_an_act_is_not_recorded_after_the_removal_of_its_secret",
            _SECRETS + "test_a_clients_revocation_is_not_recorded_after_its_removal",
            _CHANGE_RACES + "test_a_login_overtaken_by_a_password_change_is_refused",
            _CHANGE_RACES + "test_a_session_revoked_meanwhile_does_not_change_the_password",
            "tests/server/test_superseded_meanwhile.py::test_a_superseded_credentials_call_is_not_recorded_afterwards",
            "tests/server/test_superseded_meanwhile.py::test_a_call_is_not_recorded_after_its_account_lost_its_rights",
            "tests/server/test_superseded_meanwhile.py::test_a_superseded_credential_deletes_no_account",
            "tests/server/test_superseded_meanwhile.py::test_a_browser_of_a_lost_account_replaces_no_session",
            "tests/server/test_sessions.py::test_activity_by_a_superseded_credential_is_not_recorded",
            _TWO_NODES + "test_a_login_at_one_node_supersedes_the_credentials_at_the_other",
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "disabled_never_serves",
        "Once a disable or a delete of an account is acknowledged, or a start has found it in the log, no session of before"
        " serves any more, and none at all until an enable.",
        (
            _ADMIN + "test_a_disabled_account_is_logged_out_and_can_not_log_in",
            "tests/server/administration/test_account_deletion.py::test_a_deleted_accounts_personal_data_is_gone",
            _ADMIN + "test_a_login_racing_a_disable_leaves_no_live_session",
            _FAULTS + "test_fail_closed.py::test_an_interrupted_disable_is_finished_by_the_next_start",
        ),
    ),
    Property(
        "old_password_never_admits",
        "Once a change of password is acknowledged, or a start has found it in the log, no login with the old password is"
        " recorded, and no session of an older login serves, but for the one that asked.",
        (
            "tests/scenarios/test_process.py::test_a_login_with_the_old_password_does_not_survive_the_change",
            _CHANGE_RACES + "test_a_login_overtaken_by_a_password_change_is_refused",
            _WHOLE + "test_an_interrupted_password_change_is_finished_by_the_next_start",
        ),
    ),
    Property(
        "overtaken_change_refused",
        "A change of password that names a hash which was replaced meanwhile is not recorded.",
        ("tests/server/test_password_change.py::test_one_of_two_concurrent_password_changes_wins",),
    ),
    Property(
        "code_opens_once",
        "A reset code changes a password at most once, and not after another change of it or a disable of the account.",
        (
            "tests/server/test_password_reset.py::test_a_code_sets_another_password_once_and_ends_all_sessions",
            "tests/server/test_password_reset.py::test_a_code_is_void_after_a_change_of_password_or_a_disable",
            "tests/server/test_password_reset.py::test_one_of_several_resets_at_once_wins",
        ),
    ),
    Property(
        "accepted_once",
        "An intent that one account submits any number of times under one id, also at once, is accepted as one execution.",
        (
            _EXECUTION + "test_an_intent_names_one_execution_that_is_accepted_once",
            "tests/server/test_every_lifecycle_on_disk.py::test_one_intent_submitted_at_two_doors_at_once_is_accepted_once",
            _RUNS + "test_acceptance.py::test_one_id_submitted_many_times_at_once_is_accepted_once",
            _N18 + "test_n18_one_id_from_16_clients_and_a_kill_is_one_execution",
            _N18 + "test_n18_kills_leave_each_accepted_intent_one_outcome",
            *_RECOVERED,
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "one_outcome",
        "An execution has one outcome at most, and nothing follows it.",
        (
            _LIFECYCLES,
            _RUNS + "test_recovery.py::test_code_whose_execution_another_process_ends_is_cancelled",
            _N18 + "test_n18_kills_leave_each_accepted_intent_one_outcome",
            *_RECOVERED,
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "no_execution_after_fence",
        "Once the end of a session is acknowledged, nothing is accepted or started under it, and no execution that the end"
        " cancels succeeds, unless the realm's own transaction had committed its result.",
        (
            _RUNS + "test_acceptance.py::test_nothing_is_accepted_under_an_authority_that_is_lost",
            _RUNS + "test_acceptance.py::test_an_acceptance_racing_the_end_of_its_session_is_before_it_or_refused",
            _RUNS + "test_cancellation.py::test_the_end_of_the_session_cancels_its_executions",
            _RUNS + "test_cancellation.py::test_what_an_account_loses_cancels_before_its_sessions_end",
            _RUNS + "test_limits.py::test_code_that_may_finish_submits_nothing_after_its_session",
            _RUNS + "test_outcomes.py::test_a_result_after_the_end_of_the_session_is_refused",
            _RUNS + "test_overtaken.py::test_a_record_that_the_end_of_its_session_overtakes_is_refused",
            _RUNS + "test_recovery.py::test_nothing_starts_again_after_the_end_of_its_session",
            _N18 + "test_n13_a_revocation_racing_intents_is_a_fence",
            _N18_STREAMS + "test_n13_the_end_of_a_session_is_a_fence_on_all_its_sockets",
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "committed_is_outcome",
        "A result that a realm's transaction has committed is the recorded outcome of its execution, and once another outcome"
        " is recorded no transaction of it commits.",
        (
            _RUNS + "test_transactional.py::test_a_committed_result_is_never_recorded_as_cancelled",
            _RUNS + "test_transactional.py::test_code_that_goes_on_after_its_end_commits_nothing",
            _RUNS + "test_transactional.py::test_code_that_goes_on_when_it_is_cancelled_commits_nothing",
            _RUNS + "test_transactional.py::test_an_attempt_that_a_crash_took_after_its_commit_has_succeeded",
            _RUNS + "test_transactional.py::test_a_stale_commit_can_not_follow_the_end_of_an_interrupted_attempt",
        ),
    ),
    Property(
        "owner_only",
        "A result, a failure or an interruption is recorded only of the attempt that runs the execution then, and an"
        " interruption only once its server process does not run it any more.",
        (
            _LIFECYCLES,
            _RUNS + "test_recovery.py::test_a_start_interrupts_the_attempts_of_its_own_node_only",
            _EXECUTION_TRACES,
        ),
    ),
    Property(
        "once_runs_once",
        "An execution whose effects are `once` is started once at most.",
        (
            _LIFECYCLES,
            _EXECUTION + "test_an_interrupted_execution_with_effects_once_has_failed",
            _RUNS + "test_recovery.py::test_a_lost_attempt_is_repeated_as_its_effects_allow",
            _RUNS + "test_recovery.py::test_an_execution_of_a_killed_process_gets_its_outcome",
        ),
    ),
    Property(
        "attempts_bounded",
        "An execution is started five times at most, however often the server process dies.",
        (
            _EXECUTION + "test_an_execution_whose_fifth_attempt_is_lost_has_failed",
            _RUNS + "test_recovery.py::test_code_that_ends_the_server_runs_five_times",
        ),
    ),
    Property(
        "outcome_reaches_client",
        "Whenever nothing more can happen, every accepted execution has an outcome, also after crashes, and each client that"
        " was told of its acceptance has heard it.",
        (
            _EXECUTION + "test_the_keys_say_whose_it_is_until_when_and_whether_it_runs",
            _EXECUTION + "test_an_interrupt_is_recorded_while_the_disk_is_nearly_full",
            _RUNS + "test_cancellation.py::test_code_that_does_not_stop_has_five_seconds",
            _RUNS + "test_recovery.py::test_a_lost_attempt_is_repeated_as_its_effects_allow",
            _RUNS + "test_recovery.py::test_an_execution_of_a_killed_process_gets_its_outcome",
            _EXECUTION_TRACES,
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
    Property("refusal_changes_nothing", "A refused command leaves the session as it was.", _WALKS),
    Property(
        "expires_or_renewed",
        "Every session is renewed for ever or expires.",
        (_ENDING + "test_n13_a_session_ends_at_its_deadline",),
        liveness=True,
    ),
    Property(
        "expired_closes",
        "After the end of a session all its sockets close, for good.",
        (
            _ENDING + "test_n13_an_ended_session_holds_no_socket",
            "tests/scenarios/test_races.py::test_a_handshake_racing_a_revocation_leaves_no_socket_open",
            _TWO_NODES + "test_a_revocation_at_one_node_closes_the_sockets_at_the_other",
        ),
        liveness=True,
    ),
    Property(
        "orphan_reaped",
        "A session that is connected without a socket gets one or is disconnected; a start leaves no connection of the"
        " process that ended before.",
        (
            _TRACED + "test_a_start_traces_disconnects_of_a_dead_processs_connections",
            _TRACED + "test_a_socket_that_leaves_is_traced_as_disconnected",
            _TWO_NODES + "test_a_restarting_node_disconnects_only_its_own_connections",
            _TRACE_RULES,
        ),
        liveness=True,
    ),
    Property(
        "views_catch_up",
        "When the log rests, every live node's view of it catches up.",
        (_FEED + "test_an_instance_changed_by_another_process_is_read_again",),
        liveness=True,
    ),
    Property(
        "crashed_recovers",
        "A crashed node comes back, and disconnects and interrupts what its former self left, once, before it records anything"
        " else.",
        (
            "tests/scenarios/test_process.py::test_kill_9_under_load_loses_nothing_acknowledged",
            _RUNS + "test_traces.py::test_nothing_starts_before_every_lost_attempt_is_interrupted",
            _TRACE_RULES,
            _EXECUTION_TRACES,
        ),
        liveness=True,
    ),
    Property(
        "command_answered",
        "A command that is delivered again and again is acknowledged or refused.",
        (_TRACED + "test_a_repeat_is_traced_as_acknowledged_again_and_appended_once",),
        liveness=True,
    ),
)
