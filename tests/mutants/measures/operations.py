"""Removed measures for requirements of ASVS chapters 13 and 16."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, in_text, replace
from tests.mutants.mutant import Mutant

OPERATIONS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "The first MAC key is a constant of the package until somebody rotates it.",
        "13.3.1",
        "test_keys_are_created_once_and_readable_by_the_owner_only",
        at("keyset:read_keys", replace("secrets.token_bytes", "b'interlock'.ljust")),
    ),
    Mutant(
        "What is printed or logged of a MAC key is all of it, as of any other structure.",
        "13.3.1",
        "test_the_repr_of_keys_holds_no_secret",
        at("keyset:RefreshKey", drop("def __repr__(self) -> str:\n    ...")),
    ),
    Mutant(
        "The line that says that the server is ready says by what key it makes refresh tokens.",
        "13.3.1",
        "test_keys_are_only_in_their_folder",
        at(
            "wiring:open_services", replace("orphans_disconnected=...", "**..., by=secrets.ring.keys.refresh_mac.hex()")
        ),
    ),
    Mutant(
        "The secrets of administrators and clients are kept as they are, not as hashes.",
        "13.3.1",
        "test_a_secret_is_valid_for_its_kind_and_stored_as_a_hash",
        at(
            "secrets:_hash",
            replace(
                "hashlib.sha256(secret.encode('utf-8', 'surrogatepass')).hexdigest",
                "secret.encode('utf-8', 'replace').decode",
            ),
        ),
    ),
    Mutant(
        "Whether faults end in a debugger is left to Litestar, which asks the environment.",
        "13.4.2",
        "test_no_environment_variable_starts_a_debugger",
        at("app:build_app", drop("pdb_on_exception=False")),
    ),
    Mutant(
        "TRACE is answered as RFC 9110 describes it, with the request's own headers.",
        "13.4.4",
        "test_trace_requests_are_not_echoed",
        at(
            "instrumentation:InstrumentedApp.__call__",
            replace(
                "services = self.services",
                """
                if scope['method'] == 'TRACE':
                    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
                    await send({'type': 'http.response.body', 'body': repr(scope['headers']).encode()})
                    return
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "Metrics can also be had on the port that clients use.",
        "13.4.5",
        "test_metrics_are_off_by_default_and_never_on_the_clients_port",
        at(
            "operations:HANDLERS",
            replace("[get_key_set, ...]", "[*..., show_metrics]"),
            replace(
                "HANDLERS: ... = ...",
                """
                @get('/metrics', include_in_schema=False)
                async def show_metrics() -> str:
                    return ''
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "nginx hands the administrators' calls on like all the others.",
        "13.4.5",
        "test_clients_can_not_call_forward_auth_through_the_proxy[nginx]",
        at("docs/how-to/behind-nginx.md", in_text("location /api/admin { return 404; }", "")),
    ),
    Mutant(
        "Lines name the address that the connection came from: behind a proxy, the proxy's.",
        "16.2.1",
        "test_behind_a_proxy_log_lines_name_the_client",
        at(
            "instrumentation:InstrumentedApp.__call__",
            replace("note_address(services, scope)", "... and scope['client'][0]"),
        ),
    ),
    Mutant(
        "An exception is logged with its message, whatever that quotes.",
        "16.2.5",
        "test_a_logged_exception_has_no_message_and_no_variables",
        at(
            "logs:_description",
            replace("tells and isinstance(error, InterlockError | OSError)", "True"),
        ),
    ),
    Mutant(
        "A failed login is logged with the email address that was tried.",
        "16.2.5",
        "test_failed_logins_are_logged_without_email_address_and_password",
        at("logins:LoginLimits.attempt", replace("self._pseudonyms.of_email(email)", "email")),
    ),
    Mutant(
        "A refused request is logged with the address that was asked for, not with the route's template.",
        "16.2.5",
        "test_no_raw_part_of_a_request_is_logged",
        at("problems:tell_problem", replace("scope.get('path_template', 'none')", "scope['path']")),
    ),
    Mutant(
        "Who logged in with a provider's token is logged like one who gave a password.",
        "16.3.1",
        "test_logins_by_id_token_are_logged_whether_they_succeed_or_fail",
        at("logins:Logins.login_by", replace("'oidc'", "'password'")),
    ),
    Mutant(
        "Nobody tells the log what the lifecycle refuses.",
        "16.3.2",
        "test_refusals_are_logged_with_problem_and_client",
        at("wiring:_watch", drop("security_log.log_refusal")),
    ),
    Mutant(
        "A token that is no good ends the open socket that it came on, and has no line.",
        "16.3.2",
        "test_a_socket_closed_for_a_bad_message_is_logged[a token that is none]",
        at(
            "socket:Socket._reauthorise",
            drop("_log.info('socket.refused', code=closing.code, because=closing.name)"),
        ),
    ),
    Mutant(
        "Who sends nonsense from many addresses uses up the lines of every other refusal.",
        "16.3.3",
        "test_one_kind_of_repeat_leaves_room_for_others",
        at(
            "repeats:Repeats._is_first",
            replace("len(counts) < SOURCES_OF_A_KIND and self._sources < SOURCES", "self._sources < SOURCES"),
        ),
    ),
    Mutant(
        "A malformed message ends its socket, and has a line only where every connection has one.",
        "16.3.3",
        "test_a_socket_closed_for_a_bad_message_is_logged[no JSON]",
        at("socket:Socket._log_closed", drop("if code in _BROKEN:\n    ...")),
    ),
    Mutant(
        "A fault that ends a socket has no line.",
        "16.3.4",
        "test_an_unexpected_error_in_a_handshake_closes_with_1011",
        at("closings:logged_closing", drop("_log.error('socket.failed', exc_info=error)")),
    ),
    Mutant(
        "That the log of transitions has stopped is told to clients, and to no operator.",
        "16.3.4",
        "test_free_space_does_not_restart_a_stopped_log",
        at("opened_storage:open_storage.stop", drop("_log.critical('surface.failed', failure=failure)")),
    ),
    Mutant(
        "Text goes to the log as it is, line ends and escape sequences included.",
        "16.4.1",
        "test_no_logged_value_starts_a_line_or_controls_a_terminal",
        at("streams:printable", replace("text if text.isprintable() else ''.join(map(_escaped, text))", "text")),
    ),
    Mutant(
        "That a key can't be read is told to the client as it is told to the operator, with the file's path.",
        "16.5.1",
        "test_a_secret_readable_by_others_opens_nothing",
        at("problems:problem_for", drop("detail = kind.title")),
    ),
    Mutant(
        "The refusal of an unknown field names it.",
        "16.5.1",
        "test_an_unknown_fields_name_is_not_repeated",
        at("problems:_invalid_field", replace("message.startswith(_UNKNOWN_FIELD)", "not message")),
    ),
    Mutant(
        "While the provider can't be asked, the keys it once had are good for as long as that lasts.",
        "16.5.2",
        "test_an_unreachable_providers_keys_are_used_for_a_limited_time",
        at(
            "provider_keys:ProviderKeys.find",
            replace(
                "self._older_than(self._stale_ms) or (key is None and self._failed)", "key is None and self._failed"
            ),
        ),
    ),
    Mutant(
        "Once the log has stopped, what is in memory is still answered from there.",
        "16.5.3",
        "test_a_missing_log_refuses_everything[the disk is full]",
        at("door:Door.check_alive", drop("if self._log.failure is not None:\n    ...")),
    ),
    Mutant(
        "When forward-auth itself fails, requests pass, so that the applications behind it stay up.",
        "16.5.3",
        "test_any_failure_is_a_forward_auth_refusal",
        at(
            "forward_auth:ForwardAuth.answer",
            replace(
                "await send_problem(scope, send, error)",
                """
                if type(error).__name__ in ('SurfaceFailed', 'Overloaded'):
                    await _send(send, 200, [])
                else:
                    ...
                """,
            ),
        ),
    ),
    Mutant(
        "When the secrets can't be read anew, those that were read before are taken for good.",
        "16.5.3",
        "test_a_secret_readable_by_others_opens_nothing",
        at(
            "secret_files:SecretFiles.names",
            replace(
                """
                if seen != self._seen:
                    ...
                """,
                """
                try:
                    ...
                except SettingsError:
                    return self._known
                """,
            ),
        ),
    ),
    Mutant(
        "While files can't be looked at for want of memory, what was known of them counts on for ever.",
        "16.5.3",
        "test_uncheckable_keys_stay_valid_for_a_while[refresh.key-ENOMEM]",
        at("transient:Checks.excuse", replace("now < self._succeeded_at + self._relied_on_s", "True")),
    ),
    Mutant(
        "What a socket's code raises unexpectedly is left to the framework, which answers in its own way.",
        "16.5.4",
        "test_an_unexpected_error_in_a_handshake_closes_with_1011",
        at("connect:_connect", replace("Exception", "InterlockError")),
    ),
    Mutant(
        "What fails outside every request is left to asyncio, which knows no event of that and quotes the error.",
        "16.5.4",
        "test_an_unexpected_error_in_a_handshake_closes_with_1011",
        at("process:serve", drop("asyncio.get_running_loop().set_exception_handler(log_unhandled)")),
    ),
)
