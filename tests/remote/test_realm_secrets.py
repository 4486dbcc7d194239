"""The files of the secrets that sign the calls of remote realms."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from interlock.machine.errors import SettingsError
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.keyring import open_keyring
from interlock.server.guard.keys.rotation import TokenLifetimes
from interlock.server.guard.realm_secrets import RealmSecrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_keyring(tmp_path / "keys", SystemClock(), TokenLifetimes(1000, 1000))
    return tmp_path / "keys"


def test_a_running_server_sees_what_the_command_line_writes(folder: Path) -> None:
    running, command_line = RealmSecrets(folder), RealmSecrets(folder)
    assert running.texts("billing") == []
    first = command_line.create("billing", 1)
    assert running.texts("billing") == [first]
    second = command_line.create("billing", 2)
    assert running.texts("billing") == [second, first]
    assert command_line.retire("billing") == 1
    assert running.texts("billing") == [second]
    command_line.remove("billing")
    assert running.texts("billing") == []
    assert running.names() == {}


def test_a_secret_is_its_owners_alone_and_one_that_is_not_is_refused(folder: Path) -> None:
    secrets = RealmSecrets(folder)
    secrets.create("billing", 1)
    path = folder / "realm-billing.secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="may be read by others"):
        secrets.texts("billing")


def test_what_the_log_records_contains_no_secret_and_tells_secrets_apart(folder: Path) -> None:
    secrets = RealmSecrets(folder)
    text = secrets.create("billing", 1) + secrets.create("billing", 2) + secrets.create("shop", 3)
    held = secrets.held()
    assert [(each.purpose, each.name) for each in held] == [
        ("realm", "billing"),
        ("realm", "billing"),
        ("realm", "shop"),
    ]
    assert len({each.fingerprint for each in held}) == 3
    assert not any(each.fingerprint in text for each in held)


def test_at_most_three_secrets_are_valid(folder: Path) -> None:
    secrets = RealmSecrets(folder)
    for at_ms in (1, 2, 3):
        secrets.create("billing", at_ms)
    with pytest.raises(SettingsError, match="billing has 3 secrets; remove the old ones first"):
        secrets.create("billing", 4)


@pytest.mark.parametrize("name", ["", "Billing", "../billing", "b" * 33, "billing\n"])
def test_a_name_that_no_realm_can_have_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="a name has 1 to 32 of a-z"):
        RealmSecrets(folder).create(name, 1)


def test_a_folder_without_keys_and_a_name_without_secret_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there are no keys in"):
        RealmSecrets(tmp_path).create("billing", 1)
    for act in (RealmSecrets(folder).retire, RealmSecrets(folder).remove):
        with pytest.raises(SettingsError, match="there is no secret named billing"):
            act("billing")


@pytest.mark.parametrize("content", ["", "{}", '{"secrets": []}', '{"secrets": [{"secret": "x", "created_at_ms": 1}]}'])
def test_a_file_that_holds_no_secret_is_named(folder: Path, content: str) -> None:
    secrets = RealmSecrets(folder)
    secrets.create("billing", 1)
    (folder / "realm-billing.secret").write_text(content)
    with pytest.raises(SettingsError, match=r"realm-billing.secret does not hold a secret"):
        secrets.texts("billing")


def test_every_name_of_a_realm_can_have_a_secret(folder: Path) -> None:
    secrets = RealmSecrets(folder)
    text = secrets.create("old_shop-2", 1)
    assert secrets.texts("old_shop-2") == [text]
    assert list(RealmSecrets(folder).names()) == ["old_shop-2"]
