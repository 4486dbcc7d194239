"""Every seeded bug: of the declarations, and of the model, where each turns one safety measure off."""

from __future__ import annotations

from typing import Final

from interlock.spec.model.mutants.declarations import DECLARATION_MUTANTS, ONE_DROP
from interlock.spec.model.mutants.programs import Mutant

_FEW: Final = {"ROTATIONS": 4}
_TWO_TABS: Final = {"ROTATIONS": 4, "TABS": 2}
_NO_LOGIN: Final = {"EPOCHS": 0}
_ONE_COPY: Final = {"EPOCHS": 0, "ROTATIONS": 3}

MUTANTS: Final[tuple[Mutant, ...]] = (
    *DECLARATION_MUTANTS,
    Mutant("ack_before_append", "A command is acknowledged when it is decided.", "lifecycle", "acknowledged_logged"),
    Mutant("no_version_check", "A node appends whatever the log holds by then.", "lifecycle", "no_lost_update"),
    Mutant("no_command_index", "A repeated command is recorded again.", "lifecycle", "command_once"),
    Mutant("target_by_hand", "The door writes a target of its own.", "lifecycle", "declared_only"),
    Mutant("open_before_append", "A socket opens before its connect is recorded.", "lifecycle", "open_guard"),
    Mutant(
        "disconnect_before_close",
        "A connection is given up while its socket is open.",
        "lifecycle",
        "open_guard",
        bounds=ONE_DROP,
    ),
    Mutant("connection_ids_reused", "Two connects name the same connection.", "lifecycle", "single_owner"),
    Mutant("lagging_reader", "A node reads the log from a copy that lags.", "lifecycle", "view_monotonic"),
    Mutant("publish_after_ack", "The caller hears of the end before the sockets do.", "lifecycle", "revocation_fence"),
    Mutant("no_fence", "An intent is checked against the node's view, not the log.", "lifecycle", "revocation_fence"),
    Mutant("stale_cache", "A node takes the log's version and keeps its old session.", "replay", "cache_is_fold"),
    Mutant("projection_forgets", "The projection row misses what a record says.", "replay", "replay_equals_state"),
    Mutant(
        "edge_triggered_close",
        "Only the node that ends a session closes its sockets.",
        "expired_closes",
        "expired_closes",
    ),
    Mutant("no_reaper", "A start leaves the connections of its former self.", "orphan_reaped", "orphan_reaped"),
    Mutant("no_expirer", "Nobody writes down that a deadline has passed.", "expires_or_renewed", "expires_or_renewed"),
    Mutant("no_follow", "A node does not hear of the others' records.", "views_catch_up", "views_catch_up"),
    Mutant("no_recovery", "A crashed node stays away.", "crashed_recovers", "crashed_recovers"),
    Mutant("refusal_unanswered", "A refused command gets no answer.", "command_answered", "command_answered"),
    Mutant(
        "login_unconditional",
        "A login is recorded whatever became of the account since the password was compared.",
        "account",
        "authority_at_append",
    ),
    Mutant(
        "call_of_an_ended_session",
        "What a session asked is recorded though it has ended meanwhile.",
        "account",
        "authority_at_append",
    ),
    Mutant(
        "call_of_a_renewed_session",
        "What a session asked is recorded though a change of the password has renewed it meanwhile.",
        "account",
        "authority_at_append",
    ),
    Mutant(
        "call_of_a_lost_account",
        "What a session asked is recorded though its account was disabled, or its password changed, meanwhile.",
        "account",
        "authority_at_append",
    ),
    Mutant("epoch_kept_by_disable", "A disable does not raise the epoch.", "account", "authority_at_append"),
    Mutant("epoch_kept_by_change", "A change of password does not raise the epoch.", "account", "authority_at_append"),
    Mutant(
        "epoch_kept_by_reset", "A reset of the password does not raise the epoch.", "account", "authority_at_append"
    ),
    Mutant("code_kept_by_reset", "A reset does not use up its code.", "account", "code_opens_once"),
    Mutant("code_kept_by_disable", "A disable leaves the reset code.", "account", "code_opens_once"),
    Mutant("groups_enable", "An account whose groups are set is active again.", "account", "declared_only"),
    Mutant(
        "disable_told_first", "A disable is acknowledged before it is recorded.", "account", "disabled_never_serves"
    ),
    Mutant(
        "ends_before_record",
        "A disable ends the sessions first, and is recorded then.",
        "account",
        "disabled_never_serves",
    ),
    Mutant("start_ends_nobody", "A start leaves the ends that a crash cut off.", "account", "disabled_never_serves"),
    Mutant(
        "repeat_told_at_once",
        "A second disable is acknowledged while the first still ends sessions.",
        "account",
        "disabled_never_serves",
    ),
    Mutant("enable_restores", "An enable restores the sessions of before.", "account", "disabled_never_serves"),
    Mutant("delete_ends_nobody", "A delete leaves the account's sessions.", "account", "disabled_never_serves"),
    Mutant(
        "change_ends_nobody",
        "A change of password leaves the account's other sessions.",
        "account",
        "old_password_never_admits",
    ),
    Mutant(
        "old_instance_again",
        "A secret that comes back goes on as the instance that it was.",
        "secret",
        "declared_only",
    ),
    Mutant("removal_unrecorded", "The removal of a file leaves no record.", "secret", "secrets_recorded"),
    Mutant(
        "start_records_nothing",
        "A start takes work without a look at what changed while no server ran.",
        "secret",
        "secrets_recorded",
    ),
    Mutant(
        "act_unconditional",
        "An act is recorded whatever became of the secret since it was shown.",
        "secret",
        "authority_at_append",
    ),
    Mutant(
        "act_of_another_life",
        "An act is recorded because the secret is back, though it was removed meanwhile.",
        "secret",
        "authority_at_append",
    ),
    Mutant(
        "identity_before_append",
        "An intent's id is looked up when it is submitted, not when it is recorded.",
        "execution",
        "accepted_once",
    ),
    Mutant(
        "accept_unconditional",
        "An intent is accepted whatever became of its session since it was submitted.",
        "execution",
        "no_execution_after_fence",
    ),
    Mutant(
        "start_unconditional",
        "An execution is started whatever became of its session since it was accepted.",
        "execution",
        "no_execution_after_fence",
    ),
    Mutant(
        "success_unconditional",
        "An execution that the end of its session cancels succeeds after that end.",
        "execution",
        "no_execution_after_fence",
    ),
    Mutant(
        "revocation_told_first",
        "The end of a session is acknowledged before it is recorded.",
        "execution",
        "no_execution_after_fence",
    ),
    Mutant(
        "interrupted_waits",
        "A start puts whatever it interrupts back among what waits.",
        "execution",
        "declared_only",
    ),
    Mutant(
        "recovery_interrupts_all",
        "A start takes work before it has interrupted what ran, and interrupts what it runs itself.",
        "execution",
        "owner_only",
    ),
    Mutant(
        "recovery_forgets",
        "A start leaves what waited before it.",
        "execution",
        "outcome_reaches_client",
    ),
    Mutant(
        "store_not_asked",
        "An attempt is given up without asking its realm's store whether it has committed the result.",
        "execution",
        "committed_is_outcome",
    ),
    Mutant(
        "store_left_open",
        "A realm's store may still commit the result of an attempt that was given up.",
        "execution",
        "committed_is_outcome",
    ),
    Mutant(
        "attempts_unbounded",
        "An execution is repeated however many attempts were lost.",
        "execution",
        "attempts_bounded",
    ),
    Mutant("no_deadline", "Code that hangs never runs out of time.", "execution", "outcome_reaches_client"),
    Mutant(
        "outcome_sent_once",
        "A client whose connection broke is not told the outcome when it comes back.",
        "execution",
        "outcome_reaches_client",
    ),
    Mutant("epoch_ignored", "A refresh token survives a login.", "theft", "rotation"),
    Mutant("no_grace", "A token that was exchanged is taken for stolen at once.", "rotation", "rotation", bounds=_FEW),
    Mutant("one_before", "The grace is the token's before the newest one alone.", "rotation", "rotation", bounds=_FEW),
    Mutant(
        "lost_answer_is_theft",
        "After the grace a token is taken for stolen, though no answer to it was used.",
        "rotation",
        "rotation",
        bounds=_FEW,
    ),
    Mutant(
        "late_answer_is_theft",
        "A token whose answer comes after a newer one was used is taken for stolen.",
        "rotation",
        "rotation",
        bounds=_TWO_TABS,
    ),
    Mutant(
        "used_is_gone",
        "A token that was used is taken for gone from the jar when a newer one is, though it may have come later.",
        "rotation",
        "rotation",
        bounds=_TWO_TABS,
    ),
    Mutant("old_rotation_accepted", "Any older token is answered.", "theft", "rotation", bounds=_NO_LOGIN),
    Mutant("copy_kept", "A newer token stays when an older one is used.", "theft", "rotation", bounds=_ONE_COPY),
    Mutant("same_answer_again", "A repeat is given the newest token once more.", "theft", "rotation", bounds=_NO_LOGIN),
    Mutant(
        "ack_before_sync",
        "A command is acknowledged when it is written, not when it is synced.",
        "durability",
        "durability",
    ),
    Mutant("no_fail_stop", "After a failed fsync the server goes on acknowledging.", "durability", "durability"),
    Mutant(
        "start_without_checkpoint",
        "A start believes what it reads without writing it again.",
        "durability",
        "durability",
    ),
    Mutant("no_commit_mark", "Half a batch counts after a power cut.", "durability", "durability"),
    Mutant("head_before_sync", "The signed head runs ahead of the disk.", "durability", "durability"),
)
