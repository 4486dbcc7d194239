"""Secrets of other software: made by the command line, checked by a running server, kept only as hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import SettingsError
from server.guard.secrets import Secrets


@pytest.mark.asvs("11.5.1", "13.3.1")
def test_a_secret_opens_what_it_was_made_for_and_is_kept_as_a_hash(tmp_path: Path) -> None:
    admins = Secrets(tmp_path, "admin")
    secret = admins.create("ada", 1_000)
    assert secret.startswith("ilk_admin_ada_")
    assert len(secret) == len("ilk_admin_ada_") + 43
    assert admins.check(secret) == "ada"
    assert admins.names()["ada"].created_at_ms == 1_000
    assert Secrets(tmp_path, "client").check(secret) is None
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in file.read_text()
    assert secret[-43:] not in file.read_text()


@pytest.mark.parametrize(
    "presented", ["", "ilk_admin_", "ilk_admin_ada_", "ilk_admin_bob_x", "ilk_admin_ada_\ud800", "x" * 9_999]
)
def test_what_is_not_the_secret_opens_nothing(tmp_path: Path, presented: str) -> None:
    admins = Secrets(tmp_path, "admin")
    admins.create("ada", 1)
    assert admins.check(presented) is None
    assert Secrets(tmp_path / "none", "admin").check(presented) is None


def test_what_another_process_makes_or_removes_counts_at_once(tmp_path: Path) -> None:
    running, command_line = Secrets(tmp_path, "client"), Secrets(tmp_path, "client")
    secret = command_line.create("gateway", 1)
    assert running.check(secret) == "gateway"
    command_line.remove("gateway")
    assert running.check(secret) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "Ada", "a_b", "-a", "../a", "a" * 41, "a\n"])
def test_a_name_that_is_no_name_makes_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="a name has"):
        Secrets(tmp_path, "admin").create(name, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_taken_once_and_only_what_is_there_is_removed(tmp_path: Path) -> None:
    admins = Secrets(tmp_path, "admin")
    secret = admins.create("ada", 1)
    with pytest.raises(SettingsError, match="there is a secret of the name ada"):
        admins.create("ada", 2)
    assert admins.check(secret) == "ada"
    with pytest.raises(SettingsError, match="there is no secret of the name bob"):
        admins.remove("bob")


@pytest.mark.asvs("13.3.1")
def test_a_file_that_others_may_read_or_that_holds_no_secret_is_refused(tmp_path: Path) -> None:
    secret = Secrets(tmp_path, "admin").create("ada", 1)
    (file,) = tmp_path.iterdir()
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="may be read by others"):
        Secrets(tmp_path, "admin").check(secret)
    file.chmod(0o600)
    file.write_text("{}")
    with pytest.raises(SettingsError, match="does not hold a secret"):
        Secrets(tmp_path, "admin").check(secret)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SettingsError, match="can't be used"):
        Secrets(file / "keys", "admin").names()
