"""Bugs in what decides: the declaration, its guards, the fold, the verifier, the conversation."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_EXHAUSTIVE: Final = "tests/machine/test_exhaustive.py::test_every_edge_keeps_every_promise"
_SESSION: Final = "tests/machine/test_session.py::"
_LEDGER: Final = "tests/machine/test_ledger.py::"
_TRACE: Final = "tests/server/test_trace.py::"

OF_MACHINE: Final[tuple[Mutant, ...]] = (
    Mutant(
        "anybody-reauthenticates",
        "machine/session/session.py",
        "Whoever proves to be somebody takes over a session that is another's.",
        "declared_only",
        _EXHAUSTIVE,
        "in declared_only",
        (("    return bool(session.subject == data.subject)\n", "    return True\n"),),
    ),
    Mutant(
        "one-connection-over-the-limit",
        "machine/session/session.py",
        "The limit of connections is off by one.",
        "declared_only",
        _EXHAUSTIVE,
        "in declared_only",
        (("len(session.connections) < session.policy", "len(session.connections) <= session.policy"),),
    ),
    Mutant(
        "a-stranger-disconnects",
        "machine/session/session.py",
        "A connection that the session does not hold is disconnected.",
        "declared_only",
        _EXHAUSTIVE,
        "in declared_only",
        (
            (
                "    return data.connection_id in [connection.connection_id for connection in session.connections]\n",
                "    return True\n",
            ),
        ),
    ),
    Mutant(
        "a-revoked-session-has-not-ended",
        "machine/session/session.py",
        "Only a session whose deadline passed counts as ended; a revoked one does not.",
        "expired_absorbs",
        _EXHAUSTIVE,
        "in expired_absorbs",
        (
            (
                "        return self.state in FINAL_STATES\n",
                '        return self.state in FINAL_STATES and self.reason in ("idle", "absolute")\n',
            ),
        ),
    ),
    Mutant(
        "the-verifier-forgets-who-ended",
        "machine/verifier.py",
        "A session that ended may be created a second time, and the verifier says nothing.",
        "expired_absorbs",
        _LEDGER + "test_a_record_after_the_end_is_found",
        "the session had ended before",
        (("            if self._begun(session_id, position):\n", "            if False:\n"),),
    ),
    Mutant(
        "anonymous-sessions-connect",
        "spec/session.py",
        "The declaration lets an anonymous session open a WebSocket.",
        "authentication_first",
        _TRACE + "test_an_anonymous_session_connects_nothing",
        "authentication_first: ",
        (
            (
                '        authenticated.to(connected, cond=["alive", "below_connection_limit"])\n',
                (
                    '        authenticated.to(connected, cond=["alive", "below_connection_limit"])\n'
                    '        | created.to(connected, cond=["alive", "below_connection_limit"])\n'
                ),
            ),
        ),
    ),
    Mutant(
        "a-login-without-a-subject",
        "machine/session/session.py",
        "The first login does not say whose the session is.",
        "authentication_first",
        _SESSION + "test_a_whole_life",
        "subject=None",
        (("        subject=data.subject,\n", "        subject=session.subject,\n"),),
    ),
    Mutant(
        "the-end-keeps-connections",
        "machine/session/session.py",
        "A session that ends keeps its connections.",
        "owner_coherence",
        _EXHAUSTIVE,
        "in owner_coherence",
        (("        reason=data.reason,\n        connections=(),\n", "        reason=data.reason,\n"),),
    ),
    Mutant(
        "a-connection-held-twice",
        "machine/session/session.py",
        "A connection that opens again is held twice.",
        "owner_coherence",
        _EXHAUSTIVE,
        "in owner_coherence",
        (("(*_others(session, data.connection_id), Connection(", "(*session.connections, Connection("),),
    ),
    Mutant(
        "the-verifier-takes-a-command-twice",
        "machine/verifier.py",
        "A log that holds a command twice verifies.",
        "command_once",
        _LEDGER + "test_a_repeated_command_is_found",
        "DID NOT RAISE",
        (("        if step.command_id in commands:\n", "        if not step.command_id:\n"),),
    ),
    Mutant(
        "the-verifier-takes-a-gap",
        "machine/verifier.py",
        "A log in which a version is missing verifies.",
        "versions_gapless",
        _LEDGER + "test_a_record_cut_out_by_somebody_who_renumbers_is_found",
        "DID NOT RAISE",
        (("        if step.version != session.version + 1:\n", "        if step.version <= session.version:\n"),),
    ),
    Mutant(
        "alive-at-the-deadline",
        "machine/session/session.py",
        "A session lives one millisecond longer than its idle timeout says.",
        "no_early_expiry",
        _SESSION + "test_the_deadline_itself_is_too_late",
        '_refused(session, Touch(), 1_000) == "alive"',
        (("    return now_ms < session.idle_deadline_ms and", "    return now_ms <= session.idle_deadline_ms and"),),
    ),
    Mutant(
        "activity-puts-off-the-absolute-deadline",
        "machine/session/session.py",
        "Activity restarts both clocks, so that who stays active stays logged in for ever.",
        "no_early_expiry",
        _EXHAUSTIVE,
        "in no_early_expiry",
        (
            (
                "updated_at_ms=step.at_ms, idle_deadline_ms=deadline_ms\n",
                "updated_at_ms=step.at_ms, idle_deadline_ms=deadline_ms, absolute_deadline_ms=2 * deadline_ms\n",
            ),
        ),
    ),
    Mutant(
        "a-living-session-expires",
        "machine/table.py",
        "A guard that must not hold is never asked, so that a living session expires.",
        "no_early_expiry",
        _SESSION + "test_the_deadline_itself_is_too_late",
        '_refused(session, Expire("idle"), 999) == "not alive"',
        (("is not expected:\n", "is not expected and expected:\n"),),
    ),
    Mutant(
        "any-refresh-token-is-honoured",
        "machine/session/refresh_tokens.py",
        "A refresh is recorded for a token that is in a second hand.",
        "rotation",
        _TRACE + "test_a_refresh_token_is_exchanged_once_and_reuse_ends_the_session",
        "rotation: ",
        (
            (
                "token.honoured_at(now_ms):\n            return token\n    return None\n",
                "token.honoured_at(now_ms):\n            return token\n    return IssuedToken(rotation, now_ms)\n",
            ),
        ),
    ),
    Mutant(
        "the-grace-never-ends",
        "machine/session/refresh_tokens.py",
        "A refresh token that was exchanged is answered for ever.",
        "rotation",
        _EXHAUSTIVE,
        "in rotation",
        (("        return self.until_ms is None or now_ms < self.until_ms\n", "        return True\n"),),
    ),
    Mutant(
        "a-copy-stays-good",
        "machine/session/refresh_tokens.py",
        "What was issued after the token that is exchanged stays good for ever.",
        "rotation",
        _SESSION + "test_a_copy_that_kept_in_step_is_found_out_at_the_next_exchange",
        "== [1, 3]",
        (
            (
                "        if token.rotation == rotation:\n            used",
                "        if token.rotation >= rotation:\n            used",
            ),
        ),
    ),
    Mutant(
        "the-grace-is-of-the-one-before",
        "machine/session/refresh_tokens.py",
        "Only the token before the newest has a grace.",
        "rotation",
        _SESSION + "test_three_tabs_and_a_late_request_keep_every_token_that_a_jar_may_hold",
        "refresh refused in state authenticated: guard rotation_honoured failed",
        (
            (
                "            if now_ms < until_ms:\n",
                "            if now_ms < until_ms and token.rotation + 1 >= tokens[-1].rotation + 1:\n",
            ),
        ),
    ),
    Mutant(
        "a-lost-answer-is-theft",
        "machine/session/refresh_tokens.py",
        "A token is given up after its grace, though no answer to it was used.",
        "rotation",
        _SESSION + "test_a_token_whose_successor_was_never_used_is_honoured_after_the_grace",
        "== [0, 1]",
        (
            (
                "msgspec.structs.replace(token, used_at_ms=used_at_ms)",
                "msgspec.structs.replace(token, used_at_ms=used_at_ms, until_ms=now_ms + grace_ms)",
            ),
        ),
    ),
    Mutant(
        "a-late-answer-is-theft",
        "machine/session/refresh_tokens.py",
        "A token whose answer comes late is given up when a newer one is used.",
        "rotation",
        _SESSION + "test_a_late_answer_that_sets_the_cookie_back_is_honoured",
        "== [1, 2, 3]",
        (("(token.used_at_ms is None or token.used_at_ms", "(token.used_at_ms is not None and token.used_at_ms"),),
    ),
    Mutant(
        "a-repeat-puts-off-the-end",
        "machine/session/refresh_tokens.py",
        "Each use of another token gives an old one another grace.",
        "rotation",
        _SESSION + "test_the_end_of_what_is_under_way_is_not_put_off_by_repeats",
        "assert 0 not in",
        (("moved_on_ms if token.until_ms is None else min(token.until_ms, moved_on_ms)", "now_ms + grace_ms"),),
    ),
    Mutant(
        "an-ended-session-keeps-its-socket",
        "machine/conversation.py",
        "A socket hears that its session ended, and stays open.",
        "revocation_fence",
        _TRACE + "test_the_end_of_a_session_is_acknowledged_when_its_sockets_are_closed",
        "revocation_fence: ",
        (
            (
                '            self.close(Close("session_ended", session.reason or ""))\n',
                "            pass\n",
            ),
        ),
    ),
    Mutant(
        "an-expired-session-keeps-its-socket",
        "machine/conversation.py",
        "Only a revocation closes sockets; a deadline that passes does not.",
        "expired_closes",
        _TRACE + "test_a_session_that_expires_closes_its_sockets",
        "revocation_fence: ",
        (("        if session.ended:\n", '        if session.ended and record.transition.event == "revoke":\n'),),
    ),
)
