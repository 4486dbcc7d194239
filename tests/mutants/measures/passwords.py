"""The measures of section 6.2: which passwords there may be, and how they are set and compared."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ACCOUNTS: Final = "tests/server/test_accounts.py::"
_RULES: Final = "tests/server/test_password_rules.py::"
_EASY: Final = "tests/server/test_blocklist.py::"
_SMALL: Final = "tests/server/test_small_measures.py::"

PASSWORDS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "fourteen-characters-are-enough",
        "server/guard/passwords/hashing.py",
        "A password of fourteen characters is taken, by a comparison that is one off.",
        "6.2.1",
        _ACCOUNTS + "test_a_shorter_or_longer_one_is_refused",
        "DID NOT RAISE",
        (("        if length < MINIMUM_LENGTH:\n", "        if length + 1 < MINIMUM_LENGTH:\n"),),
    ),
    Mutant(
        "accents-count-as-characters",
        "server/guard/passwords/hashing.py",
        "The length of a password is that of its bytes.",
        "6.2.1",
        _ACCOUNTS + "test_a_shorter_or_longer_one_is_refused",
        "DID NOT RAISE",
        (('length = len(unicodedata.normalize("NFC", password))', "length = len(password.encode())"),),
    ),
    Mutant(
        "nobody-counts-the-characters",
        "server/guard/passwords/hashing.py",
        "Registrations and changes ask for what is easy to guess, and not for the length.",
        "6.2.1",
        _RULES + "test_fourteen_characters_are_too_few_and_fifteen_enough",
        "assert (201, 200) == (422, 422)",
        (("        self.check_rules(password)\n", ""),),
    ),
    Mutant(
        "no-way-to-change-the-password",
        "server/experience/endpoints/auth.py",
        "The call that changes a password is not among those that the server has.",
        "6.2.2",
        _SMALL + "test_a_password_is_changed_with_the_current_one_and_the_other_sessions_end",
        "assert 404 in {400, 403}",
        (("[register, login, refresh, logout, change_password]", "[register, login, refresh, logout]"),),
    ),
    Mutant(
        "a-change-of-password-that-changes-nothing",
        "server/experience/endpoints/auth.py",
        "A change of password ends the other sessions and leaves the password as it was.",
        "6.2.2",
        _SMALL + "test_a_password_is_changed_with_the_current_one_and_the_other_sessions_end",
        "assert 200 == 401",
        (('"password_change", along=change.along)', '"password_change")'),),
    ),
    Mutant(
        "a-new-password-without-the-old-one",
        "server/guard/accounts.py",
        "The current password is asked for at a change, and not looked at.",
        "6.2.3",
        _SMALL + "test_a_password_is_changed_with_the_current_one_and_the_other_sessions_end",
        "assert 200 in {400, 403}",
        (
            (
                "if not await self._passwords.verify(stored, current, requester, count) or account is None:",
                "if account is None:",
            ),
        ),
    ),
    Mutant(
        "common-passwords-are-taken",
        "server/guard/passwords/hashing.py",
        "Nobody asks whether a new password is common.",
        "6.2.4",
        _RULES + "test_a_common_one_is_refused",
        "assert (201, 200) == (422, 422)",
        (("        self._blocklist.check(password, personal)\n", ""),),
    ),
    Mutant(
        "common-passwords-are-taken-at-a-change",
        "server/guard/accounts.py",
        "Only a registration asks whether a new password is common.",
        "6.2.4",
        _RULES + "test_a_common_one_is_refused",
        "assert (422, 200) == (422, 422)",
        (
            (
                "        await self._passwords.check_new(new, [email] if email else [], requester)\n",
                "        self._passwords.check_rules(new)\n",
            ),
        ),
    ),
    Mutant(
        "only-the-most-common-passwords",
        "server/guard/passwords/blocklist.py",
        "What is refused are the first ten thousand guesses, of which hardly one has fifteen characters.",
        "6.2.4",
        _EASY + "test_what_is_common_repeated_or_in_sequence_is_refused",
        "DID NOT RAISE",
        (
            ("EASY_LOG10: Final = 10.0", "EASY_LOG10: Final = 4.0"),
            ("EASY_JOINED_LOG10: Final = 8.0", "EASY_JOINED_LOG10: Final = 4.0"),
        ),
    ),
    Mutant(
        "one-special-character-at-least",
        "server/guard/passwords/hashing.py",
        "A password has to have a character that is neither letter nor digit.",
        "6.2.5",
        _RULES + "test_characters_of_one_kind_are_enough",
        "assert (422, 422) == (201, 200)",
        (
            (
                "        if length > MAXIMUM_LENGTH:\n",
                (
                    "        if password.isalnum():\n"
                    '            raise PasswordRefused("a password has a special character")\n'
                    "        if length > MAXIMUM_LENGTH:\n"
                ),
            ),
        ),
    ),
    Mutant(
        "what-is-beyond-72-bytes-is-cut",
        "server/guard/passwords/hashing.py",
        "A password is cut after 72 bytes, as bcrypt does it.",
        "6.2.8",
        _ACCOUNTS + "test_a_password_is_verified_as_typed",
        "DID NOT RAISE",
        (
            (
                'return unicodedata.normalize("NFC", password).encode()',
                'return unicodedata.normalize("NFC", password).encode()[:72]',
            ),
        ),
    ),
    Mutant(
        "a-password-in-any-case",
        "server/guard/passwords/hashing.py",
        "A password is folded before it is hashed.",
        "6.2.8",
        _RULES + "test_what_logs_in_is_what_was_typed",
        "assert 200 == 401",
        (('return unicodedata.normalize("NFC", password).encode()', "return password.casefold().encode()"),),
    ),
    Mutant(
        "a-password-is-trimmed",
        "server/experience/endpoints/auth.py",
        "A login takes the spaces off the password, because people paste them along.",
        "6.2.8",
        _RULES + "test_what_logs_in_is_what_was_typed",
        "assert 401 == 200",
        (("requester, data.password, count)", "requester, data.password.strip(), count)"),),
    ),
    Mutant(
        "the-keyboard-decides",
        "server/guard/passwords/hashing.py",
        "What is hashed are the code points as they come, so that a letter with its accent apart is another.",
        "6.2.8",
        _ACCOUNTS + "test_the_same_characters_typed_another_way_are_the_same_password",
        "assert False",
        (('return unicodedata.normalize("NFC", password).encode()', "return password.encode()"),),
    ),
    Mutant(
        "sixty-characters-at-most",
        "server/guard/passwords/hashing.py",
        "A password has sixty characters at most.",
        "6.2.9",
        _ACCOUNTS + "test_a_password_has_15_to_1024_characters_whatever_they_are",
        "PasswordRefused: a password has at most 60 characters",
        (("MAXIMUM_LENGTH: Final = 1024", "MAXIMUM_LENGTH: Final = 60"),),
    ),
    Mutant(
        "sixty-characters-in-a-body",
        "server/experience/endpoints/auth.py",
        "The rules allow long passwords, and the body of a call has no room for one.",
        "6.2.9",
        _RULES + "test_a_long_one_is_taken",
        "assert (400, 400) == (201, 200)",
        (("Meta(max_length=4096, ", "Meta(max_length=60, "),),
    ),
    Mutant(
        "a-password-for-ninety-days",
        "server/guard/accounts.py",
        "A password that is older than ninety days opens nothing.",
        "6.2.10",
        _ACCOUNTS + "test_a_password_does_not_grow_old",
        "CredentialInvalid: the password has expired",
        (
            (
                "        ensure_enabled(account)\n        if self._passwords",
                (
                    "        ensure_enabled(account)\n"
                    "        if self._clock.now_ms() - account.password_changed_at_ms > 90 * 86_400_000:\n"
                    '            raise CredentialInvalid("the password has expired")\n'
                    "        if self._passwords"
                ),
            ),
        ),
    ),
    Mutant(
        "the-names-of-the-server-are-no-words",
        "server/wiring.py",
        "The list of words holds what the setting names, and not the issuer.",
        "6.2.11",
        _RULES + "test_one_of_the_names_and_words_of_this_server_is_refused",
        "assert (201, 200) == (422, 422)",
        (("[settings.issuer, *settings.password_context_words]", "settings.password_context_words"),),
    ),
    Mutant(
        "the-words-of-the-setting-are-not-heeded",
        "server/wiring.py",
        "The words that the setting names are read and handed to nobody.",
        "6.2.11",
        _RULES + "test_one_of_the_names_and_words_of_this_server_is_refused",
        "assert (201, 200) == (422, 422)",
        (("[settings.issuer, *settings.password_context_words]", "[settings.issuer]"),),
    ),
    Mutant(
        "ones-own-address-is-a-password",
        "server/guard/accounts.py",
        "At a registration nobody tells the blocklist the account's own address.",
        "6.2.11",
        _ACCOUNTS + "test_a_password_that_is_easy_to_guess_is_refused_at_registration_and_at_a_change",
        "DID NOT RAISE",
        (("check_new(password, [normalised], requester)", "check_new(password, [], requester)"),),
    ),
    Mutant(
        "the-list-of-the-setting-is-not-heeded",
        "server/wiring.py",
        "The file of breached passwords that the setting names is never read.",
        "6.2.12",
        _RULES + "test_one_on_the_list_that_a_setting_names_is_refused",
        "assert (201, 200) == (422, 422)",
        (("Path(settings.password_blocklist) if settings.password_blocklist else None", "None"),),
    ),
    Mutant(
        "no-breached-passwords-ship",
        "server/guard/passwords/blocklist.py",
        "Only the operator's own file is asked, and not the lists of breached passwords that ship.",
        "6.2.12",
        _EASY + "test_what_is_common_repeated_or_in_sequence_is_refused",
        "DID NOT RAISE",
        (("        if _is_easy(folded, near, EASY_LOG10) or (joined", "        if near == [folded] or (joined"),),
    ),
)
