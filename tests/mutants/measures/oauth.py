"""The measures of chapter 10: who gets tokens, what they may decide, and how they end."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ATTACKS: Final = "tests/attacks/test_tokens.py::"
_REPLAY: Final = "tests/attacks/test_revocation_replay.py::"
_CLAIM: Final = "tests/server/test_exchange_attacks.py::test_a_claim_that_does_not_hold_is_refused"
_CLAIMS_COUNT: Final = _ATTACKS + "test_claims_that_are_not_the_sessions_as_it_stands"
_NO_TOKEN: Final = "tests/attacks/test_fronts.py::test_the_application_gets_no_token_and_its_own_cookies"
_REFRESH: Final = "tests/server/test_sessions.py::test_a_refresh_token_new_repeated_and_reused"
_CLIENT: Final = "tests/server/test_oauth.py::test_nobody_else_is_answered_and_nothing_happens"

OAUTH: Final[tuple[Mutant, ...]] = (
    Mutant(
        "a-page-gets-the-refresh-token-in-the-body",
        "server/experience/answers.py",
        "The refresh token is in the body of every answer, where a page's scripts can read it.",
        "10.1.1",
        "tests/server/test_cookies.py::test_the_refresh_token_is_in_a_cookie_that_scripts_cannot_read_and_nowhere_else",
        '"refresh_token" not in answer.json()',
        (("refresh_token=UNSET if in_cookie else refresh_token,", "refresh_token=refresh_token,"),),
    ),
    Mutant(
        "nginx-hands-the-application-access-tokens",
        "docs/how-to/behind-nginx.md",
        "The nginx of the guide hands on the header Authorization to the application.",
        "10.1.1",
        _NO_TOKEN + "[nginx]",
        "client.access_token not in answer.text",
        (
            (
                '$state;\n        proxy_set_header Authorization "";\n',
                "$state;\n",
            ),
        ),
    ),
    Mutant(
        "nginx-hands-the-application-refresh-tokens",
        "docs/how-to/behind-nginx.md",
        "The nginx of the guide hands on every cookie to the pages for everybody, which the application makes.",
        "10.1.1",
        _NO_TOKEN + "[nginx]",
        "client.refresh_token not in answer.text",
        (
            (
                (
                    '        proxy_set_header X-Session-State "";\n        proxy_set_header Authorization "";\n'
                    "        proxy_set_header Cookie $other_cookies;\n"
                ),
                '        proxy_set_header X-Session-State "";\n        proxy_set_header Authorization "";\n',
            ),
        ),
    ),
    Mutant(
        "caddy-hands-the-application-access-tokens",
        "docs/how-to/behind-caddy.md",
        "The Caddy of the guide hands on the header Authorization to the application.",
        "10.1.1",
        _NO_TOKEN + "[caddy]",
        "client.access_token not in answer.text",
        (("\theader_up -Authorization\n", ""),),
    ),
    Mutant(
        "caddy-hands-the-application-refresh-tokens",
        "docs/how-to/behind-caddy.md",
        "The Caddy of the guide takes the cookie away only where it is the first.",
        "10.1.1",
        _NO_TOKEN + "[caddy]",
        "client.refresh_token not in answer.text",
        (('"()__Host-interlock=', '"^()__Host-interlock='),),
    ),
    Mutant(
        "an-issuer-for-every-service",
        "server/guard/tokens.py",
        "A token of our issuer for another service is taken.",
        "10.3.1",
        "tests/server/test_tokens.py::test_a_bad_access_token_is_refused[another audience]",
        "DID NOT RAISE",
        (("            or claims.aud != self._audience\n", ""),),
    ),
    Mutant(
        "an-access-token-says-who-has-come",
        "server/guard/oidc/upstream.py",
        "Any token of the provider is exchanged, an access token, too.",
        "10.3.1",
        _CLAIM + "[an access token of Cognito's]",
        "assert 200 == 401",
        (('    token_use: Literal["id"] | None = None\n', ""),),
    ),
    Mutant(
        "any-subject-of-the-session",
        "server/experience/credentials.py",
        "The subject of an access token is not compared with its session's.",
        "10.3.2",
        _CLAIMS_COUNT,
        "assert 200 == 401",
        (("    if claims.sub != subject_of(session):\n", "    if not claims.sub and session.subject:\n"),),
    ),
    Mutant(
        "the-gate-looks-at-no-subject",
        "server/experience/endpoints/forward_auth.py",
        "Where the session is in memory the forward-auth call does not compare the token's subject with it.",
        "10.3.2",
        _CLAIMS_COUNT,
        "/api/forward-auth",
        ((" or claims.sub != subject_of(session):", ":"),),
    ),
    Mutant(
        "any-epoch-of-the-session",
        "server/experience/credentials.py",
        "An access token from before a login, or of a login to come, opens the session.",
        "10.3.2",
        _CLAIMS_COUNT,
        "assert 200 == 401",
        (("    if claims.epoch != session.epoch:\n", "    if session.epoch < 0:\n"),),
    ),
    Mutant(
        "a-socket-lives-by-anothers-token",
        "server/experience/websocket.py",
        "A WebSocket is kept open by the access token of any living session.",
        "10.3.2",
        _CLAIMS_COUNT,
        "DID NOT RAISE",
        (
            (
                "            if proof.session.session_id != conversation.session_id:\n",
                "            if not proof.session.session_id:\n",
            ),
        ),
    ),
    Mutant(
        "who-has-an-address-is-its-owner",
        "server/guard/oidc/upstream.py",
        "People are told from each other by the address that the provider says they have.",
        "10.3.3",
        "tests/server/test_exchange_attacks.py::test_an_address_in_a_token_opens_nobodys_account",
        "as many people as subjects",
        (("            subject=claims.sub,\n", '            subject=str(members.get("email", claims.sub)),\n'),),
    ),
    Mutant(
        "subjects-of-all-issuers-are-one",
        "server/surface/identities.py",
        "An account is found by the subject alone, whichever provider speaks of it.",
        "10.3.3",
        "tests/server/test_identities.py::TestSqliteIdentities::test_a_subject_is_somebody_else_at_another_issuer",
        'issuer="https://other.example"), "acc_2", 1) == "acc_2"',
        (
            ("WHERE issuer = ? AND subject = ?", "WHERE subject = ?"),
            (
                "        (arrival.issuer, arrival.subject),\n    ).fetchone()",
                "        (arrival.subject,),\n    ).fetchone()",
            ),
        ),
    ),
    Mutant(
        "a-weak-login-is-a-login",
        "server/guard/oidc/upstream.py",
        "The strength of the login that the setting asks for is not looked for in the token.",
        "10.3.4",
        _CLAIM + "[a weaker login]",
        "assert 200 == 401",
        (("            and claims.acr not in settings.upstream_acr,\n", '            and claims.acr == "",\n'),),
    ),
    Mutant(
        "a-login-of-long-ago-is-a-login",
        "server/guard/oidc/upstream.py",
        "A token that does not say when its owner logged in is taken for one of just now.",
        "10.3.4",
        _CLAIM + "[a login nobody knows when]",
        "assert 200 == 401",
        (
            (
                "(auth_time_s is None or now_s > auth_time_s + settings.upstream_auth_age_s)",
                "now_s > (auth_time_s or now_s) + settings.upstream_auth_age_s",
            ),
        ),
    ),
    Mutant(
        "a-refresh-token-for-good",
        "machine/session/session.py",
        "A refresh exchanges nothing: the same refresh token is good again and again.",
        "10.4.5",
        _REFRESH,
        "exchanged.session.rotation == 1",
        (("        rotation=session.rotation + 1,\n", ""),),
    ),
    Mutant(
        "an-old-refresh-token-is-no-sign-of-theft",
        "server/runtime/sessions.py",
        "A refresh token that was exchanged before is refused, and the session goes on.",
        "10.4.5",
        _REFRESH,
        "CredentialInvalid: the refresh token was superseded",
        (("            if epoch != session.epoch:\n", "            if session.subject:\n"),),
    ),
    Mutant(
        "a-grace-without-end",
        "machine/session/refresh_tokens.py",
        "A refresh token that was exchanged is answered for ever.",
        "10.4.5",
        _REFRESH,
        "DID NOT RAISE",
        (("        return self.until_ms is None or now_ms < self.until_ms\n", "        return True\n"),),
    ),
    Mutant(
        "each-refresh-gives-more-time",
        "machine/session/session.py",
        "A refresh moves the absolute deadline, and with it the end of the refresh tokens.",
        "10.4.8",
        "tests/server/test_expiry.py::test_however_often_they_are_exchanged_refresh_tokens_end_with_the_session",
        "DID NOT RAISE",
        (
            (
                "        rotation=session.rotation + 1,\n",
                (
                    "        rotation=session.rotation + 1,\n"
                    "        absolute_deadline_ms=step.at_ms + session.policy.absolute_timeout_ms,\n"
                ),
            ),
        ),
    ),
    Mutant(
        "what-was-ended-still-opens",
        "server/experience/credentials.py",
        "An access token is good until it expires, though its owner has ended the session.",
        "10.4.9",
        _REPLAY + "test_replay_after_the_end_and_after_a_restart",
        "== (401, problem)",
        (
            (
                "        check(session, services.clock.now_ms())\n        if claims.epoch",
                "        if claims.epoch",
            ),
        ),
    ),
    Mutant(
        "people-end-the-session-at-hand-only",
        "server/experience/endpoints/sessions.py",
        "Of their sessions people find, and may end, the one that they are asking with.",
        "10.4.9",
        "tests/server/test_recent_login.py::test_a_recent_login_is_proof_enough",
        "assert 404 == 204",
        (
            (
                "        if session.subject is not None and session.subject == own.subject:\n",
                "        if session.session_id == own.session_id:\n",
            ),
        ),
    ),
    Mutant(
        "a-client-is-taken-at-its-word",
        "server/experience/endpoints/oauth.py",
        "A client that is registered is let in by its name, and its secret is not checked.",
        "10.4.10",
        _CLIENT,
        "assert (200, 'application/json') == (401, ",
        (("    if services.clients.check(secret) != name:\n", "    if name not in services.clients.names():\n"),),
    ),
    Mutant(
        "any-clients-secret-will-do",
        "server/experience/endpoints/oauth.py",
        "A client may show another client's secret.",
        "10.4.10",
        _CLIENT,
        "assert (200, 'application/json') == (401, ",
        (("    if services.clients.check(secret) != name:\n", "    if services.clients.check(secret) is None:\n"),),
    ),
    Mutant(
        "clients-secrets-lie-about",
        "server/guard/secrets.py",
        "The secrets of clients are kept as they are, and not as hashes.",
        "10.4.10",
        "tests/server/test_cli_keys.py::test_clients_are_made_shown_and_removed",
        "as a hash",
        (
            (
                '    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()\n',
                "    return ascii(secret)\n",
            ),
        ),
    ),
)
