"""``interlock admin-token``: what it prints, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.log import interlock


@pytest.mark.asvs("11.5.1", "13.3.1")
def test_a_secret_is_shown_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    made = interlock("admin-token", "create", "ada", "--data", tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    (secret,) = made.stdout.splitlines()
    assert secret.startswith("ilk_admin_ada_")
    (file,) = (tmp_path / "keys").iterdir()
    assert secret not in file.read_text()
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    listed = interlock("admin-token", "list", "--data", tmp_path)
    assert listed.returncode == 0
    assert "ada" in listed.stdout
    assert secret[-20:] not in listed.stdout
    removed = interlock("admin-token", "remove", "ada", "--data", tmp_path)
    assert (removed.returncode, removed.stdout, removed.stderr) == (0, "", "")
    assert list((tmp_path / "keys").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "ada"), "there is a secret of the name ada; remove it first"),
        (("create", "Ada Lovelace"), "a name has 1 to 40 of a-z, 0-9 and -"),
        (("remove", "bob"), "there is no secret of the name bob"),
    ],
)
def test_what_can_not_be_is_said_in_one_line(tmp_path: Path, arguments: tuple[str, str], message: str) -> None:
    interlock("admin-token", "create", "ada", "--data", tmp_path)
    before = [file.read_bytes() for file in (tmp_path / "keys").iterdir()]
    outcome = interlock("admin-token", *arguments, "--data", tmp_path)
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("interlock: ")
    assert message in line
    assert [file.read_bytes() for file in (tmp_path / "keys").iterdir()] == before


def test_nobody_is_listed_where_there_is_nobody(tmp_path: Path) -> None:
    listed = interlock("admin-token", "list", "--data", tmp_path / "nowhere")
    assert listed.returncode == 0
    assert not (tmp_path / "nowhere").exists()
