"""Which new passwords are too easy to guess, whatever they consist of."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.machine.errors import PasswordRefused, SettingsError
from interlock.server.guard.passwords.blocklist import Blocklist

EASY = [
    "passwordpassword",
    "password12345678",
    "123451234512345",
    "1234567890123456",
    "qwertyuiopasdfghjkl",
    "aaaaaaaaaaaaaaa",
    "\u00e9" * 15,
    "\U0001f600" * 15,
    " " * 15,
    "abcdefghijklmnopq",
    "iloveyouforever",
    "P4ssw0rdP4ssw0rd",
    "letmeinletmein1",
    "1q2w3e4r5t6y7u8i",
    "purple elephant",
    "Summer2024Summer2024",
    "password" * 128,
    "thisismypassword" * 3,
    "x" * 1024,
]

HARD = [
    "correct horse battery staple",
    "kitten-orbit-lamp-seven",
    "xK9$mPq2vLw8nRt5",
    "der blaue Hund fliegt nach Oslo",
    "\u0437\u0435\u043b\u0451\u043d\u044b\u0439 \u0447\u0430\u0439 \u0438 \u043b\u0443\u043d\u0430",
    "x" * 50 + "correct horse battery staple",
    "a" * 24 + "b" * 24 + "kW83-vvQe/pL2x",
]


@pytest.mark.asvs("6.2.4", "6.2.12")
@pytest.mark.parametrize("password", EASY)
def test_a_common_repeated_or_sequential_password_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused, match="easy") as refused:
        Blocklist("interlock", ()).check(password)
    assert password not in str(refused.value)


@pytest.mark.asvs("6.2.5")
@pytest.mark.parametrize("password", HARD)
def test_a_password_that_is_hard_to_guess_is_accepted(password: str) -> None:
    Blocklist("interlock", ()).check(password, ["ada@example.org"])


@pytest.mark.parametrize(
    "password", ["ada.lovelace@example.org", "ada.lovelace@example.org1", "lovelace-example", "lovelacelovelace"]
)
def test_a_password_made_of_the_email_address_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        Blocklist("interlock", ()).check(password, ["ada.lovelace@example.org"])


@pytest.mark.asvs("6.1.2", "6.2.11")
def test_a_password_made_of_the_services_words_is_refused() -> None:
    words = ["Frobnitz GmbH", "zorkmid"]
    for password in ("frobnitz-zorkmid", "Zorkmid zorkmid1", "interlock-frobnitz", "My-Service2026"):
        Blocklist("other", ()).check(f"{password}//kW83")
        with pytest.raises(PasswordRefused):
            Blocklist("my-service", words).check(password)


@pytest.mark.asvs("6.2.12")
def test_a_custom_blocklist_applies_in_any_case_and_form(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("kitten-orbit-lamp-seven\n\nGr\u00fcne-Wiese-im-Mai-71x\n")
    blocklist = Blocklist("interlock", (), path)
    for password in ("Kitten-Orbit-Lamp-Seven", "gru\u0308ne-wiese-im-mai-71x"):
        with pytest.raises(PasswordRefused, match="on a list"):
            blocklist.check(password)
    blocklist.check("kitten-orbit-lamp-eight")


def test_an_unreadable_blocklist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="password_blocklist"):
        Blocklist("interlock", (), tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="password_blocklist"):
        Blocklist("interlock", (), tmp_path / "binary")
