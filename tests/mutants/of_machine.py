"""Bugs in the deciding code: the declaration, its guards, the fold, the verifier, the conversation."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, replace, returns
from tests.mutants.mutant import Mutant

OF_MACHINE: Final[tuple[Mutant, ...]] = (
    Mutant(
        "Whoever proves to be somebody takes over a session that is another's.",
        "declared_only",
        "test_every_edge_keeps_every_promise",
        at("session:_same_subject", returns("True")),
        says="in declared_only",
    ),
    Mutant(
        "The limit of connections is off by one.",
        "declared_only",
        "test_every_edge_keeps_every_promise",
        at(
            "session:_below_connection_limit",
            replace(
                "len(session.connections) < session.policy.connection_limit",
                "len(session.connections) <= session.policy.connection_limit",
            ),
        ),
        says="in declared_only",
    ),
    Mutant(
        "A connection that the session does not hold is disconnected.",
        "declared_only",
        "test_every_edge_keeps_every_promise",
        at("session:_known_connection", returns("True")),
        says="in declared_only",
    ),
    Mutant(
        "Only a session whose deadline passed counts as ended; a revoked one does not.",
        "expired_absorbs",
        "test_every_edge_keeps_every_promise",
        at(
            "session:Session.ended",
            replace("self.state in FINAL_STATES", "... and self.reason in ('idle', 'absolute')"),
        ),
        says="in expired_absorbs",
    ),
    Mutant(
        "A session that ended may be created a second time, and the verifier says nothing.",
        "expired_absorbs",
        "test_a_record_after_the_end_is_found",
        at("verifier:Verifier.feed_fields", drop("if self._begun(kind, instance_id, position):\n    ...")),
    ),
    Mutant(
        "The declaration lets an anonymous session open a WebSocket.",
        "authentication_first",
        "test_an_anonymous_session_traces_no_connection",
        at(
            "session:SessionLifecycle.connect",
            replace(
                "authenticated.to(connected, cond=['alive', 'below_connection_limit'])",
                "... | created.to(connected, cond=['alive', 'below_connection_limit'])",
            ),
        ),
        says="authentication_first:",
    ),
    Mutant(
        "A session that connects forgets whose it is.",
        "authentication_first",
        "test_every_edge_keeps_every_promise",
        at("session:_connected", replace("connections=connections", "**..., subject=None")),
        says="in authentication_first",
    ),
    Mutant(
        "A session that ends keeps its connections.",
        "owner_coherence",
        "test_every_edge_keeps_every_promise",
        at("session.session:_ended", drop("connections=()")),
        says="in owner_coherence",
    ),
    Mutant(
        "A connection that opens again is held twice.",
        "owner_coherence",
        "test_every_edge_keeps_every_promise",
        at("session:_connected", replace("_others(session, data.connection_id)", "session.connections")),
        says="in owner_coherence",
    ),
    Mutant(
        "A log that holds a command twice verifies.",
        "command_once",
        "test_a_repeated_command_is_found",
        at("verifier:Verifier._check", replace("step.command_id in commands", "not step.command_id")),
    ),
    Mutant(
        "A log in which a version is missing verifies.",
        "versions_gapless",
        "test_a_removed_record_is_found_despite_renumbering",
        at(
            "verifier:Verifier._check",
            replace("step.version != instance.version + 1", "step.version <= instance.version"),
        ),
    ),
    Mutant(
        "A session lives one millisecond longer than its idle timeout says.",
        "no_early_expiry",
        "test_a_session_is_refused_at_its_exact_deadline",
        at("session:alive", replace("now_ms < session.idle_deadline_ms", "now_ms <= session.idle_deadline_ms")),
    ),
    Mutant(
        "Activity restarts both clocks, so that who stays active stays logged in for ever.",
        "no_early_expiry",
        "test_every_edge_keeps_every_promise",
        at("session:_touched", replace("idle_deadline_ms=...", "**..., absolute_deadline_ms=2 * deadline_ms")),
        says="in no_early_expiry",
    ),
    Mutant(
        "A guard that must not hold is never asked, so that a living session expires.",
        "no_early_expiry",
        "test_a_session_is_refused_at_its_exact_deadline",
        at("table:Table.step", replace("guard(instance, data, now_ms) is not expected", "... and expected")),
    ),
    Mutant(
        "A refresh is recorded for a token that is in a second hand.",
        "rotation",
        "test_the_trace_shows_one_exchange_and_the_end_by_reuse",
        at("refresh_tokens:honoured", replace("return None", "return IssuedToken(rotation, now_ms)")),
        says="rotation:",
    ),
    Mutant(
        "A refresh token that was exchanged is answered for ever.",
        "rotation",
        "test_every_edge_keeps_every_promise",
        at("refresh_tokens:IssuedToken.honoured_at", returns("True")),
        says="in rotation",
    ),
    Mutant(
        "What was issued after the token that is exchanged stays good for ever.",
        "rotation",
        "test_a_copy_used_in_step_is_detected_at_the_next_exchange",
        at(
            "refresh_tokens:exchange",
            replace("now_ms < token.issued_at_ms + grace_ms and ...", "token.rotation > rotation or ..."),
        ),
    ),
    Mutant(
        "Only the token before the newest has a grace.",
        "rotation",
        "test_three_tabs_keep_every_token_that_a_jar_may_hold",
        at(
            "refresh_tokens:exchange",
            replace("now_ms < until_ms", "now_ms < until_ms and token.rotation + 1 >= tokens[-1].rotation + 1"),
        ),
    ),
    Mutant(
        "A token is given up after its grace, though no answer to it was used.",
        "rotation",
        "test_a_token_with_an_unused_successor_is_honoured_after_the_grace",
        at("refresh_tokens:exchange", replace("used_at_ms=used_at_ms", "**..., until_ms=now_ms + grace_ms")),
    ),
    Mutant(
        "A token whose answer comes late is given up when a newer one is used.",
        "rotation",
        "test_a_token_from_a_late_answer_is_honoured",
        at(
            "refresh_tokens:exchange",
            replace(
                "token.used_at_ms is None or token.used_at_ms > issued_at_ms",
                "token.used_at_ms is not None and token.used_at_ms > issued_at_ms",
            ),
        ),
    ),
    Mutant(
        "Each use of another token gives an old one another grace.",
        "rotation",
        "test_repeats_do_not_extend_the_time_of_pending_answers",
        at(
            "refresh_tokens:exchange",
            replace("moved_on_ms if token.until_ms is None else min(token.until_ms, moved_on_ms)", "now_ms + grace_ms"),
        ),
    ),
    Mutant(
        "A socket hears that its session ended, and stays open.",
        "revocation_fence",
        "test_a_sessions_end_is_acknowledged_after_its_sockets_are_closed",
        at("conversation:Conversation.observe", drop("self.close(Close('session_ended', move.data.reason))")),
        says="revocation_fence:",
    ),
    Mutant(
        "Only a revocation closes sockets; a deadline that passes does not.",
        "expired_closes",
        "test_an_expiring_session_traces_the_close_of_its_sockets",
        at(
            "conversation:Conversation.observe",
            replace("move.target in FINAL_STATES", "move.event == 'revoke'"),
        ),
        says="revocation_fence:",
    ),
)
