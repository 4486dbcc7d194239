"""The measures of chapter 6, apart from passwords: what is documented, which ways in there are, who may try how often."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ACCOUNTS: Final = "tests/server/test_accounts.py::"
_SMALL: Final = "tests/server/test_small_measures.py::"
_LOGINS: Final = "tests/server/test_logins.py::"
_STUFFING: Final = "tests/attacks/test_stuffing.py::"
_TRAFFIC: Final = "tests/server/test_traffic.py::"
_ADMISSION: Final = "tests/docs/test_admission.py::"
_ASVS: Final = "tests/docs/test_asvs.py::"

_DOCUMENTED: Final[tuple[Mutant, ...]] = (
    Mutant(
        "a-limit-that-is-not-documented",
        "docs/explanation/admission.md",
        "The page on admission leaves out the limit of failed logins of one account.",
        "6.1.1",
        _ADMISSION + "test_every_limit_is_explained_with_its_default",
        "AssertionError: limit_login_account",
        (("| `limit_login_account` | 100/1h |", "| of an account | some |"),),
    ),
    Mutant(
        "a-limit-that-is-not-what-the-page-says",
        "server/settings.py",
        "A default is raised in the code, and the page on admission goes on promising the old one.",
        "6.1.1",
        _ADMISSION + "test_every_limit_is_explained_with_its_default",
        "AssertionError: limit_login_client",
        (('    ] = "10/15m"\n    limit_login_account', '    ] = "1000/15m"\n    limit_login_account'),),
    ),
    Mutant(
        "nothing-said-of-locking-the-owner-out",
        "docs/explanation/admission.md",
        "The page on admission no longer says why an attacker's failures don't lock the owner out.",
        "6.1.1",
        _ADMISSION + "test_why_nobody_can_lock_the_owner_out_is_said",
        "for half a year' in ''",
        (("**Nobody can lock the owner out.** A lock", "A lock"),),
    ),
    Mutant(
        "strangers-lock-the-owner-out",
        "server/guard/throttling/logins.py",
        "An address that the account has logged in from counts as a stranger's.",
        "6.1.1",
        _LOGINS + "test_strangers_who_use_up_what_strangers_have_do_not_lock_the_owner_out",
        "AssertionError: an address it logged in from",
        (("            places.addresses[place] = None\n", ""),),
    ),
    Mutant(
        "the-neighbours-lock-the-owner-out",
        "server/experience/admission.py",
        "The cookie by which a device is known again is set and never read.",
        "6.1.1",
        _STUFFING + "test_from_the_owners_own_address",
        "assert 429 == 200",
        (("cookie_named(scope, _DEVICE))", "None)"),),
    ),
    Mutant(
        "no-places-are-kept-for-owners",
        "server/guard/passwords/hashing.py",
        "A flood that fills the queue for hashes shuts those out who come from where they came before.",
        "6.1.1",
        _ACCOUNTS + "test_a_flood_of_strangers_leaves_places_for_who_is_known",
        "interlock.machine.errors.Overloaded",
        (("pool = self._known if requester.known else self._strangers", "pool = self._strangers"),),
    ),
    Mutant(
        "a-context-word-that-is-not-documented",
        "docs/explanation/admission.md",
        "The list of words that passwords must not be leaves out the issuer.",
        "6.1.2",
        _ADMISSION + "test_the_words_that_are_near_are_named",
        "assert '`issuer`' in",
        (("its parts, `issuer`, `audience`", "its parts, `audience`"),),
    ),
    Mutant(
        "a-way-to-log-in-without-its-strength",
        "docs/explanation/security.md",
        "The table of the ways to log in does not say how strong a password has to be.",
        "6.1.3",
        _ASVS + "test_the_table_says_how_strong_each_way_to_log_in_is",
        "one factor: a password of 15 characters",
        (("one factor: a password of 15 characters or more, as", "a password, as"),),
    ),
    Mutant(
        "a-way-to-log-in-left-out-of-the-table",
        "docs/explanation/security.md",
        "The table of the ways to log in leaves out identity providers.",
        "6.1.3",
        _ASVS + "test_every_way_to_log_in_is_in_the_table_of_the_security_model",
        "Extra items in the left set:",
        (("| `oidc` | `POST", "| by a provider | `POST"),),
    ),
)

_TRIES: Final[tuple[Mutant, ...]] = (
    Mutant(
        "nobody-counts-the-tries",
        "server/experience/endpoints/auth.py",
        "A login looks at the password without counting the try.",
        "6.3.1",
        _STUFFING + "test_from_one_address",
        "Counter({401: 300})",
        (
            (
                "prove(trial.requester, data.password, count)",
                "prove(trial.requester, data.password)",
            ),
        ),
    ),
    Mutant(
        "tries-count-by-address-alone",
        "server/guard/throttling/logins.py",
        "Who guesses one account's password from many addresses meets no counter.",
        "6.3.1",
        _STUFFING + "test_from_many_addresses_at_one_account",
        "Counter({401: 600})",
        ((", (self._of_address, address), (self._of_account, account)]", ", (self._of_address, address)]"),),
    ),
    Mutant(
        "a-hoard-of-device-cookies",
        "server/guard/throttling/devices.py",
        "A device is known also by a cookie from before a change of the password.",
        "6.3.1",
        _STUFFING + "test_by_whoever_has_known_the_password_before",
        "assert Counter({401: 1",
        ((" or account.password_changed_at_ms != int(match[2]):", ":"),),
    ),
    Mutant(
        "places-outlive-the-password",
        "server/guard/throttling/logins.py",
        "An address from which only an older password was shown is not a stranger's.",
        "6.3.1",
        _STUFFING + "test_by_whoever_has_known_the_password_before",
        "assert Counter({",
        (("if places is None or places.set_at_ms < set_at_ms:", "if places is None:"),),
    ),
    Mutant(
        "tries-in-uncounted-networks-are-free",
        "server/experience/endpoints/auth.py",
        "Clients of uncounted networks, and so everybody behind a proxy on the same machine, may guess as often as they like.",
        "6.3.1",
        _TRAFFIC + "test_failed_logins_and_wrong_current_passwords_count_in_uncounted_networks_too",
        "assert [False, False, False] == [False, False, True]",
        (
            (
                "prove(trial.requester, data.password, count)",
                "prove(trial.requester, data.password, *[count][: services.addresses.counts(client.address)])",
            ),
        ),
    ),
    Mutant(
        "guessing-by-way-of-a-change",
        "server/experience/endpoints/auth.py",
        "Wrong current passwords at a change are not counted.",
        "6.3.1",
        _TRAFFIC + "test_a_stolen_session_cannot_guess_the_password_for_long_nor_keep_the_owner_from_changing_it",
        "where False = limited(<Response [403 Forbidden]>)",
        (("limit_key_of(request.scope), count\n", "limit_key_of(request.scope)\n"),),
    ),
    Mutant(
        "handshakes-are-not-counted",
        "server/experience/endpoints/connect.py",
        "WebSocket handshakes meet no limit by address.",
        "6.3.1",
        _TRAFFIC + "test_websocket_handshakes_are_refused_over_http_before_the_upgrade",
        "DID NOT RAISE",
        (('    admit(services, scope, "handshake")\n', ""),),
    ),
    Mutant(
        "hashes-wait-without-end",
        "server/guard/passwords/hash_queue.py",
        "As many hashes may wait as there are logins.",
        "6.3.1",
        _ACCOUNTS + "test_hashing_leaves_the_event_loop_free_and_too_many_are_refused",
        "it waits like the others",
        (("        if len(self._waiting) <= self._max_waiting:\n", "        if self._waiting:\n"),),
    ),
    Mutant(
        "an-account-to-begin-with",
        "server/wiring.py",
        "A new server makes an account with a password that stands in the code.",
        "6.3.2",
        _SMALL + "test_a_new_server_has_no_account",
        "assert (0, 1, 0) == (0, 0, 0)",
        (
            (
                "        services = _assemble(settings, storage, core, stack)\n",
                (
                    "        services = _assemble(settings, storage, core, stack)\n"
                    "        with suppress(Exception):\n"
                    '            await services.accounts.register("admin@localhost", "change it before anybody sees")\n'
                ),
            ),
        ),
    ),
    Mutant(
        "an-administrator-to-begin-with",
        "server/wiring.py",
        "A new server makes an administrator.",
        "6.3.2",
        _SMALL + "test_a_new_server_has_no_account",
        "nor an administrator, nor other software",
        (
            (
                "    admin_secrets.names()  # what",
                (
                    "    if not admin_secrets.names():\n"
                    '        admin_secrets.create("admin", clock.now_ms())\n'
                    "    admin_secrets.names()  # what"
                ),
            ),
        ),
    ),
    Mutant(
        "a-way-in-that-nobody-knows-of",
        "server/experience/endpoints/auth.py",
        "A call for the support team logs in to any account, and stands in no document.",
        "6.3.4",
        _ASVS + "test_every_way_to_log_in_is_in_the_table_of_the_security_model",
        "'support'",
        (
            (
                '@post(\n    "/api/auth/logout",',
                (
                    '@post("/api/auth/support", status_code=200)\n'
                    "async def support(request: Request[Any, Any, Any], subject: str) -> Response[TokenAnswer]:\n"
                    "    services = services_for_page(request)\n"
                    '    outcome = await services.sessions.authenticate(None, subject, "support")\n'
                    "    return token_answer(services, request.scope, outcome.session, outcome.receipt, 200)\n\n\n"
                    '@post(\n    "/api/auth/logout",'
                ),
            ),
            ("[register, login, refresh,", "[register, login, support, refresh,"),
        ),
    ),
    Mutant(
        "a-way-in-without-a-limit",
        "server/experience/endpoints/exchange.py",
        "Logins with a provider's token meet no limit.",
        "6.3.4",
        _TRAFFIC + "test_one_address_is_refused_what_it_asks_for_too_often_and_others_are_not",
        "assert [False, False, False] == [False, False, True]",
        (('guards=[own_page, admitted("exchange"), ', "guards=[own_page, "),),
    ),
    Mutant(
        "a-hint-in-case-one-forgets",
        "server/experience/endpoints/auth.py",
        "A registration takes a hint.",
        "6.4.2",
        _SMALL + "test_an_account_has_an_address_and_a_password_and_no_hint",
        "assert 201 == 400",
        (
            (
                "    email: Email\n    password: Password\n",
                "    email: Email\n    password: Password\n    hint: str | None = None\n",
            ),
        ),
    ),
    Mutant(
        "questions-in-case-one-forgets",
        "server/experience/endpoints/auth.py",
        "A registration takes whatever fields it is sent, such as a secret question.",
        "6.4.2",
        _SMALL + "test_an_account_has_an_address_and_a_password_and_no_hint",
        "assert 201 == 400",
        (
            (
                "class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):",
                "class Credentials(msgspec.Struct, frozen=True):",
            ),
        ),
    ),
)

AUTHENTICATION: Final[tuple[Mutant, ...]] = (*_DOCUMENTED, *_TRIES)
