"""Removed measures for requirements of ASVS chapter 6."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, replace
from tests.mutants.mutant import Mutant

AUTHENTICATION: Final[tuple[Mutant, ...]] = (
    Mutant(
        "A default is raised in the code, and the page on admission goes on promising the old one.",
        "6.1.1",
        "test_every_limit_is_explained_with_its_default",
        at("settings:Settings.limit_login_client", replace("'10/15m'", "'1000/15m'")),
    ),
    Mutant(
        "An address that the account has logged in from counts as a stranger's.",
        "6.1.1",
        "test_strangers_failed_logins_do_not_lock_the_owner_out",
        at("logins:LoginLimits.remember", drop("keep_newest(places.addresses, ...)")),
    ),
    Mutant(
        "The cookie by which a device is known again is set and never read.",
        "6.1.1",
        "test_stuffing_from_the_owners_address_leaves_their_device_in",
        at("admission:client_of", replace("cookie_named(scope, _DEVICE)", "None")),
    ),
    Mutant(
        "A flood that fills the queue for hashes shuts those out who come from where they came before.",
        "6.1.1",
        "test_a_flood_of_strangers_leaves_places_for_known_devices",
        at("hashing:Passwords._run", replace("self._known if requester.known else self._strangers", "self._strangers")),
    ),
    Mutant(
        "The length of a password is that of its bytes.",
        "6.2.1",
        "test_a_shorter_or_longer_password_is_refused",
        at("hashing:Passwords.check_rules", replace("unicodedata.normalize('NFC', password)", "password.encode()")),
    ),
    Mutant(
        "A change of password ends the other sessions and leaves the password as it was.",
        "6.2.2",
        "test_a_password_change_needs_the_current_one_and_ends_other_sessions",
        at("accounts:Accounts.password_change", replace("along = ...", "along = None")),
    ),
    Mutant(
        "The current password is asked for at a change, and not looked at.",
        "6.2.3",
        "test_a_password_change_needs_the_current_one_and_ends_other_sessions",
        at(
            "logins:Logins.change_password",
            replace(
                "not await self._passwords.verify(stored, current, requester, count) or owner is None",
                "owner is None",
            ),
        ),
    ),
    Mutant(
        "Only a registration asks whether a new password is common.",
        "6.2.4",
        "test_a_common_password_is_refused",
        at(
            "logins:Logins.change_password",
            replace(
                "await self._passwords.check_new(new, [email] if email else [], requester)",
                "self._passwords.check_rules(new)",
            ),
        ),
    ),
    Mutant(
        "A password has to have a character that is neither letter nor digit.",
        "6.2.5",
        "test_a_password_may_have_characters_of_one_kind",
        at(
            "hashing:Passwords.check_rules",
            replace(
                "if length > MAXIMUM_LENGTH:\n    ...",
                "if password.isalnum():\n    raise PasswordRefused('a password has a special character')\n...",
            ),
        ),
    ),
    Mutant(
        "A password is cut after 72 bytes, as bcrypt does it.",
        "6.2.8",
        "test_a_password_is_verified_as_typed",
        at("hashing:_bytes", replace("unicodedata.normalize('NFC', password).encode()", "...[:72]")),
    ),
    Mutant(
        "A login takes the spaces off the password, because people paste them along.",
        "6.2.8",
        "test_only_the_exact_password_logs_in",
        at("auth:login", replace("data.password", "data.password.strip()")),
    ),
    Mutant(
        "What is hashed are the code points as they come, so that a letter with its accent apart is another.",
        "6.2.8",
        "test_equivalent_unicode_spellings_are_the_same_password",
        at("hashing:_bytes", replace("unicodedata.normalize('NFC', password)", "password")),
    ),
    Mutant(
        "The rules allow long passwords, and the body of a call has no room for one.",
        "6.2.9",
        "test_a_long_password_is_accepted",
        at("auth:Password", replace("4096", "60")),
    ),
    Mutant(
        "A password that is older than ninety days opens nothing.",
        "6.2.10",
        "test_a_password_does_not_expire",
        at(
            "logins:Logins.verify_password",
            replace(
                "if self._passwords.is_outdated(stored):\n    ...",
                """
                if self._clock.now_ms() - owner.account.password_changed_at_ms > 90 * 86400000:
                    raise CredentialInvalid('the password has expired')
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "The list of words holds what the setting names, and not the issuer.",
        "6.2.11",
        "test_a_password_made_of_this_servers_words_is_refused",
        at(
            "wiring:_passwords",
            replace("[settings.issuer, *settings.password_context_words]", "settings.password_context_words"),
        ),
    ),
    Mutant(
        "At a registration nobody tells the blocklist the account's own address.",
        "6.2.11",
        "test_an_easy_password_is_refused_at_registration_and_change",
        at("logins:Logins.register", replace("[normalised]", "[]")),
    ),
    Mutant(
        "The file of breached passwords that the setting names is never read.",
        "6.2.12",
        "test_a_password_on_the_configured_list_is_refused",
        at(
            "wiring:_passwords",
            replace("Path(settings.password_blocklist) if settings.password_blocklist else None", "None"),
        ),
    ),
    Mutant(
        "Who guesses one account's password from many addresses meets no counter.",
        "6.3.1",
        "test_stuffing_one_account_from_many_addresses_locks_no_owner_out",
        at("logins:LoginLimits._wanted", drop("(self._of_account, account)")),
    ),
    Mutant(
        "A device is known also by a cookie from before a change of the password.",
        "6.3.1",
        "test_knowing_an_old_password_gives_no_more_attempts",
        at(
            "devices:Devices.known",
            replace("owner is None or owner.account.password_changed_at_ms != int(match[2])", "owner is None"),
        ),
    ),
    Mutant(
        "An address from which only an older password was shown is not a stranger's.",
        "6.3.1",
        "test_knowing_an_old_password_gives_no_more_attempts",
        at("logins:LoginLimits.remember", replace("places is None or places.set_at_ms < set_at_ms", "places is None")),
    ),
    Mutant(
        "Clients of exempt networks, and so everybody behind a proxy on the same machine, may guess as often as they like.",
        "6.3.1",
        "test_failed_passwords_count_even_in_exempt_networks",
        at(
            "admission:verify_login",
            replace(
                "services.logins.verify_password(requester, password, count)",
                "services.logins.verify_password(requester, password,"
                " *[count][:services.addresses.counts(address_of(scope))])",
            ),
        ),
    ),
    Mutant(
        "Wrong current passwords at a change are not counted.",
        "6.3.1",
        "test_a_stolen_sessions_password_guesses_are_limited_by_themselves",
        at(
            "auth:change_password",
            replace(
                "services.logins.change_password(session, ...)",
                """
                services.logins.change_password(
                    session, data.current_password, data.new_password, limit_key_of(request.scope)
                )
                """,
            ),
        ),
    ),
    Mutant(
        "As many hashes may wait as there are logins.",
        "6.3.1",
        "test_hashing_does_not_block_the_event_loop_and_has_a_limit",
        at("hash_queue:HashQueue.add", replace("len(self._waiting) <= self._max_waiting", "self._waiting")),
    ),
    Mutant(
        "A new server makes an account with a password that stands in the code.",
        "6.3.2",
        "test_a_new_server_has_no_account",
        at(
            "wiring:open_services",
            replace(
                "services = _assemble(...)",
                """
                ...
                with __import__('contextlib').suppress(Exception):
                    await services.logins.register('admin@localhost', 'change it before anybody sees', 'nowhere')
                """,
            ),
        ),
    ),
    Mutant(
        "A call for the support team logs in to any account, and stands in no document.",
        "6.3.4",
        "test_every_login_method_is_in_the_security_models_table",
        at(
            "auth:HANDLERS",
            replace(
                "HANDLERS: ... = ...",
                """
                async def support(services: Any, subject: str) -> None:
                    from interlock.machine.session.commands import Authenticate
                    await services.sessions.authenticate(None, Authenticate(subject, 'support'))
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "A registration takes a hint.",
        "6.4.2",
        "test_an_account_has_an_address_and_a_password_and_no_hint",
        at("auth:Credentials", replace("password: Password", "...\nhint: str | None = None")),
    ),
    Mutant(
        "The words that the setting names may be in a password.",
        "6.1.2",
        "test_a_password_made_of_the_services_words_is_refused",
        at("blocklist:Blocklist.__init__", replace("[service, ...]", "[service, 'interlock']")),
    ),
    Mutant(
        "Eight characters are enough, and the table of the ways to log in says fifteen.",
        "6.1.3",
        "test_the_security_models_table_rates_each_login_method",
        at("hashing:MINIMUM_LENGTH", replace("15", "8")),
    ),
    Mutant(
        "Each token that names an unknown key makes the server ask the identity provider.",
        "2.4.1",
        "test_made_up_key_ids_cause_at_most_one_fetch_per_interval",
        at("provider_keys:ProviderKeys._refresh", replace("self._tried_at_ms + self._retry_ms", "self._tried_at_ms")),
    ),
    Mutant(
        "An exchange leaves the account's groups as they were at the first.",
        "7.1.3",
        "test_the_session_changes_as_the_table_says[groups or strength change at the provider]",
        at("logins:Login.record", drop("joined=self._change")),
    ),
    Mutant(
        "A reset code is short enough to guess.",
        "6.4.6",
        "test_a_code_is_long_and_easy_to_read",
        at("reset_codes:_LENGTH", replace("24", "4")),
    ),
)
