"""Secrets of other software: made by the command line, checked by a running server, stored only as hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.machine.errors import SettingsError
from interlock.server.guard import secret_files as files_module
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets
from interlock.server.system import permissions
from tests.support.admin import holder_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of keys, as a server makes it."""
    load_keys(tmp_path / "keys")
    return tmp_path / "keys"


def secret_files(folder: Path) -> list[Path]:
    return list(folder.glob("*.secret"))


@pytest.mark.asvs("11.5.1", "13.3.1")
def test_a_secret_is_valid_for_its_kind_and_stored_as_a_hash(folder: Path) -> None:
    admins = Secrets(folder, "admin")
    secret = admins.create("ada", 1_000)
    assert secret.startswith("ilk_admin_ada_")
    assert len(secret) == len("ilk_admin_ada_") + 43
    assert holder_of(admins, secret) == "ada"
    assert admins.names()["ada"].created_at_ms == 1_000
    assert Secrets(folder, "client").check(secret) is None
    (file,) = secret_files(folder)
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in file.read_text()
    assert secret[-43:] not in file.read_text()


@pytest.mark.parametrize(
    "presented", ["", "ilk_admin_", "ilk_admin_ada_", "ilk_admin_bob_x", "ilk_admin_ada_\ud800", "x" * 9_999]
)
def test_a_wrong_secret_is_refused(folder: Path, presented: str) -> None:
    admins = Secrets(folder, "admin")
    admins.create("ada", 1)
    assert admins.check(presented) is None
    assert Secrets(folder / "none", "admin").check(presented) is None


def test_secrets_made_or_removed_by_another_process_count_at_once(folder: Path) -> None:
    running, command_line = Secrets(folder, "client"), Secrets(folder, "client")
    secret = command_line.create("gateway", 1)
    assert holder_of(running, secret) == "gateway"
    command_line.remove("gateway")
    assert running.check(secret) is None
    assert secret_files(folder) == []


@pytest.mark.parametrize("name", ["", "Ada", "a_b", "-a", "../a", "a" * 41, "a\n"])
def test_an_invalid_name_creates_no_secret(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        Secrets(folder, "admin").create(name, 1)
    assert secret_files(folder) == []


def test_a_secrets_name_is_unique_and_removing_an_unknown_one_fails(folder: Path) -> None:
    admins = Secrets(folder, "admin")
    secret = admins.create("ada", 1)
    with pytest.raises(SettingsError, match="ada"):
        admins.create("ada", 2)
    assert holder_of(admins, secret) == "ada"
    with pytest.raises(SettingsError, match="bob"):
        admins.remove("bob")


@pytest.mark.asvs("13.3.1")
def test_a_secret_file_readable_by_others_or_invalid_is_refused(folder: Path) -> None:
    secret = Secrets(folder, "admin").create("ada", 1)
    (file,) = secret_files(folder)
    file.chmod(0o644)
    with pytest.raises(SettingsError):
        Secrets(folder, "admin").check(secret)
    file.chmod(0o600)
    file.write_text("{}")
    with pytest.raises(SettingsError):
        Secrets(folder, "admin").check(secret)


def test_a_mere_change_of_permissions_of_a_secret_is_noticed(folder: Path) -> None:
    admins = Secrets(folder, "admin")
    secret = admins.create("ada", 1)
    assert holder_of(admins, secret) == "ada"
    (file,) = secret_files(folder)
    file.chmod(0o644)
    with pytest.raises(SettingsError):
        admins.check(secret)
    file.chmod(0o600)
    assert holder_of(admins, secret) == "ada"


def test_a_secret_is_created_only_beside_a_servers_keys(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(SettingsError):
            Secrets(folder, "client").create("gateway", 1)
    assert not (tmp_path / "none").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_an_unusable_secrets_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SettingsError):
        Secrets(file / "keys", "admin").names()


def test_a_file_that_vanishes_while_it_is_read_hides_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admins = Secrets(folder, "admin")
    secret, _ = admins.create("ada", 1), admins.create("eve", 1)
    read = permissions.read_private

    def gone(path: Path) -> bytes:
        if "eve" in path.name:
            raise FileNotFoundError
        return read(path)

    monkeypatch.setattr(files_module, "read_private", gone)
    again = Secrets(folder, "admin")
    assert list(again.names()) == ["ada"]
    assert holder_of(again, secret) == "ada"


def test_a_folder_that_is_gone_is_no_removal_of_its_secrets(folder: Path) -> None:
    admins = Secrets(folder, "admin")
    secret = admins.create("ada", 1)
    assert list(admins.names()) == ["ada"]
    folder.rename(folder.with_name("away"))
    with pytest.raises(SettingsError, match="gone"):
        admins.names()
    folder.with_name("away").rename(folder)
    assert holder_of(admins, secret) == "ada"


def test_of_two_creations_of_one_name_one_succeeds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Secrets(folder, "admin"), Secrets(folder, "admin")
    monkeypatch.setattr(first, "names", dict)  # as seen before the other was there
    monkeypatch.setattr(second, "names", dict)
    secret = first.create("ada", 1)
    with pytest.raises(SettingsError, match="a secret named ada exists"):
        second.create("ada", 2)
    assert holder_of(Secrets(folder, "admin"), secret) == "ada"
    assert len(list(folder.glob("admin-*"))) == 1
