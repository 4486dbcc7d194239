"""Removed measures for requirements of ASVS chapters 7, 8 and 2."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, in_text, replace
from tests.mutants.mutant import Mutant

SESSIONS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "The idle timeout is an hour unless it is set, and the documentation still says half an hour.",
        "7.1.1",
        "test_limits_in_the_security_model_match_the_settings",
        at("settings:Settings.idle_timeout_s", replace("1800.0", "3600.0")),
    ),
    Mutant(
        "A login ends the other sessions of its account, of which the documentation says nothing.",
        "7.1.2",
        "test_a_login_does_not_end_the_accounts_other_sessions",
        at(
            "auth:login",
            replace(
                "if shown.by_page:\n    ...",
                """
                own, subject = (answer.content.session_id, owner.account_id)
                await services.account_sessions.end_all(subject, 'revoked', subject, but=own)
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "A good token opens its session without a look at whether that still lives.",
        "7.2.1",
        "test_credentials_of_an_ended_session_stay_invalid_after_a_restart",
        at("authenticator:Authenticator.by_access_token", replace("check=check", "check=lambda *_: None")),
    ),
    Mutant(
        "Beside a token that is no good any more, a good credential of another session lets in as its owner.",
        "7.2.1",
        "test_a_bad_credential_does_not_fall_back_to_another_users",
        at("authenticator:first_good", drop("_refuse_another(refusals, session_of(good).session_id)")),
    ),
    Mutant(
        "A refresh leaves the refresh token as it is.",
        "7.2.2",
        "test_each_login_and_refresh_issues_new_tokens",
        at("session:_refreshed", replace("session.rotation + 1", "session.rotation")),
    ),
    Mutant(
        "The MAC of a refresh token is cut to 64 bits.",
        "7.2.3",
        "test_refresh_tokens_have_independent_256_bit_macs",
        at("tokens:_REFRESH_TOKEN", in_text("{43}", "{11}"))
        + at("tokens:_mac", replace("hmac.digest(...)", "...[:8]")),
    ),
    Mutant(
        "The epoch is not in the MAC of a refresh token, so that whoever has one writes a later epoch into it.",
        "7.2.4",
        "test_a_refresh_token_is_a_function_of_session_epoch_and_rotation",
        at("tokens:_mac", replace("epoch", "0")),
    ),
    Mutant(
        "A login does not close the sockets that were opened with the tokens of before it.",
        "7.2.4",
        "test_a_login_is_effective_before_it_is_answered",
        at(
            "conversation:Conversation.observe",
            replace("self._heard_epoch > self._epoch", "self._heard_epoch < self._epoch"),
        ),
    ),
    Mutant(
        "A session whose deadline has passed is good until its end is written down.",
        "7.3.1",
        "test_forward_auth_counts_as_activity_and_obeys_deadlines",
        at("session:ensure_alive", replace("now_ms >= session.deadline_ms", "now_ms < 0")),
    ),
    Mutant(
        "Activity moves the absolute deadline, too.",
        "7.3.2",
        "test_activity_does_not_move_the_absolute_deadline",
        at(
            "session:_touched",
            replace(
                "idle_deadline_ms=...", "**..., absolute_deadline_ms=step.at_ms + session.policy.absolute_timeout_ms"
            ),
        ),
    ),
    Mutant(
        "A browser's session whose cookie another tab's answer has overwritten is not looked for.",
        "7.4.1",
        "test_after_two_concurrent_first_calls_the_next_leaves_one_session",
        at("browser_sessions:BrowserSessions._look", replace("presented.markers", "{}")),
    ),
    Mutant(
        "A call ends the other sessions of its browser, though another call has ended its own meanwhile.",
        "7.4.1",
        "test_a_login_concurrent_with_another_call_leaves_one_session[login]",
        at("browser_sessions:BrowserSessions.keep", drop("under=authority_of(session)")),
    ),
    Mutant(
        "A logout with a bearer token that opens nothing does not look at the cookie.",
        "7.4.1",
        "test_a_logout_ends_the_cookies_session_whatever_the_bearer_token",
        at(
            "browser_sessions:BrowserSessions._look",
            replace(
                "token is not None",
                "... and not any(type(each).__name__ != 'CredentialMissing' for each in found.refused)",
            ),
        ),
    ),
    Mutant(
        "Disabling an account refuses later logins and leaves its sessions alone.",
        "7.4.2",
        "test_a_login_racing_a_disable_leaves_no_live_session",
        at(
            "administration:Administration.disable",
            replace("await self._without_sessions(outcome)", "EndedAccount(outcome.instance, None, 0)"),
        ),
    ),
    Mutant(
        "A socket of an account that was disabled stays open until the end of its session is recorded.",
        "7.4.2",
        "test_sockets_of_an_account_close_while_the_ends_of_sessions_wait",
        at("wiring:_follow", drop("feed.subscribe(connections.observe_account, ACCOUNT_MACHINE.kind)")),
    ),
    Mutant(
        "Nobody looks whether the account was disabled while its owner came in from the identity provider.",
        "7.4.2",
        "test_an_exchange_overtaken_by_a_disable_is_refused",
        at("logins:Login.record", replace("under=under", "under=None")),
    ),
    Mutant(
        "What a server that died in the middle of a disable left of the account's sessions goes on after its next start.",
        "7.4.2",
        "test_an_interrupted_disable_is_finished_by_the_next_start",
        at(
            "wiring:open_services",
            replace("await end_left_over(sessions, accounts, surface.accounts, at_once=settings.write_queue)", "0"),
        ),
    ),
    Mutant(
        "A change of the password leaves the account's other sessions open.",
        "7.4.3",
        "test_a_password_change_needs_the_current_one_and_ends_other_sessions",
        at("auth:change_password", replace("await services.logins.end_others(owner)", "[]"))
        + at("machine:ensure_serves", drop("if account.state != 'active' or epoch != account.epoch:\n    ...")),
    ),
    Mutant(
        "A session that an administrator ends has nobody's name on its end.",
        "7.4.5",
        "test_administrators_end_any_session_and_are_recorded",
        at("administration:Administration.end", replace("caller.actor", "'server'")),
    ),
    Mutant(
        "Of all sessions of an account that an administrator ends, the newest goes on.",
        "7.4.5",
        "test_administrators_end_all_sessions_of_one_account_only",
        at(
            "account_sessions:AccountSessions._for_each",
            replace("ends = ...", "...\nends = ends[1:]"),
        ),
    ),
    Mutant(
        "A change of the password also takes a new address, for which the password is not asked.",
        "7.5.1",
        "test_an_accounts_identifiers_never_change",
        at("auth:PasswordChange", replace("new_password: Password", "...\nemail: Email | None = None")),
    ),
    Mutant(
        "Whoever holds a token of a login of long ago ends all other sessions of the account.",
        "7.5.2",
        "test_an_old_login_can_end_only_its_own_session",
        at("sessions:end_other_sessions", drop("ensure_recent_login(services, own)")),
    ),
    Mutant(
        "An ID token is taken until it expires by itself, which may be days.",
        "7.6.1",
        "test_an_id_token_with_a_wrong_claim_is_refused[issued long ago]",
        at(
            "upstream:IdTokens._check_claims",
            replace("min(claims.exp, claims.iat + settings.oidc_token_age_s)", "claims.exp"),
        ),
    ),
    Mutant(
        "An ID token opens as many sessions as it is sent for.",
        "7.6.1",
        "test_an_id_token_is_exchanged_once_even_concurrently",
        at("accounts:SqliteExchangedTokens.use_up", drop("if not connection.execute(...).rowcount:\n    ..."))
        + at("logins:Logins.login_by", drop("await self._exchanged_tokens.ensure_new(identity.token_hash)")),
    ),
    Mutant(
        "A login takes address and password from the address line, where links and forms of any page can put them.",
        "7.6.2",
        "test_no_page_load_and_no_form_can_log_in",
        at(
            "guards:with_body",
            replace(
                "raise CredentialMissing(...)",
                """
                connection._body = __import__('msgspec').json.encode(dict(connection.query_params))
                connection._content_type = ('application/json', {})
                """,
            ),
        )
        + at("queries:_check_query", drop("if not taken.keys() >= set(names):\n    ...")),
    ),
    Mutant(
        "The documentation says that anybody may ask for the list of sessions, which is not so.",
        "8.1.1",
        "test_each_call_accepts_exactly_its_documented_credentials",
        at("sessions:list_sessions", drop("security=SECURITY")),
    ),
    Mutant(
        "One call of administrators forgets to ask who is calling.",
        "8.2.1",
        "test_each_call_accepts_exactly_its_documented_credentials",
        at(
            "admin:get_any_session",
            drop("guards=[administrator]"),
        ),
    ),
    Mutant(
        "Whoever knows the id of a session ends it, whose ever it is.",
        "8.2.2",
        "test_another_users_session_looks_like_a_missing_one[user]",
        at(
            "sessions:_own_session",
            replace("session.subject is not None and session.subject == own.subject", "session.subject is not None"),
        ),
    ),
    Mutant(
        "Whoever knows the id of an execution reads and cancels it, whose ever it is.",
        "8.2.2",
        "test_another_accounts_executions_are_invisible",
        at(
            "executions:Executions.owned",
            replace("session.subject is None or execution.subject != session.subject", "session.subject is None"),
        ),
    ),
    Mutant(
        "Administrators are shown an execution's parameters, which are the application's data.",
        "8.2.3",
        "test_an_execution_is_shown_without_its_data",
        at("administration.responses:AdminExecutionView", replace("reason: ...", "...\nparameters: str"))
        + at("administration.responses:admin_execution", replace("reason=...", "**..., parameters='canary'")),
    ),
    Mutant(
        "An open socket is kept open with the token of another account.",
        "8.2.2",
        "test_a_foreign_or_bad_token_closes_an_open_socket",
        at(
            "socket:Socket._reauthorise",
            drop("""
            if found.session.session_id != conversation.session_id:
                ...
            """),
        ),
    ),
    Mutant(
        "Whoever registers or logs in may send any fields beside address and password.",
        "8.2.3",
        "test_clients_can_not_set_the_servers_fields",
        at("auth:Credentials", drop("forbid_unknown_fields=True")),
    ),
    Mutant(
        "Administrators are shown the hash of an account's password.",
        "8.2.3",
        "test_administrators_see_accounts_without_secrets",
        at("responses:AdminAccountView", replace("disabled_at: ...", "...\npassword_hash: str | None"))
        + at("responses:admin_account", replace("disabled_at=...", "**..., password_hash=account.password_hash")),
    ),
    Mutant(
        "A request without a token is taken for whom its header X-Session-Id names, as if a proxy had set it.",
        "8.3.1",
        "test_identity_headers_of_a_client_are_ignored",
        at(
            "credentials:authenticate_bearer",
            replace(
                "if not isinstance(token, str):\n    ...",
                """
                told = header(scope, b'x-session-id')
                if not isinstance(token, str) and told is not None:
                    session = await services.sessions.load(told)
                    return Authentication(session, session.deadline_ms, services.keys.signing.kid)
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "What a token opened a moment ago it opens again without a look at its session.",
        "8.3.2",
        "test_a_sessions_end_is_effective_before_it_is_answered",
        at(
            "authenticator:Authenticator.by_access_token",
            replace(
                "note_session(claims.sid)",
                """
                until_ms, known = Authenticator.by_access_token.__dict__.get(token, (0, None))
                if self._clock.now_ms() < until_ms:
                    return known
                ...
                """,
            ),
            replace(
                "return Authentication(session, ...)",
                """
                known = Authentication(session, claims.exp * 1000, kid_of(token))
                Authenticator.by_access_token.__dict__[token] = self._clock.now_ms() + 1000, known
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "Administrators' secrets are read at the start, and what is removed later goes on.",
        "8.3.2",
        "test_secrets_can_be_made_and_removed_while_the_server_runs",
        at("secret_files:SecretFiles.names", replace("seen != self._seen", "not self._seen")),
    ),
    Mutant(
        "A proxy is told the groups of before until something else happens in the session.",
        "8.3.2",
        "test_an_account_change_shows_in_the_next_forward_auth_answer",
        at(
            "forward_auth:ForwardAuth._holds",
            drop("known.account is self._services.accounts.cached(known.account.account_id)"),
        ),
    ),
    Mutant(
        "The database no longer looks whether a transition is declared.",
        "2.3.1",
        "test_an_illegal_row_is_refused",
        at(
            "schema:_APPEND_ONLY",
            in_text(
                "WHERE (kind, event, source, target) = (NEW.kind, NEW.event, coalesce(NEW.source, ''), NEW.target));",
                "WHERE kind = NEW.kind);",
            ),
        ),
    ),
    Mutant(
        "What a call has written before it is refused stays.",
        "2.3.3",
        "TestSqliteAccounts::test_refused_steps_leave_no_accompanying_data",
        at("writer:Writer._run_alone", replace("self._undo('ROLLBACK TO unit')\nreturn error", "return error")),
    ),
    Mutant(
        "A ticket is not removed when it is used.",
        "2.3.4",
        "TestSqliteTickets::test_one_of_many_concurrent_redemptions_succeeds",
        at(
            "tickets:SqliteTickets.take",
            replace(
                "'DELETE FROM tickets WHERE ticket_hash = ? RETURNING *'",
                "'SELECT * FROM tickets WHERE ticket_hash = ?'",
            ),
        ),
    ),
    Mutant(
        "Those who arrive at the same moment are counted when they are there.",
        "2.3.4",
        "test_concurrent_connects_can_not_exceed_the_servers_limit",
        at(
            "connections:Connections.arriving",
            drop("self._count += 1"),
            replace("self._arriving.discard(connection_id)", "...\nself._count += 1"),
        ),
    ),
    Mutant(
        "When many keys have come, the table of limits is begun anew so that it does not grow.",
        "2.4.1",
        "test_a_crowd_of_made_up_keys_changes_hardly_any_other_limit",
        at("rate_limit:Limiter.__init__", replace("self._mask = cells - 1", "self._taken = 0\n..."))
        + at(
            "rate_limit:Limiter.take",
            replace(
                "now_us = now_ms * _US_PER_MS",
                """
                self._taken += 1
                if self._taken % 4096 == 0:
                    self._cells = memoryview(bytearray(8 * len(self._cells))).cast('q')
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "As many as like may wait for the disk.",
        "2.4.1",
        "TestSqliteLog::test_writes_beyond_the_queues_limit_are_refused",
        at("workers:Workers.give", drop("if len(self._unsettled) >= self._max_waiting:\n    ...")),
    ),
)
