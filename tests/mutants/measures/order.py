"""The measures of chapter 2: order, whole transactions, and what there is little of."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_LOG: Final = "tests/server/test_surface.py::TestSqliteLog::"
_IDENTITIES: Final = "tests/server/test_identities.py::TestSqliteIdentities::"
_TRAFFIC: Final = "tests/server/test_traffic.py::"

ORDER: Final[tuple[Mutant, ...]] = (
    Mutant(
        "connect-before-login",
        "spec/session.py",
        "The declaration lets a WebSocket open on a session on which nobody has logged in.",
        "2.3.1",
        "tests/server/test_session_measures.py::test_no_socket_opens_before_a_login_and_one_does_after_it",
        "assert 'pong' == 4401",
        (
            (
                '        authenticated.to(connected, cond=["alive", "below_connection_limit"])\n        | connected',
                (
                    '        created.to(connected, cond=["alive", "below_connection_limit"])\n'
                    '        | authenticated.to(connected, cond=["alive", "below_connection_limit"])\n'
                    "        | connected"
                ),
            ),
        ),
    ),
    Mutant(
        "the-database-takes-what-is-not-declared",
        "server/surface/sqlite/schema.py",
        "The database no longer looks whether a transition is declared.",
        "2.3.1",
        "tests/server/test_database.py::test_an_illegal_row_is_refused",
        "DID NOT RAISE",
        (("source = coalesce(NEW.source, '') AND target = NEW.target);", "1);"),),
    ),
    Mutant(
        "half-of-what-was-asked",
        "server/surface/sqlite/writer.py",
        "What a call has written before it is refused stays.",
        "2.3.3",
        _IDENTITIES + "test_without_a_new_account_only_those_known_are_admitted",
        "the ID token was already exchanged",
        (
            (
                '            self._undo("ROLLBACK TO unit")\n            return error\n',
                "            return error\n",
            ),
        ),
    ),
    Mutant(
        "a-token-used-up-for-nothing",
        "server/surface/identities.py",
        "An exchange uses the ID token up in one transaction, and finds or makes the account in another.",
        "2.3.3",
        _IDENTITIES + "test_without_a_new_account_only_those_known_are_admitted",
        "the ID token was already exchanged",
        (
            (
                "        return await self._writer.submit(lambda c: _admit(",
                (
                    "        await self._writer.submit(lambda c: _use_up(c, arrival, now_ms), _refuse_used)\n"
                    "        return await self._writer.submit(lambda c: _admit("
                ),
            ),
            (
                (
                    "def _admit(connection: Connection, arrival: Arrival, new_account: str | None, now_ms: int) -> str:\n"
                    '    connection.execute("DELETE'
                ),
                'def _use_up(connection: Connection, arrival: Arrival, now_ms: int) -> None:\n    connection.execute("DELETE',
            ),
            (
                "    groups = None if arrival.groups is None",
                (
                    "\n\n"
                    "def _admit(connection: Connection, arrival: Arrival, new_account: str | None, now_ms: int) -> str:\n"
                    "    groups = None if arrival.groups is None"
                ),
            ),
        ),
    ),
    Mutant(
        "tickets-are-left-where-they-are",
        "server/surface/tickets.py",
        "A ticket is not removed when it is used.",
        "2.3.4",
        "tests/server/test_surface.py::TestSqliteTickets::test_of_many_at_once_exactly_one_gets_it",
        "is not None] == [self.TICKET]",
        (
            (
                '"DELETE FROM tickets WHERE ticket_hash = ? RETURNING *"',
                '"SELECT * FROM tickets WHERE ticket_hash = ?"',
            ),
        ),
    ),
    Mutant(
        "one-connection-more-than-there-may-be",
        "machine/session/session.py",
        "A session holds one WebSocket more than its limit.",
        "2.3.4",
        "tests/server/test_bad_sockets.py::test_connects_over_the_sessions_limit_are_closed_with_4429",
        "'hello' != '4429'",
        (
            (
                "    return len(session.connections) < session.policy.connection_limit\n",
                "    return len(session.connections) <= session.policy.connection_limit\n",
            ),
        ),
    ),
    Mutant(
        "a-crowd-slips-in",
        "server/runtime/connections.py",
        "Those who arrive at the same moment are counted when they are there.",
        "2.3.4",
        "tests/scenarios/test_process.py::test_no_more_connect_at_once_than_there_is_room_for",
        "== 5",
        (
            (
                "        self._count += 1\n        self._arriving[subject] += 1\n",
                "        self._arriving[subject] += 1\n",
            ),
            (
                "            self._count -= 1\n            self._arriving[subject] -= 1\n",
                "            self._arriving[subject] -= 1\n",
            ),
        ),
    ),
    Mutant(
        "two-follow-the-same-version",
        "server/surface/sqlite/schema.py",
        "The database takes two transitions that were both decided on the same version.",
        "2.3.4",
        _LOG + "test_of_two_that_follow_the_same_version_one_wins",
        "DID NOT RAISE",
        (
            ("        UNIQUE (session_id, version),\n", ""),
            (
                "session_id = NEW.session_id AND version = NEW.version - 1 AND state IS NEW.source)",
                "session_id = NEW.session_id)",
            ),
            (
                "                OR NEW.version <> OLD.version + 1 OR NOT EXISTS (\n",
                "                OR NOT EXISTS (\n",
            ),
        ),
    ),
    Mutant(
        "addresses-are-not-counted",
        "server/experience/admission.py",
        "One address may ask for as much as it likes.",
        "2.4.1",
        _TRAFFIC + "test_one_address_is_refused_what_it_asks_for_too_often_and_others_are_not",
        "== [False, False, True]",
        (("        services.limits.of_address(kind, address)\n", "        pass\n"),),
    ),
    Mutant(
        "accounts-are-not-counted",
        "server/experience/admission.py",
        "One account may ask for as much as it likes from many addresses.",
        "2.4.1",
        _TRAFFIC + "test_one_account_is_refused_what_it_asks_for_too_often_wherever_it_asks",
        "assert limited(",
        (("        services.limits.of_account(kind, subject)\n", "        pass\n"),),
    ),
    Mutant(
        "handshakes-cost-nothing",
        "server/experience/endpoints/connect.py",
        "WebSocket handshakes are not counted by address.",
        "2.4.1",
        _TRAFFIC + "test_websocket_handshakes_are_refused_over_http_before_the_upgrade",
        "DID NOT RAISE",
        (('    admit(services, scope, "handshake")\n', ""),),
    ),
    Mutant(
        "a-crowd-makes-the-limits-forget",
        "machine/limits.py",
        "When many keys have come, the table of limits is begun anew so that it does not grow.",
        "2.4.1",
        "tests/machine/test_limits.py::test_a_crowd_of_made_up_keys_resets_nobodys_limit_and_limits_hardly_anybody_else",
        "assert not True",
        (
            ("        self._salt = salt\n", "        self._salt = salt\n        self._taken = 0\n"),
            (
                "        now_us = now_ms * _US_PER_MS\n        before",
                (
                    "        self._taken += 1\n"
                    "        if self._taken % 4096 == 0:\n"
                    '            self._cells = memoryview(bytearray(8 * len(self._cells))).cast("q")\n'
                    "        now_us = now_ms * _US_PER_MS\n        before"
                ),
            ),
        ),
    ),
    Mutant(
        "the-queue-of-the-disk-has-no-end",
        "server/system/workers.py",
        "As many as like may wait for the disk.",
        "2.4.1",
        _LOG + "test_too_many_waiting_are_refused_and_nothing_is_queued",
        "== [False, False, False, True, True]",
        (
            (
                (
                    "        if len(self._unsettled) >= self._max_waiting:\n"
                    "            job.future.set_exception(Overloaded())\n"
                    "            return\n"
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "a-made-up-key-name-asks-the-provider",
        "server/guard/oidc/provider_keys.py",
        "Each token that names an unknown key makes the server ask the identity provider.",
        "2.4.1",
        "tests/server/test_provider_keys.py::test_made_up_kids_make_the_server_ask_once_in_a_while",
        "assert provider.asked == [DISCOVERY, KEYS]",
        (("now_ms < self._tried_at_ms + self._retry_ms:", "now_ms < self._tried_at_ms:"),),
    ),
)
