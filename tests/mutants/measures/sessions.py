"""The measures of chapter 7 about how sessions begin and how long they last. How they end is in endings.py."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_MEASURES: Final = "tests/server/test_session_measures.py::"
_SMALL: Final = "tests/server/test_small_measures.py::"

SESSIONS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "idle-for-an-hour",
        "server/settings.py",
        "The idle timeout is an hour unless it is set, and the documentation still says half an hour.",
        "7.1.1",
        "tests/docs/test_asvs.py::test_the_security_model_says_how_long_and_how_many_and_the_settings_agree",
        "60 minutes without activity (`idle_timeout_s`)",
        (('for this long expires.")] = 1800.0', 'for this long expires.")] = 3600.0'),),
    ),
    Mutant(
        "timeouts-without-a-reason",
        "docs/explanation/security.md",
        "The documentation says how long sessions last, and not what that is measured by.",
        "7.1.1",
        "tests/docs/test_asvs.py::test_the_security_model_says_how_long_and_how_many_and_the_settings_agree",
        "'NIST SP 800-63B-4' in",
        (("NIST SP 800-63B-4 asks for a new", "Many ask for a new"),),
    ),
    Mutant(
        "how-many-sessions-is-not-said",
        "docs/explanation/security.md",
        "The documentation does not say how many sessions an account may have at once.",
        "7.1.2",
        "tests/docs/test_asvs.py::test_the_security_model_says_how_long_and_how_many_and_the_settings_agree",
        "assert 'An account may have as many sessions at once as its owner opens",
        (
            (
                (
                    "An account may have as many sessions at once as its owner opens: none is ended because another"
                    " begins. All are listed, and each can be ended. A session"
                ),
                "A session",
            ),
        ),
    ),
    Mutant(
        "one-session-at-a-time",
        "server/experience/endpoints/auth.py",
        "A login ends the other sessions of its account, of which the documentation says nothing.",
        "7.1.2",
        _MEASURES + "test_no_login_ends_another_session_of_the_account",
        "assert [401, ",
        (
            (
                'account.account_id, "password", along=still)\n',
                (
                    'account.account_id, "password", along=still)\n'
                    "    own, subject = answer.content.session_id, account.account_id\n"
                    '    await services.account_sessions.end_all(subject, "revoked", subject, but=own)\n'
                ),
            ),
        ),
    ),
    Mutant(
        "a-logout-at-the-provider-is-not-spoken-of",
        "docs/how-to/use-an-identity-provider.md",
        "The guide does not say what becomes of a session when its person logs out at the identity provider.",
        "7.1.3",
        "tests/docs/test_identity_provider.py::test_the_table_says_of_each_event_what_becomes_of_the_session",
        "== list(ROWS)",
        (
            (
                (
                    "| the person logs out at the provider, or is removed there | nothing at once; it ends at its own deadlines"
                    " (`idle_timeout_s`, `absolute_timeout_s`) |\n"
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "signatures-are-not-looked-at",
        "server/guard/tokens.py",
        "The server believes what an access token says, whoever signed it.",
        "7.2.1",
        "tests/scenarios/test_n06_n08_holding.py::test_n6_a_token_the_client_made_up_is_not_adopted",
        "assert 200 == 401",
        (
            (
                (
                    "            not _es256.verify(signed.encode(), key.public, canonical_bytes(signature))\n"
                    "            or claims.iss"
                ),
                "            claims.iss",
            ),
            ("        self._check_span(claims)\n", ""),
        ),
    ),
    Mutant(
        "tokens-are-believed-without-their-session",
        "server/experience/credentials.py",
        "A good token opens its session without a look at whether that still lives.",
        "7.2.1",
        "tests/attacks/test_revocation_replay.py::test_replay_after_the_end_and_after_a_restart",
        "assert (200, '') == (401, 'session-ended')",
        (
            (
                "    with naming(claims.sid):\n        check(session, services.clock.now_ms())\n        if claims",
                "    with naming(claims.sid):\n        if claims",
            ),
        ),
    ),
    Mutant(
        "a-bad-token-is-passed-over-for-somebody-elses",
        "server/experience/credentials.py",
        "Beside a token that is no good any more, a good credential of another session lets in as its owner.",
        "7.2.1",
        "tests/server/test_several_credentials.py::test_a_bad_credential_does_not_let_in_as_somebody_else",
        "assert 200 == 401",
        (("            _refuse_another(refusals, session_of(good).session_id)\n", ""),),
    ),
    Mutant(
        "a-session-has-one-access-token",
        "server/guard/tokens.py",
        "A session's access token is made once and handed out at each login and refresh.",
        "7.2.2",
        "tests/server/test_tokens.py::test_two_access_tokens_are_never_the_same",
        "in test_two_access_tokens_are_never_the_same",
        (
            (
                "        self._verified: dict[str, Claims] = {}\n",
                "        self._verified: dict[str, Claims] = {}\n        self._made: dict[str, str] = {}\n",
            ),
            (
                '        """A new access token for ``session`` as it stands."""\n',
                (
                    '        """A new access token for ``session`` as it stands."""\n'
                    "        if session.session_id in self._made:\n"
                    "            return self._made[session.session_id]\n"
                ),
            ),
            ('        return f"{signed}.', '        made = self._made[session.session_id] = f"{signed}.'),
            ('signing.private))}"\n', 'signing.private))}"\n        return made\n'),
        ),
    ),
    Mutant(
        "refreshing-gives-the-same-token-back",
        "machine/session/session.py",
        "A refresh leaves the refresh token as it is.",
        "7.2.2",
        _MEASURES + "test_each_login_and_each_refresh_makes_tokens_that_nobody_had",
        "== 7",
        (("        rotation=session.rotation + 1,\n", "        rotation=session.rotation,\n"),),
    ),
    Mutant(
        "tickets-of-64-bits",
        "server/guard/tickets.py",
        "A ticket is 64 random bits.",
        "7.2.3",
        _SMALL + "test_tickets_are_unique_and_256_bits_long",
        "assert all(re.fullmatch(",
        (("secrets.token_urlsafe(32)", "secrets.token_urlsafe(8)"),),
    ),
    Mutant(
        "macs-of-64-bits",
        "server/guard/tokens.py",
        "The MAC of a refresh token is cut to 64 bits.",
        "7.2.3",
        _MEASURES + "test_refresh_tokens_end_in_256_bits_that_say_nothing_of_each_other",
        "assert all(re.fullmatch(",
        (
            ("hmac.digest(key, message, hashlib.sha256))", "hmac.digest(key, message, hashlib.sha256)[:8])"),
            (r"([A-Za-z0-9_-]{43})\Z", r"([A-Za-z0-9_-]{11})\Z"),
        ),
    ),
    Mutant(
        "a-login-raises-no-epoch",
        "machine/session/session.py",
        "A login leaves the tokens of before it good.",
        "7.2.4",
        _MEASURES + "test_a_new_login_counts_before_it_is_answered",
        "assert 200 == 401",
        (("        epoch=session.epoch + 1,\n", "        epoch=session.epoch,\n"),),
    ),
    Mutant(
        "refresh-tokens-outlive-a-login",
        "server/guard/tokens.py",
        "The epoch is not in the MAC of a refresh token, so that one from before a login goes on.",
        "7.2.4",
        "tests/attacks/test_revocation_replay.py::test_a_cookie_that_was_planted_is_not_what_the_victim_logs_in_to",
        "assert attacker.refresh_token not in ",
        (("{session_id}\\n{epoch}\\n{rotation}", "{session_id}\\n{rotation}"),),
    ),
    Mutant(
        "tickets-outlive-a-login",
        "server/experience/credentials.py",
        "A ticket from before a login opens a socket after it.",
        "7.2.4",
        "tests/server/test_bad_sockets.py::test_a_ticket_bought_before_a_login_is_superseded",
        "DID NOT RAISE ConnectionClosed",
        (("    if taken.epoch != session.epoch:\n", "    if taken.epoch > session.epoch:\n"),),
    ),
    Mutant(
        "sockets-outlive-a-login",
        "machine/conversation.py",
        "A login does not close the sockets that were opened with the tokens of before it.",
        "7.2.4",
        _MEASURES + "test_a_new_login_counts_before_it_is_answered",
        "the socket that was open",
        (("        elif session.epoch > self._epoch:\n", "        elif session.epoch < self._epoch:\n"),),
    ),
    Mutant(
        "no-idle-timeout",
        "machine/session/session.py",
        "Only the absolute deadline ends a session.",
        "7.3.1",
        "tests/scenarios/test_n13_n16_ending.py::test_n13_a_session_ends_at_its_deadline",
        "session ended: absolute",
        (
            (
                "        return min(self.idle_deadline_ms, self.absolute_deadline_ms)\n",
                "        return self.absolute_deadline_ms\n",
            ),
        ),
    ),
    Mutant(
        "idle-sessions-open-until-somebody-tidies-up",
        "machine/session/session.py",
        "A session whose deadline has passed is good until its end is written down.",
        "7.3.1",
        "tests/server/test_forward_auth.py::test_it_counts_as_activity_and_ends_at_the_deadlines",
        "(409, 'transition-refused')",
        (("    if now_ms >= session.deadline_ms:\n        raise", "    if now_ms < 0:\n        raise"),),
    ),
    Mutant(
        "activity-keeps-a-session-for-ever",
        "machine/session/session.py",
        "Activity moves the absolute deadline, too.",
        "7.3.2",
        "tests/server/test_expiry.py::test_activity_does_not_move_the_absolute_deadline",
        "== 'absolute'",
        (
            (
                "updated_at_ms=step.at_ms, idle_deadline_ms=deadline_ms\n    )\n",
                (
                    "updated_at_ms=step.at_ms, idle_deadline_ms=deadline_ms,\n"
                    "        absolute_deadline_ms=step.at_ms + session.policy.absolute_timeout_ms,\n    )\n"
                ),
            ),
        ),
    ),
)
