"""The files of the secrets that sign the calls of remote realms."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from interlock.machine.errors import SettingsError
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.keyring import open_keyring
from interlock.server.guard.keys.rotation import TokenLifetimes
from interlock.server.guard.signing_secrets import SigningSecrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_keyring(tmp_path / "keys", SystemClock(), TokenLifetimes(1000, 1000))
    return tmp_path / "keys"


def test_a_running_server_sees_what_the_command_line_writes(folder: Path) -> None:
    running, command_line = SigningSecrets(folder, "realm"), SigningSecrets(folder, "realm")
    assert running.texts("billing") == []
    first = command_line.add("billing", 1)
    assert running.texts("billing") == [first]
    second = command_line.add("billing", 2)
    assert running.texts("billing") == [second, first]
    assert command_line.retire("billing") == 1
    assert running.texts("billing") == [second]
    command_line.remove("billing")
    assert running.texts("billing") == []
    assert running.names() == []


def test_a_secret_is_its_owners_alone_and_one_that_is_not_is_refused(folder: Path) -> None:
    secrets = SigningSecrets(folder, "realm")
    secrets.add("billing", 1)
    path = folder / "realm-billing.signing"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="may be read by others"):
        secrets.texts("billing")


def test_what_the_log_records_contains_no_secret_and_tells_secrets_apart(folder: Path) -> None:
    secrets = SigningSecrets(folder, "realm")
    text = secrets.add("billing", 1) + secrets.add("billing", 2) + secrets.add("shop", 3)
    held = secrets.held()
    assert [(each.purpose, each.name) for each in held] == [
        ("realm", "billing"),
        ("realm", "billing"),
        ("realm", "shop"),
    ]
    assert len({each.fingerprint for each in held}) == 3
    assert not any(each.fingerprint in text for each in held)


def test_at_most_three_secrets_are_valid(folder: Path) -> None:
    secrets = SigningSecrets(folder, "realm")
    for at_ms in (1, 2, 3):
        secrets.add("billing", at_ms)
    with pytest.raises(SettingsError, match="billing has 3 secrets; remove the old ones first"):
        secrets.add("billing", 4)


@pytest.mark.parametrize("name", ["", "Billing", "../billing", "b" * 33, "billing\n"])
def test_a_name_that_no_realm_can_have_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="a name has 1 to 32 of a-z"):
        SigningSecrets(folder, "realm").add(name, 1)


def test_a_folder_without_keys_and_a_name_without_secret_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there are no keys in"):
        SigningSecrets(tmp_path, "realm").add("billing", 1)
    for act in (SigningSecrets(folder, "realm").retire, SigningSecrets(folder, "realm").remove):
        with pytest.raises(SettingsError, match="billing has no secret"):
            act("billing")


@pytest.mark.parametrize("content", ["", "{}", '{"secrets": []}', '{"secrets": [{"secret": "x", "created_at_ms": 1}]}'])
def test_a_file_that_holds_no_secret_is_named(folder: Path, content: str) -> None:
    secrets = SigningSecrets(folder, "realm")
    secrets.add("billing", 1)
    (folder / "realm-billing.signing").write_text(content)
    with pytest.raises(SettingsError, match=r"realm-billing.signing does not hold signing secrets"):
        secrets.texts("billing")
