"""Every promised property: its statement, and the tests that fail if it is broken.

:mod:`interlock.spec.model.checks` lists where the model checks it; :mod:`interlock.spec.model.mutants` and ``tests/mutants``
list the bugs that must break it. The documentation shows all of this in one table. A property may list only tests that check
it: tests declare their property, and the two are compared.
"""

from __future__ import annotations

from typing import Final

from interlock.spec.execution_properties import EXECUTION_PROPERTIES
from interlock.spec.property import EXECUTION_TRACES, RUNS, Property

__all__ = ["PROPERTIES", "Property"]

_WALKS: Final = (
    "tests/machine/test_exhaustive.py::test_every_edge_keeps_every_promise",
    "tests/machine/test_session_machine.py::TestSession",
)
_LEDGER: Final = "tests/machine/test_ledger.py::"
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
_ENDING: Final = "tests/scenarios/test_n13_n16_ending.py::"

PROPERTIES: Final[tuple[Property, ...]] = (
    Property(
        "declared_only",
        "Every record's source, event, guards and target are a row of the declaration; its source is the target of the"
        " record before; the first record of an instance is its creation.",
        (*_WALKS, _LEDGER + "test_an_undeclared_transition_is_found", _SQL, _TRACE_RULES, EXECUTION_TRACES),
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
            EXECUTION_TRACES,
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
            EXECUTION_TRACES,
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
            EXECUTION_TRACES,
        ),
    ),
    Property(
        "no_lost_update",
        "A record follows the very version it was decided on.",
        (
            _TRACED + "test_two_doors_on_one_log_each_decide_on_the_latest_version",
            _TWO_NODES + "test_concurrent_commands_at_both_nodes_lose_no_update",
            _TRACE_RULES,
            EXECUTION_TRACES,
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
            EXECUTION_TRACES,
        ),
    ),
    Property("single_owner", "A connection is connected once, by the node that holds its socket.", (_TRACE_RULES,)),
    Property(
        "view_monotonic",
        "A node never tells an older version of a session than it told before.",
        (_FEED + "test_a_read_overtaken_by_the_log_is_not_cached", _TRACE_RULES, EXECUTION_TRACES),
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
            EXECUTION_TRACES,
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
    *EXECUTION_PROPERTIES,
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
            RUNS + "test_traces.py::test_nothing_starts_before_every_lost_attempt_is_interrupted",
            _TRACE_RULES,
            EXECUTION_TRACES,
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
