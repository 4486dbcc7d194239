"""The measures of 16.2 to 16.4: what the log says, of whom, and what it never says."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_LOGS: Final = "tests/server/test_logs.py::"
_SECURITY: Final = "tests/server/test_security_log.py::"
_ATTACKS: Final = "tests/server/test_log_of_attacks.py::"
_FAULTS: Final = "tests/server/test_own_faults.py::"

LOGS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "lines-without-a-time",
        "server/telemetry/logs.py",
        "The log leaves the time to whoever collects it.",
        "16.2.1",
        _LOGS + "test_a_line_says_when_and_what_and_what_belongs_to_the_request",
        "KeyError: 'timestamp'",
        (('        structlog.processors.TimeStamper(fmt="iso", utc=True),\n', ""),),
    ),
    Mutant(
        "lines-that-name-the-proxy",
        "server/experience/middleware/observed.py",
        "Lines name the address that the connection came from: behind a proxy, the proxy's.",
        "16.2.1",
        _ATTACKS + "test_behind_a_proxy_a_line_names_the_client_and_not_the_proxy",
        'assert (row["client"], row["request_id"]) ==',
        (
            (
                "begin_request(request_id, note_address(services, scope))",
                'begin_request(request_id, note_address(services, scope) and scope["client"][0])',
            ),
        ),
    ),
    Mutant(
        "garbage-from-nobody",
        "server/experience/transport/http.py",
        "Of what is no HTTP the log says that it came, and not from where.",
        "16.2.1",
        _ATTACKS + "test_what_is_no_request_has_a_line_with_whose_it_was",
        'assert row.items() >= {"client": "127.0.0.1", **about}.items()',
        (('"traffic.unreadable", client=self._slot.address, status', '"traffic.unreadable", status'),),
    ),
    Mutant(
        "failed-logins-of-nobody",
        "server/guard/throttling/logins.py",
        "A failed login is logged without the account that was tried.",
        "16.2.1",
        "tests/server/test_events.py::test_what_is_declared_is_logged_with_all_its_fields",
        "login.failed: nothing logs ['account']",
        (("account=name, address=client.address", "address=client.address"),),
    ),
    Mutant(
        "credentials-are-not-masked",
        "server/telemetry/logs.py",
        "What has the form of a credential is logged as it is.",
        "16.2.5",
        _LOGS + "test_what_looks_like_a_credential_is_masked",
        'if "(masked)" in line] == log()',
        (("text = _CREDENTIAL.sub(_MASK, value)", "text = value"),),
    ),
    Mutant(
        "errors-with-their-words",
        "server/telemetry/logs.py",
        "An exception is logged with its message, whatever that quotes.",
        "16.2.5",
        _LOGS + "test_an_exception_is_kinds_and_places_without_words_or_variables",
        'assert "correct horse" not in line',
        (
            (
                '    if isinstance(error, InterlockError | OSError):\n        name = f"{name}: {error}"\n',
                '    name = f"{name}: {error}"\n',
            ),
        ),
    ),
    Mutant(
        "failed-logins-by-address",
        "server/guard/throttling/logins.py",
        "A failed login is logged with the email address that was tried.",
        "16.2.5",
        "tests/attacks/test_stuffing.py::"
        "test_what_failed_is_in_the_log_without_address_of_an_account_and_without_password",
        "assert victim not in log.lower()",
        (("            name = self._pseudonyms.of_email(email)\n", "            name = email\n"),),
    ),
    Mutant(
        "the-address-that-was-asked-for",
        "server/experience/problems.py",
        "A refused request is logged with the address that was asked for, not with the route's template.",
        "16.2.5",
        _ATTACKS + "test_nothing_of_a_request_is_logged_as_it_came",
        "if SECRET in line or client.email in line] == []",
        (('"route": scope.get("path_template", "none"),', '"route": scope["path"],'),),
    ),
    Mutant(
        "good-logins-are-not-logged",
        "server/telemetry/watch.py",
        "A login that succeeded has no line.",
        "16.3.1",
        _SECURITY + "test_logins_and_failed_ones",
        'one(logged, came, "login.succeeded")',
        (
            (
                '            _log.info("login.succeeded", method=method, subject=subject, session_id=move.instance_id)\n',
                "            return\n",
            ),
        ),
    ),
    Mutant(
        "failed-logins-are-not-logged",
        "server/guard/throttling/logins.py",
        "A login that failed has no line of its own.",
        "16.3.1",
        _SECURITY + "test_logins_and_failed_ones",
        'one(logged, failed, "login.failed")',
        (
            (
                '_log.warning("login.failed", method="password", account=name, address=client.address, known=known)\n',
                "pass\n",
            ),
        ),
    ),
    Mutant(
        "all-logins-are-of-one-kind",
        "server/experience/endpoints/exchange.py",
        "Who logged in with a provider's token is logged like one who gave a password.",
        "16.3.1",
        _ATTACKS + "test_a_login_with_another_providers_token_is_logged_as_one_and_so_is_a_failed_one",
        '(200, "login.succeeded", "oidc")',
        (('METHOD: Final = "oidc"', 'METHOD: Final = "password"'),),
    ),
    Mutant(
        "failed-administrators-are-not-logged",
        "server/guard/admins.py",
        "Who presents nobody's secret to the administrators' calls has no line that says so.",
        "16.3.1",
        "tests/server/test_admin_credentials.py::test_calls_and_refusals_are_logged_without_any_secret",
        'assert sum(row.get("repeated", 1) for row in refused) == 50',
        (('            _log.warning("admin.refused")\n', ""),),
    ),
    Mutant(
        "refused-requests-are-not-logged",
        "server/experience/problems.py",
        "Only what is the server's own fault is logged, and not what it refuses.",
        "16.3.2",
        _SECURITY + "test_refusals_say_what_was_refused_and_to_whom",
        'one(logged, dead, "request.refused", "192.0.2.2")',
        (('        _log.info("request.refused", **about)\n        return\n', "        return\n"),),
    ),
    Mutant(
        "repeats-are-forgotten",
        "server/telemetry/repeats.py",
        "What a client repeats has no line, and no number either.",
        "16.3.2",
        "tests/server/test_repeats.py::test_5000_refusals_of_one_client_are_a_few_lines_that_add_up",
        "assert total(refused) == 5_000",
        (("                if count:\n", "                if not count:\n"),),
    ),
    Mutant(
        "one-flood-hides-all-else",
        "server/telemetry/repeats.py",
        "Who sends nonsense from many addresses uses up the lines of every other refusal.",
        "16.3.3",
        "tests/server/test_repeats.py::test_one_kind_leaves_room_for_others",
        'if row["problem"] == "another"] == ["203.0.113.1"]',
        (("len(counts) < SOURCES_OF_A_KIND and self._sources < SOURCES", "self._sources < SOURCES"),),
    ),
    Mutant(
        "refused-transitions-are-not-logged",
        "server/wiring.py",
        "Nobody tells the log what the lifecycle refuses.",
        "16.3.2",
        _SECURITY + "test_refusals_say_what_was_refused_and_to_whom",
        'one(logged, reused, "transition.refused")',
        (("in (measures.refused, watch.tell_refusal):", "in (measures.refused,):"),),
    ),
    Mutant(
        "refused-handshakes-are-not-logged",
        "server/experience/endpoints/connect.py",
        "A handshake whose credential is no good is closed, and has no line.",
        "16.3.2",
        _SECURITY + "test_refused_and_closed_sockets",
        'r["event"] == "socket.refused"',
        (
            (
                '        _log.info("socket.refused", code=closing.code, because=closing.name)\n        services',
                "        services",
            ),
        ),
    ),
    Mutant(
        "refused-tokens-on-sockets-are-not-logged",
        "server/experience/websocket.py",
        "A token that is no good ends the open socket that it came on, and has no line.",
        "16.3.2",
        _ATTACKS + "test_what_ends_an_open_socket_for_what_was_said_on_it_has_a_line[a token that is none]",
        'await new_rows(attacked, "socket.refused", before)',
        (
            (
                (
                    '            _log.info("socket.refused", code=closing.code, because=closing.name)\n'
                    "            conversation.close(closing)\n"
                ),
                "            conversation.close(closing)\n",
            ),
        ),
    ),
    Mutant(
        "refusals-are-not-counted",
        "server/experience/problems.py",
        "Refused requests are logged and not counted.",
        "16.3.2",
        "tests/server/test_metrics.py::test_requests_are_counted_by_route_and_status",
        'now.by("interlock_problems_total", "type") == {',
        (('    scope["litestar_app"].state.services.metrics.problem(name)\n', ""),),
    ),
    Mutant(
        "reuse-is-a-refresh-like-any-other",
        "server/telemetry/watch.py",
        "That a refresh token came twice is told as any session that was ended.",
        "16.3.3",
        _SECURITY + "test_refusals_say_what_was_refused_and_to_whom",
        'one(logged, reused, "token.reused")',
        (
            (
                (
                    '        case Revoke(reason="token_reuse"):\n'
                    '            _log.warning("token.reused", session_id=move.instance_id, subject=session.subject)\n'
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "limits-are-not-logged",
        "server/guard/throttling/limits.py",
        "A limit that is hit has no line of its own.",
        "16.3.3",
        _ATTACKS + "test_behind_a_proxy_a_line_names_the_client_and_not_the_proxy",
        'rows(attacked, "traffic.limited")',
        (('        _log.warning("traffic.limited", kind=self._kind, by=self._by)\n', ""),),
    ),
    Mutant(
        "malformed-messages-are-not-logged",
        "server/experience/websocket.py",
        "A malformed message ends its socket, and has a line only where every connection has one.",
        "16.3.3",
        _ATTACKS + "test_what_ends_an_open_socket_for_what_was_said_on_it_has_a_line[no JSON]",
        'await new_rows(attacked, "socket.refused", before)',
        (
            (
                '        if code in _BROKEN:\n            _log.info("socket.refused", code=code, because=_BROKEN[code])\n',
                "",
            ),
        ),
    ),
    Mutant(
        "garbage-is-not-logged",
        "server/experience/transport/http.py",
        "What is no HTTP is answered, and has no line.",
        "16.3.3",
        _ATTACKS + "test_what_is_no_request_has_a_line_with_whose_it_was",
        "await new_rows(attacked, event, before)",
        (('        _log.info("traffic.unreadable", client=self._slot.address, status=refused.status)\n', ""),),
    ),
    Mutant(
        "an-event-that-no-page-lists",
        "server/telemetry/events.py",
        "A line for slow requests is logged, and the page that lists all lines does not know it.",
        "16.3.3",
        "tests/server/test_events.py::test_what_is_logged_is_declared",
        "add a row for traffic.slow",
        (
            (
                (
                    '    Event("traffic.slow", "info", "refusal", "A request came too slowly and was cut.", ("part",),'
                    ' repeats=("part",)),\n'
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "faults-are-not-logged",
        "server/experience/problems.py",
        "A 5xx is logged like a refusal, without what went wrong.",
        "16.3.4",
        _FAULTS + "test_an_unexpected_error_is_a_500_that_tells_nothing_and_a_line_that_tells_where",
        'row["event"] == "http.failed"',
        (
            (
                "    if problem.status < 500 or isinstance(error, errors.Overloaded):  # noqa: PLR2004  # server errors\n",
                "    if problem.status:\n",
            ),
        ),
    ),
    Mutant(
        "faults-of-sockets-are-not-logged",
        "server/experience/websocket.py",
        "A fault that ends a socket has no line.",
        "16.3.4",
        _FAULTS + "test_an_unexpected_error_ends_a_socket_with_1011_and_nothing_else",
        'if row["event"] == "socket.failed"])',
        (('        _log.error("socket.failed", exc_info=error)\n    return', "        pass\n    return"),),
    ),
    Mutant(
        "the-log-stops-in-silence",
        "server/wiring.py",
        "That the log of transitions has stopped is told to clients, and to no operator.",
        "16.3.4",
        "tests/faults/test_disk.py::test_a_disk_that_gets_room_again_does_not_bring_the_log_back",
        'until(lambda: "surface.failed" in server.log_path.read_text())',
        (('        _log.critical("surface.failed", failure=failure)\n', ""),),
    ),
    Mutant(
        "a-provider-away-in-silence",
        "server/guard/oidc/provider_keys.py",
        "Why the provider's keys can't be had is in no line.",
        "16.3.4",
        _ATTACKS + "test_a_provider_that_can_not_be_asked_is_logged",
        "upstream.keys_unavailable",
        (
            (
                '                _log.warning("upstream.keys_unavailable", because=str(error) or type(error).__name__)\n',
                "",
            ),
        ),
    ),
    Mutant(
        "lines-that-can-be-forged",
        "server/telemetry/logs.py",
        "Text goes to the log as it is, line ends and escape sequences included.",
        "16.4.1",
        _LOGS + "test_no_value_begins_a_line_or_steers_a_terminal",
        "assert len(lines) == 2",
        (('        return text if text.isprintable() else "".join(map(_escaped, text))\n', "        return text\n"),),
    ),
)
"""Bugs in what is logged and in how."""
