"""Secrets of other software: made by the command line, checked by a running server, stored only as hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.machine.errors import SettingsError
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of keys, as a server makes it."""
    load_keys(tmp_path / "keys")
    return tmp_path / "keys"


def secret_files(folder: Path) -> list[Path]:
    return list(folder.glob("*.secret"))


@pytest.mark.asvs("11.5.1", "13.3.1")
def test_a_secret_opens_what_it_was_made_for_and_is_kept_as_a_hash(folder: Path) -> None:
    admins = Secrets(folder, "admin")
    secret = admins.create("ada", 1_000)
    assert secret.startswith("ilk_admin_ada_")
    assert len(secret) == len("ilk_admin_ada_") + 43
    assert admins.check(secret) == "ada"
    assert admins.names()["ada"].created_at_ms == 1_000
    assert Secrets(folder, "client").check(secret) is None
    (file,) = secret_files(folder)
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in file.read_text()
    assert secret[-43:] not in file.read_text()


@pytest.mark.parametrize(
    "presented", ["", "ilk_admin_", "ilk_admin_ada_", "ilk_admin_bob_x", "ilk_admin_ada_\ud800", "x" * 9_999]
)
def test_what_is_not_the_secret_opens_nothing(folder: Path, presented: str) -> None:
    admins = Secrets(folder, "admin")
    admins.create("ada", 1)
    assert admins.check(presented) is None
    assert Secrets(folder / "none", "admin").check(presented) is None


def test_what_another_process_makes_or_removes_counts_at_once(folder: Path) -> None:
    running, command_line = Secrets(folder, "client"), Secrets(folder, "client")
    secret = command_line.create("gateway", 1)
    assert running.check(secret) == "gateway"
    command_line.remove("gateway")
    assert running.check(secret) is None
    assert secret_files(folder) == []


@pytest.mark.parametrize("name", ["", "Ada", "a_b", "-a", "../a", "a" * 41, "a\n"])
def test_a_name_that_is_no_name_makes_no_file(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        Secrets(folder, "admin").create(name, 1)
    assert secret_files(folder) == []


def test_a_name_is_taken_once_and_only_what_is_there_is_removed(folder: Path) -> None:
    admins = Secrets(folder, "admin")
    secret = admins.create("ada", 1)
    with pytest.raises(SettingsError, match="ada"):
        admins.create("ada", 2)
    assert admins.check(secret) == "ada"
    with pytest.raises(SettingsError, match="bob"):
        admins.remove("bob")


@pytest.mark.asvs("13.3.1")
def test_a_file_that_others_may_read_or_that_holds_no_secret_is_refused(folder: Path) -> None:
    secret = Secrets(folder, "admin").create("ada", 1)
    (file,) = secret_files(folder)
    file.chmod(0o644)
    with pytest.raises(SettingsError):
        Secrets(folder, "admin").check(secret)
    file.chmod(0o600)
    file.write_text("{}")
    with pytest.raises(SettingsError):
        Secrets(folder, "admin").check(secret)


def test_a_file_that_was_opened_to_others_is_noticed_though_nothing_was_written(folder: Path) -> None:
    admins = Secrets(folder, "admin")
    secret = admins.create("ada", 1)
    assert admins.check(secret) == "ada"
    (file,) = secret_files(folder)
    file.chmod(0o644)
    with pytest.raises(SettingsError):
        admins.check(secret)
    file.chmod(0o600)
    assert admins.check(secret) == "ada"


def test_a_secret_is_made_only_where_a_server_has_its_keys(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(SettingsError):
            Secrets(folder, "client").create("gateway", 1)
    assert not (tmp_path / "none").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SettingsError):
        Secrets(file / "keys", "admin").names()
