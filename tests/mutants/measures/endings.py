"""The measures of chapter 7 about how sessions end, and what needs a new proof of who one is."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_MEASURES: Final = "tests/server/test_session_measures.py::"
_CHANGE: Final = (
    "tests/server/test_small_measures.py::test_a_password_is_changed_with_the_current_one_and_the_other_sessions_end"
)
_ADMIN: Final = "tests/server/test_admin.py::"
_LONG_AGO: Final = "tests/server/test_recent_login.py::test_whoever_logged_in_long_ago_ends_no_session_but_the_own"
_CLAIMS: Final = "tests/server/test_exchange_attacks.py::test_a_claim_that_does_not_hold_is_refused"

ENDINGS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "a-logout-that-only-the-browser-notices",
        "server/experience/endpoints/auth.py",
        "A logout removes the cookie and ends nothing.",
        "7.4.1",
        "tests/server/test_cookies.py::test_logout_by_cookie_ends_the_session_and_clears_the_cookie",
        "assert (200, '') == (401, 'session-ended')",
        (
            (
                'await services.sessions.end(session, "logout", session.subject or "anonymous")',
                "None",
            ),
        ),
    ),
    Mutant(
        "a-session-that-the-cookie-forgot-lives-on",
        "server/experience/jar.py",
        "A browser's session whose cookie another tab's answer has overwritten is not looked for.",
        "7.4.1",
        "tests/server/test_jar.py::test_of_two_first_calls_at_once_the_next_one_leaves_one_session",
        "assert None == 'replaced'",
        (("{}, _markers(services, scope), [])", "{}, {}, [])"),),
    ),
    Mutant(
        "two-calls-of-a-browser-end-each-other",
        "server/experience/jar.py",
        "A call ends the other sessions of its browser, though another call has ended its own meanwhile.",
        "7.4.1",
        "tests/server/test_jar_at_once.py::test_a_login_at_the_same_time_as_another_call_leaves_one_session[login]",
        "Extra items in the left set",
        (
            (
                'await services.sessions.end(other, "replaced", "server", kept=session)',
                'await services.sessions.end(other, "replaced", "server")',
            ),
        ),
    ),
    Mutant(
        "an-expired-token-hides-the-cookie-at-logout",
        "server/experience/jar.py",
        "A logout with a bearer token that opens nothing does not look at the cookie.",
        "7.4.1",
        "tests/server/test_several_credentials.py::test_a_logout_ends_the_cookies_session_whatever_the_bearer_token_is",
        "(401, True) == (204, True)",
        (
            (
                "        if token is not None:\n            with _noted(found):\n",
                (
                    "        if token is not None and not any(type(each) is not CredentialMissing for each in found.refused):\n"
                    "            with _noted(found):\n"
                ),
            ),
            ("    CredentialRefused,\n", "    CredentialMissing,\n    CredentialRefused,\n"),
        ),
    ),
    Mutant(
        "sockets-outlive-their-session",
        "machine/conversation.py",
        "The end of a session closes none of its sockets.",
        "7.4.1",
        _MEASURES + "test_the_end_of_a_session_counts_before_it_is_answered",
        "the socket that was open",
        (
            (
                '            self.close(Close("session_ended", session.reason or ""))\n        elif',
                "            pass\n        elif",
            ),
        ),
    ),
    Mutant(
        "expired-sessions-stay-open",
        "server/runtime/expiry.py",
        "Nobody writes down that a session has expired, so that its sockets stay open.",
        "7.4.1",
        "tests/server/test_expiry.py::test_a_session_ends_at_its_deadline_and_not_a_millisecond_before",
        "== ('expired', 'idle')",
        (
            (
                'await self._sessions.insist(session_id, "server", Expire(overdue_reason(session, now_ms)))\n',
                "Expire(overdue_reason(session, now_ms))\n",
            ),
        ),
    ),
    Mutant(
        "a-disabled-account-stays-where-it-is",
        "server/runtime/administration.py",
        "Disabling an account refuses later logins and leaves its sessions alone.",
        "7.4.2",
        _ADMIN + "test_a_login_that_races_the_disable_leaves_no_living_session",
        "== []",
        (
            (
                'account, await self._account_sessions.end_all(account_id, "account_disabled", caller.actor)\n',
                "account, []\n",
            ),
        ),
    ),
    Mutant(
        "a-disabled-account-logs-in-again",
        "server/guard/accounts.py",
        "Disabling an account ends its sessions, and its owner logs in again.",
        "7.4.2",
        _ADMIN + "test_a_disabled_account_is_out_at_once_and_stays_out",
        "assert 200 == 403",
        (
            ("        ensure_enabled(account)\n", ""),
            ("        return self._store.still(account)\n", "        return lambda _: None\n"),
        ),
    ),
    Mutant(
        "a-disabled-account-comes-in-by-its-provider",
        "server/surface/identities.py",
        "Whoever's account is disabled logs in to it at the identity provider.",
        "7.4.2",
        "tests/server/test_identities.py::TestSqliteIdentities::test_a_disabled_account_is_refused_and_stays_as_it_is",
        "DID NOT RAISE",
        (("        if disabled_at_ms is not None:\n", "        if disabled_at_ms == 0:\n"),),
    ),
    Mutant(
        "an-exchange-overtakes-the-disable",
        "server/guard/oidc/upstream.py",
        "Nobody looks whether the account was disabled while its owner came in from the identity provider.",
        "7.4.2",
        "tests/server/test_identities.py::test_an_account_that_is_disabled_while_its_owner_comes_in",
        "assert (200, None) == (403, ",
        (("self._accounts.still(account))", "lambda _: None)"),),
    ),
    Mutant(
        "a-start-leaves-disabled-accounts-in",
        "server/wiring.py",
        "What a server that died in the middle of a disable left of the account's sessions goes on after its next start.",
        "7.4.2",
        "tests/faults/test_fail_closed.py"
        "::test_a_disable_in_the_middle_of_which_the_server_died_is_finished_by_its_next_start",
        "assert 200 == 401",
        (
            (
                "        of_disabled = await end_of_disabled(account_sessions, surface.accounts)\n",
                "        of_disabled = 0\n",
            ),
        ),
    ),
    Mutant(
        "a-new-password-ends-nothing",
        "server/experience/endpoints/auth.py",
        "A change of the password leaves the account's other sessions open.",
        "7.4.3",
        _CHANGE,
        "== (401, 'password_changed')",
        (
            (
                '    ended = await end_all(subject, "password_changed", subject, but=session.session_id)\n',
                "    ended = []\n",
            ),
        ),
    ),
    Mutant(
        "nobody-knows-who-ended-it",
        "server/runtime/administration.py",
        "A session that an administrator ends has nobody's name on its end.",
        "7.4.5",
        _ADMIN + "test_any_session_is_ended_and_the_log_says_by_whom",
        "'server' != 'admin:ada'",
        (
            (
                '        return await self._sessions.end(session, "revoked", caller.actor)\n',
                '        return await self._sessions.end(session, "revoked", "server")\n',
            ),
        ),
    ),
    Mutant(
        "one-session-of-an-account-is-left",
        "server/runtime/account_sessions.py",
        "Of all sessions of an account that an administrator ends, the newest goes on.",
        "7.4.5",
        _ADMIN + "test_all_sessions_of_an_account_are_ended_and_nobody_elses",
        "assert 1 == 2",
        (
            (
                "for each in page if each.session_id != but]\n",
                "for each in page[1:] if each.session_id != but]\n",
            ),
        ),
    ),
    Mutant(
        "everybodys-sessions-but-most",
        "docs/how-to/administer.md",
        "What administrators are told to do to end everybody's sessions ends those with a socket only.",
        "7.4.5",
        "tests/docs/test_administer.py::test_the_guide",
        "those of everybody",
        (("for STATE in authenticated connected; do", "for STATE in connected; do"),),
    ),
    Mutant(
        "a-password-is-changed-by-whoever-sits-there",
        "server/guard/accounts.py",
        "The current password is not looked at when it is changed.",
        "7.5.1",
        _CHANGE,
        "assert 200 in {400, 403}",
        (
            (
                "        if not await self._passwords.verify(stored, current, requester, count) or account is None:\n",
                "        if account is None:\n",
            ),
        ),
    ),
    Mutant(
        "an-address-is-changed-by-whoever-sits-there",
        "server/experience/endpoints/auth.py",
        "A change of the password also takes a new address, for which the password is not asked.",
        "7.5.1",
        _MEASURES + "test_what_an_account_is_found_by_is_said_at_its_making_and_at_logins_and_changed_by_nothing",
        "/api/auth/password",
        (
            (
                "    current_password: Password\n    new_password: Password\n",
                "    current_password: Password\n    new_password: Password\n    email: Email | None = None\n",
            ),
        ),
    ),
    Mutant(
        "old-logins-end-another-session",
        "server/experience/endpoints/sessions.py",
        "Whoever holds a token of a login of long ago ends another session of the account.",
        "7.5.2",
        _LONG_AGO,
        "assert 204 == 401",
        (
            (
                "    if session_id != own.session_id:\n        _ensure_recent_login(services, own)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "old-logins-end-all-other-sessions",
        "server/experience/endpoints/sessions.py",
        "Whoever holds a token of a login of long ago ends all other sessions of the account.",
        "7.5.2",
        _LONG_AGO,
        "assert 200 == 401",
        (("    _ensure_recent_login(services, own)\n    receipts", "    receipts"),),
    ),
    Mutant(
        "people-see-the-session-they-ask-from",
        "server/experience/endpoints/sessions.py",
        "The list of an account's sessions has the one that asks, and no other.",
        "7.5.2",
        _LONG_AGO,
        "nothing has ended",
        (
            (
                "    found = await services.account_sessions.page(own.subject, parse_cursor(after), limit)\n",
                "    found = [own]\n",
            ),
        ),
    ),
    Mutant(
        "any-login-at-the-provider-will-do",
        "server/guard/oidc/upstream.py",
        "How long ago the login at the identity provider was is not looked at.",
        "7.6.1",
        f"{_CLAIMS}[a login long ago]",
        "assert 200 == 401",
        (
            (
                "            and (auth_time_s is None or now_s > auth_time_s + settings.upstream_auth_age_s),\n",
                "            and auth_time_s is None,\n",
            ),
        ),
    ),
    Mutant(
        "any-strength-of-login-will-do",
        "server/guard/oidc/upstream.py",
        "How strong the login at the identity provider was is not looked at.",
        "7.6.1",
        f"{_CLAIMS}[a weaker login]",
        "assert 200 == 401",
        (("            and claims.acr not in settings.upstream_acr,\n", "            and claims.acr is None,\n"),),
    ),
    Mutant(
        "id-tokens-are-taken-as-long-as-they-live",
        "server/guard/oidc/upstream.py",
        "An ID token is taken until it expires by itself, which may be days.",
        "7.6.1",
        f"{_CLAIMS}[issued long ago]",
        "assert 200 == 401",
        (
            (
                "        until_s = min(claims.exp, claims.iat + settings.upstream_token_age_s)\n",
                "        until_s = claims.exp\n",
            ),
        ),
    ),
    Mutant(
        "id-tokens-are-taken-again-and-again",
        "server/surface/identities.py",
        "An ID token opens as many sessions as it is sent for.",
        "7.6.1",
        "tests/server/test_exchange.py::test_a_token_is_exchanged_once_even_by_many_at_a_time",
        "== [200] + [401] * 9",
        (
            (
                'if await self._reader.rows("SELECT 1 FROM exchanged_tokens WHERE token_hash = ?", arrival.token_hash):\n',
                "if not arrival.token_hash:\n",
            ),
            (
                '"INSERT INTO exchanged_tokens VALUES (?, ?)"',
                '"INSERT OR IGNORE INTO exchanged_tokens VALUES (?, ?)"',
            ),
        ),
    ),
    Mutant(
        "a-link-logs-in",
        "server/experience/endpoints/exchange.py",
        "The exchange is there as a link, too, so that a page that is loaded logs somebody in.",
        "7.6.2",
        "tests/server/test_exchange.py::test_no_link_and_no_page_load_makes_a_session",
        "assert 200 == 405",
        (
            ("from litestar import Request, Response, post\n", "from litestar import Request, Response, get, post\n"),
            (
                "HANDLERS: Final[list[ControllerRouterHandler]] = [exchange_id_token]\n",
                (
                    '@get("/api/auth/exchange")\n'
                    "async def exchange_by_link(request: Request[Any, Any, Any], id_token: str) -> Response[TokenAnswer]:\n"
                    "    answer: Response[TokenAnswer] = await exchange_id_token.fn(request, Exchange(id_token))\n"
                    "    return answer\n\n\n"
                    "HANDLERS: Final[list[ControllerRouterHandler]] = [exchange_id_token, exchange_by_link]\n"
                ),
            ),
        ),
    ),
    Mutant(
        "a-form-logs-in",
        "server/experience/middleware/requests.py",
        "A login takes address and password from a form, which any page can send.",
        "7.6.2",
        _MEASURES + "test_nothing_that_a_page_loads_and_no_form_logs_anybody_in",
        "assert (200, '') == (415, 'unsupp",
        (
            (
                '        if len(self.headers.get("content-type", "")) > _CONTENT_TYPE or',
                (
                    '        if self.content_type[0] == "application/x-www-form-urlencoded":\n'
                    "            from urllib.parse import parse_qsl\n\n"
                    "            fields = dict(parse_qsl((await self.body()).decode()))\n"
                    "            return msgspec.convert(fields, self.route_handler.parsed_data_field.annotation)\n"
                    '        if len(self.headers.get("content-type", "")) > _CONTENT_TYPE or'
                ),
            ),
        ),
    ),
)
