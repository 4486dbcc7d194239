"""The measures of chapter 13, and of 16.5: keys as files, debugging, monitoring, and errors that open and tell nothing."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_KEYS: Final = "tests/server/test_keys.py::"
_APP: Final = "tests/server/test_app.py::"
_FAULTS: Final = "tests/server/test_own_faults.py::"
_CLOSED: Final = "tests/faults/test_fail_closed.py::"

OPERATIONS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "keys-anybody-may-read",
        "server/system/permissions.py",
        "Key files are made with the mode that files usually have, and nobody looks at it later.",
        "13.3.1",
        _KEYS + "test_keys_are_made_once_and_for_the_owner_only",
        "== {0o600}",
        (
            (
                "os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)",
                "os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)",
            ),
            (
                '    if status.st_mode & 0o077:\n        raise SettingsError(f"{path} may',
                '    if status.st_mode & 0o022:\n        raise SettingsError(f"{path} may',
            ),
        ),
    ),
    Mutant(
        "keys-that-were-laid-open-are-used",
        "server/system/permissions.py",
        "A key is used whoever may read its file.",
        "13.3.1",
        _KEYS + "test_a_key_that_others_may_read_is_refused",
        "DID NOT RAISE",
        (
            (
                (
                    "    if status.st_mode & 0o077:\n"
                    '        raise SettingsError(f"{path} may be read by others; make it private: chmod 600 {path}'
                    '{_by_fs_group(status)}")\n'
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "a-key-in-the-code",
        "server/guard/keys/keyset.py",
        "The first MAC key is a constant of the package until somebody rotates it.",
        "13.3.1",
        _KEYS + "test_keys_are_made_once_and_for_the_owner_only",
        'load_keys(tmp_path / "others").refresh_mac != first.refresh_mac',
        (
            (
                "write_private(folder / _FIRST_REFRESH_FILE, secrets.token_bytes(_REFRESH_KEY_BYTES))",
                'write_private(folder / _FIRST_REFRESH_FILE, b"interlock".ljust(_REFRESH_KEY_BYTES))',
            ),
        ),
    ),
    Mutant(
        "keys-that-are-printed",
        "server/guard/keys/keyset.py",
        "What is printed or logged of a MAC key is all of it, as of any other structure.",
        "13.3.1",
        _KEYS + "test_what_is_printed_of_keys_holds_no_secret",
        "assert repr(keys.refresh_mac)[2:-1] not in printed",
        (('    def __repr__(self) -> str:\n        return f"RefreshKey({self.name!r})"\n\n', ""),),
    ),
    Mutant(
        "a-key-in-the-log",
        "server/wiring.py",
        "The line that says that the server is ready says by what key it makes refresh tokens.",
        "13.3.1",
        "tests/server/test_small_measures.py::test_keys_are_in_their_folder_and_nowhere_else",
        "the MAC key, decoded, hex in ",
        (
            (
                '            "server.ready",\n',
                '            "server.ready",\n            by=ring.keys.refresh_mac.hex(),\n',
            ),
        ),
    ),
    Mutant(
        "secrets-as-they-are",
        "server/guard/secrets.py",
        "The secrets of administrators and clients are kept as they are, not as hashes.",
        "13.3.1",
        "tests/server/test_secrets.py::test_a_secret_opens_what_it_was_made_for_and_is_kept_as_a_hash",
        "assert secret not in file.read_text()",
        (
            (
                'return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()',
                'return secret.encode("utf-8", "replace").decode()',
            ),
        ),
    ),
    Mutant(
        "debugging-left-on",
        "server/app.py",
        "Litestar's debug mode is on, and faults that nobody has a problem for are left to it.",
        "13.4.2",
        _APP + "test_a_mistake_of_ours_is_a_problem_too_and_tells_nothing",
        'assert "secret" not in answer.text',
        (
            ("        debug=False,\n", "        debug=True,\n"),
            ("exception_handlers={Exception: handle}", "exception_handlers={InterlockError: handle, 404: handle}"),
            (
                "from interlock.server.experience.endpoints import ",
                "from interlock.machine.errors import InterlockError\nfrom interlock.server.experience.endpoints import ",
            ),
        ),
    ),
    Mutant(
        "a-debugger-in-the-environment",
        "server/app.py",
        "Whether faults end in a debugger is left to Litestar, which asks the environment.",
        "13.4.2",
        _APP + "test_no_variable_of_the_environment_brings_a_debugger",
        "in the debugger",
        (("        pdb_on_exception=False,\n", ""),),
    ),
    Mutant(
        "trace-is-answered",
        "server/experience/middleware/observed.py",
        "TRACE is answered as RFC 9110 describes it, with the request's own headers.",
        "13.4.4",
        _FAULTS + "test_nothing_is_echoed_to_trace",
        "assert 200 in {404, 405}",
        (
            (
                "        services = self.services\n        request_id",
                (
                    '        if scope.get("method") == "TRACE":\n'
                    '            about = [(b"content-type", b"message/http")]\n'
                    '            await send({"type": "http.response.start", "status": 200, "headers": about})\n'
                    '            body = b"".join(b"%s: %s\\r\\n" % pair for pair in scope["headers"])\n'
                    '            await send({"type": "http.response.body", "body": body})\n'
                    "            return\n"
                    "        services = self.services\n        request_id"
                ),
            ),
        ),
    ),
    Mutant(
        "metrics-to-everybody",
        "server/settings.py",
        "Metrics are served on every address of the machine unless somebody says otherwise.",
        "13.4.5",
        "tests/server/test_metrics.py::test_nobody_is_shown_metrics_who_was_not_meant_to",
        'Settings().metrics_host == "127.0.0.1"',
        (
            (
                '_doc("Address to serve metrics on, if `metrics_port` is set.")] = (\n        "127.0.0.1"\n',
                '_doc("Address to serve metrics on, if `metrics_port` is set.")] = (\n        "0.0.0.0"\n',
            ),
        ),
    ),
    Mutant(
        "metrics-among-the-calls",
        "server/experience/endpoints/operations.py",
        "Metrics can also be had on the port that clients use.",
        "13.4.5",
        "tests/server/test_metrics.py::test_nobody_is_shown_metrics_who_was_not_meant_to",
        'httpx.get(f"{measured.url}/metrics").status_code == 404',
        (
            (
                "HANDLERS: Final[list[ControllerRouterHandler]] = [get_key_set, get_liveness, get_readiness]",
                (
                    '@get("/metrics", media_type="text/plain", include_in_schema=False)\n'
                    "async def show_metrics(request: Request[Any, Any, Any]) -> bytes:\n"
                    "    from prometheus_client import generate_latest\n\n"
                    "    return generate_latest(wired_services(request).metrics.registry)\n\n\n"
                    "HANDLERS: Final[list[ControllerRouterHandler]] = [get_key_set, get_liveness, get_readiness, show_metrics]"
                ),
            ),
        ),
    ),
    Mutant(
        "the-proxy-passes-the-inside-on",
        "docs/how-to/behind-nginx.md",
        "nginx hands the administrators' calls on like all the others.",
        "13.4.5",
        "tests/attacks/test_fronts.py::test_clients_cannot_ask_what_only_the_proxy_asks[nginx]",
        '(await client.request("GET", path)).status_code == 404',
        (("    location /api/admin { return 404; }\n", ""),),
    ),
    Mutant(
        "the-error-is-the-answer",
        "server/experience/problems.py",
        "Whatever was raised, its words are the detail of the problem.",
        "16.5.1",
        _FAULTS + "test_an_unexpected_error_is_a_500_that_tells_nothing_and_a_line_that_tells_where",
        "assert answer.json() == {",
        (
            (
                "detail = str(error) if isinstance(error, errors.InterlockError) else kind.title\n",
                "detail = str(error) or kind.title\n",
            ),
        ),
    ),
    Mutant(
        "the-answer-names-files",
        "server/experience/problems.py",
        "That a key can't be read is told to the client as it is told to the operator, with the file's path.",
        "16.5.1",
        "tests/server/test_admin_credentials.py::test_a_secret_that_others_may_read_opens_nothing",
        "assert str(tmp_path) not in str(body)",
        (
            (
                (
                    "        case errors.SettingsError():\n"
                    "            detail = kind.title  # the message names files, for the operator\n"
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "a-made-up-field-comes-back",
        "server/experience/middleware/requests.py",
        "The refusal of an unknown field names it.",
        "16.5.1",
        _FAULTS + "test_a_field_that_the_client_made_up_is_not_named",
        'assert "horse" not in answer.text',
        (("    if wanted.startswith(_UNKNOWN_FIELD):\n", "    if not wanted:\n"),),
    ),
    Mutant(
        "old-keys-for-ever",
        "server/guard/oidc/provider_keys.py",
        "While the provider can't be asked, the keys it once had are good for as long as that lasts.",
        "16.5.2",
        "tests/server/test_provider_keys.py::"
        "test_while_the_provider_is_away_its_keys_are_used_for_a_while_and_then_no_more",
        "DID NOT RAISE",
        (
            (
                "if self._older_than(self._stale_ms) or (key is None and self._failed):",
                "if key is None and self._failed:",
            ),
        ),
    ),
    Mutant(
        "memory-serves-without-a-disk",
        "server/runtime/sessions.py",
        "Once the log has stopped, what is in memory is still answered from there.",
        "16.5.3",
        _CLOSED + "test_once_the_log_is_gone_nothing_is_opened[the disk is full]",
        "answered 200",
        (
            (
                "        if self._log.failure is not None:\n            raise SurfaceFailed(self._log.failure)\n\n",
                "\n",
            ),
        ),
    ),
    Mutant(
        "a-gate-that-fails-open",
        "server/experience/endpoints/forward_auth.py",
        "When forward-auth itself fails, requests pass, so that the applications behind it stay up.",
        "16.5.3",
        "tests/server/test_forward_auth.py::test_whatever_fails_nobody_passes",
        "assert problem(answer) == (status, name)",
        (
            (
                "        except Exception as error:  # noqa: BLE001  # whatever goes wrong, the answer is a refusal\n",
                (
                    "        except (SurfaceFailed, Overloaded):\n"
                    "            await _send(scope, send, 200, [*FIXED])\n"
                    "        except Exception as error:\n"
                ),
            ),
            (
                "    NotAuthenticated,\n    SurfaceFailed,\n",
                "    NotAuthenticated,\n    Overloaded,\n    SurfaceFailed,\n",
            ),
        ),
    ),
    Mutant(
        "secrets-that-can-not-be-checked-count",
        "server/guard/secrets.py",
        "When the secrets can't be read anew, those that were read before are taken for good.",
        "16.5.3",
        "tests/server/test_admin_credentials.py::test_a_secret_that_others_may_read_opens_nothing",
        '503, "secrets-unavailable"',
        (
            (
                "        except FileNotFoundError:\n            return {}\n",
                (
                    "        except FileNotFoundError:\n            return {}\n"
                    "        except SettingsError:\n            return self._known\n"
                ),
            ),
        ),
    ),
    Mutant(
        "a-shortage-without-end",
        "server/system/transient.py",
        "While files can't be looked at for want of memory, what was known of them counts on for ever.",
        "16.5.3",
        "tests/server/test_keys_in_a_shortage.py::test_keys_that_cannot_be_checked_count_for_a_while[refresh.key-ENOMEM]",
        "assert [] == [False]",
        (("        return now < self._succeeded_at + self._relied_on_s\n", "        return True\n"),),
    ),
    Mutant(
        "handlers-for-what-is-known",
        "server/app.py",
        "Only errors of ours have a handler; any other is left to the framework, which tells nobody.",
        "16.5.4",
        _FAULTS + "test_an_unexpected_error_is_a_500_that_tells_nothing_and_a_line_that_tells_where",
        "assert answer.json() == {",
        (
            ("exception_handlers={Exception: handle}", "exception_handlers={InterlockError: handle, 404: handle}"),
            (
                "from interlock.server.experience.endpoints import ",
                "from interlock.machine.errors import InterlockError\nfrom interlock.server.experience.endpoints import ",
            ),
        ),
    ),
    Mutant(
        "no-last-resort-of-sockets",
        "server/experience/endpoints/connect.py",
        "What a socket's code raises unexpectedly is left to the framework, which answers in its own way.",
        "16.5.4",
        _FAULTS + "test_an_unexpected_error_ends_a_socket_with_1011_and_nothing_else",
        "server rejected WebSocket connection: HTTP 500",
        (
            (
                "    except Exception as error:  # noqa: BLE001  # whatever it is",
                "    except InterlockError as error:  # whatever it is",
            ),
        ),
    ),
    Mutant(
        "no-last-resort-of-tasks",
        "server/process.py",
        "What fails outside every request is left to asyncio, which knows no event of that and quotes the error.",
        "16.5.4",
        _FAULTS + "test_an_unexpected_error_ends_a_socket_with_1011_and_nothing_else",
        '["event"] == "task.failed"',
        (("    asyncio.get_running_loop().set_exception_handler(log_unhandled)\n", ""),),
    ),
)
"""Bugs in how the server is set up, and in what happens when something fails."""
