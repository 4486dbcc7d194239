"""The measures of chapter 8: who may do what."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_MEASURES: Final = "tests/server/test_session_measures.py::"
_CALLS: Final = (
    "tests/server/test_authorization.py::test_each_call_takes_the_credential_that_is_documented_and_no_other"
)
_ADMIN: Final = "tests/server/test_admin.py::"

RIGHTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "what-a-token-opens-is-not-said",
        "docs/explanation/security.md",
        "The documentation does not say that a session never sees another account's.",
        "8.1.1",
        "tests/docs/test_asvs.py::test_the_security_model_says_what_each_credential_opens",
        "It never sees another account's session",
        ((" It never sees another account's\n  session: that answers 404, as one that does not exist does.\n", "\n"),),
    ),
    Mutant(
        "a-call-said-to-be-for-everybody",
        "server/experience/endpoints/sessions.py",
        "The documentation says that anybody may ask for the list of sessions, which is not so.",
        "8.1.1",
        _CALLS,
        "GET /api/sessions with none: 401",
        (
            (
                "    security=SECURITY,\n)\nasync def list_sessions(",
                ")\nasync def list_sessions(",
            ),
        ),
    ),
    Mutant(
        "an-administrators-call-for-everybody",
        "server/experience/endpoints/admin.py",
        "One call of administrators forgets to ask who is calling.",
        "8.2.1",
        _CALLS,
        "GET /api/admin/sessions/{session_id} with none: 404",
        (
            (
                "    guards=[administrator],\n)\nasync def get_any_session(",
                ")\nasync def get_any_session(",
            ),
        ),
    ),
    Mutant(
        "an-anonymous-session-buys-tickets",
        "server/experience/endpoints/sessions.py",
        "A session on which nobody has logged in buys a ticket for a WebSocket.",
        "8.2.1",
        "tests/server/test_bad_requests.py::test_an_anonymous_session_may_not_do_what_needs_an_account",
        "assert 201 == 403",
        (
            ("    if session.subject is None or token is None:\n", "    if token is None:\n"),
            ('"ticket", session.subject)\n', '"ticket", session.subject or session.session_id)\n'),
        ),
    ),
    Mutant(
        "any-session-is-ended-by-its-id",
        "server/experience/endpoints/sessions.py",
        "Whoever knows the id of a session ends it, whose ever it is.",
        "8.2.2",
        "tests/server/test_bad_requests.py::test_another_users_session_and_none_at_all_are_not_told_apart[user]",
        "assert 204 == 404",
        (
            (
                "        if session.subject is not None and session.subject == own.subject:\n",
                "        if session.subject is not None:\n",
            ),
        ),
    ),
    Mutant(
        "any-session-is-seen-by-its-id",
        "server/experience/endpoints/sessions.py",
        "Whoever names the id of a session in the address is shown that one.",
        "8.2.2",
        "tests/server/test_authorization.py::test_what_belongs_to_another_account_is_not_there",
        'assert others["session_id"] not in http.get(',
        (
            (
                "    return session_view(await caller(services_of(request), request.scope))\n",
                (
                    "    services = services_of(request)\n"
                    "    own = await caller(services, request.scope)\n"
                    '    wanted = request.query_params.get("session_id", own.session_id)\n'
                    "    return session_view(await services.sessions.load(wanted))\n"
                ),
            ),
        ),
    ),
    Mutant(
        "a-socket-lives-by-anybodys-token",
        "server/experience/websocket.py",
        "An open socket is kept open with the token of another account.",
        "8.2.2",
        "tests/server/test_bad_sockets.py::test_a_foreign_or_bad_token_on_the_open_socket_closes_it",
        "TimeoutError",
        (
            (
                (
                    "            if proof.session.session_id != conversation.session_id:\n"
                    '                raise CredentialInvalid("the token is of another session")'
                    "  # noqa: TRY301  # as any bad one\n"
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "fields-that-nobody-asked-for",
        "server/experience/endpoints/auth.py",
        "Whoever registers or logs in may send any fields beside address and password.",
        "8.2.3",
        "tests/server/test_authorization.py::test_no_field_is_set_that_the_server_decides",
        "assert 201 == 400",
        (
            (
                "class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):\n",
                "class Credentials(msgspec.Struct, frozen=True):\n",
            ),
        ),
    ),
    Mutant(
        "administrators-see-the-hash",
        "server/experience/endpoints/admin_answers.py",
        "Administrators are shown the hash of an account's password.",
        "8.2.3",
        _ADMIN + "test_accounts_are_listed_found_and_shown_without_what_is_secret",
        "'password_hash'",
        (
            (
                "    disabled_at: Time | None\n",
                "    disabled_at: Time | None\n    password_hash: str | None\n",
            ),
            (
                "        disabled_at=None if account.disabled_at_ms is None else rfc3339(account.disabled_at_ms),\n",
                (
                    "        disabled_at=None if account.disabled_at_ms is None else rfc3339(account.disabled_at_ms),\n"
                    "        password_hash=account.password_hash,\n"
                ),
            ),
        ),
    ),
    Mutant(
        "a-header-says-who-it-is",
        "server/experience/credentials.py",
        "A request without a token is taken for whom its header X-Session-Id names, as if a proxy had set it.",
        "8.3.1",
        _MEASURES + "test_what_a_client_says_of_itself_opens_nothing",
        "AssertionError: /api/session\n",
        (
            (
                "    if token is None:\n        raise CredentialMissing(",
                (
                    '    told = header(scope, b"x-session-id")\n'
                    "    if token is None and told is not None:\n"
                    "        return await services.sessions.load(told)\n"
                    "    if token is None:\n        raise CredentialMissing("
                ),
            ),
        ),
    ),
    Mutant(
        "an-administrator-by-name",
        "server/guard/secrets.py",
        "Whoever names an administrator is one: the secret behind the name is not compared.",
        "8.3.1",
        _CALLS,
        "with foreign: 200",
        (
            (
                "        return name if hmac.compare_digest(expected, _hash(presented)) else None\n",
                "        return name if expected != _UNKNOWN_HASH else None\n",
            ),
        ),
    ),
    Mutant(
        "a-good-token-is-believed-for-a-second",
        "server/experience/credentials.py",
        "What a token opened a moment ago it opens again without a look at its session.",
        "8.3.2",
        _MEASURES + "test_the_end_of_a_session_counts_before_it_is_answered",
        "assert 200 == 401",
        (
            (
                '_BEARER: Final = b"bearer "\n',
                '_BEARER: Final = b"bearer "\n_BELIEVED: dict[str, tuple[int, Any]] = {}\n',
            ),
            (
                "    claims = services.tokens.check_access_token(token)\n    note_session",
                (
                    "    claims = services.tokens.check_access_token(token)\n"
                    "    until_ms, proof = _BELIEVED.get(token, (0, None))\n"
                    "    if services.clock.now_ms() < until_ms:\n"
                    "        return proof\n"
                    "    note_session"
                ),
            ),
            (
                "    return Proof(session, claims.exp * 1000, kid_of(token))\n",
                (
                    "    proof = Proof(session, claims.exp * 1000, kid_of(token))\n"
                    "    _BELIEVED[token] = services.clock.now_ms() + 1000, proof\n"
                    "    return proof\n"
                ),
            ),
        ),
    ),
    Mutant(
        "a-removed-secret-is-good-until-the-next-start",
        "server/guard/secrets.py",
        "Administrators' secrets are read at the start, and what is removed later goes on.",
        "8.3.2",
        "tests/server/test_admin_credentials.py::test_secrets_are_made_and_removed_while_the_server_runs",
        "assert 200 == 401",
        (("            if seen != self._seen:\n", "            if not self._seen:\n"),),
    ),
    Mutant(
        "groups-count-when-the-session-moves",
        "server/experience/endpoints/forward_auth.py",
        "A proxy is told the groups of before until something else happens in the session.",
        "8.3.2",
        "tests/server/test_forward_auth.py::test_a_change_of_the_account_counts_from_the_next_answer_on",
        "== 'staff'",
        (
            (
                "            and known.identity is self._services.known_accounts.known(known.identity.subject)\n",
                "",
            ),
        ),
    ),
)
