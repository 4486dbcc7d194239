"""``interlock admin-token``: its output and its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from interlock.server.cli.main import main
from interlock.server.guard.keys.keyset import load_keys
from tests.support.log import interlock


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the folder of a server that was started once."""
    load_keys(tmp_path / "keys")
    return tmp_path


def secret_files(data: Path) -> list[Path]:
    return list((data / "keys").glob("*.secret"))


@pytest.mark.asvs("13.3.1")
def test_a_created_secret_is_shown_once_and_stored_as_a_hash(data: Path) -> None:
    made = interlock("admin-token", "create", "ada", "--data", data)
    assert made.returncode == 0
    (secret,) = made.stdout.splitlines()
    assert secret not in made.stderr
    assert secret.startswith("ilk_admin_ada_")
    (file,) = secret_files(data)
    assert secret not in file.read_text()
    assert (data / "keys").stat().st_mode & 0o777 == 0o700
    listed = interlock("admin-token", "list", "--data", data)
    assert listed.returncode == 0
    assert "ada" in listed.stdout
    assert listed.stdout.splitlines()[1].split()[1::2] == ["name", "created"]
    assert secret[-20:] not in listed.stdout
    removed = interlock("admin-token", "remove", "ada", "--data", data)
    assert (removed.returncode, removed.stdout) == (0, "")
    assert secret_files(data) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "ada"), "a secret named ada exists; remove it first"),
        (("create", "Ada Lovelace"), "a name has 1 to 40 of a-z, 0-9 and -"),
        (("remove", "bob"), "there is no secret named bob"),
    ],
)
def test_admin_token_errors_are_one_line(data: Path, arguments: tuple[str, str], message: str) -> None:
    interlock("admin-token", "create", "ada", "--data", data)
    before = [file.read_bytes() for file in secret_files(data)]
    outcome = interlock("admin-token", *arguments, "--data", data)
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("interlock: ")
    assert message in line
    assert [file.read_bytes() for file in secret_files(data)] == before


@pytest.mark.parametrize("command", [("admin-token", "create", "ada"), ("clients", "create", "gateway")])
def test_no_secret_is_made_in_a_folder_without_keys(tmp_path: Path, command: tuple[str, ...]) -> None:
    """It would open nothing, and the reason would not be visible."""
    outcome = interlock(*command, "--data", tmp_path / "data")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        f"interlock: there are no keys in {tmp_path}/data/keys: a server makes the first ones when it starts; or name the"
        " server's folder with --data\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_control_characters_does_not_control_the_terminal(data: Path) -> None:
    interlock("admin-token", "create", "ada", "--data", data)
    (file,) = secret_files(data)
    shutil.copy(file, file.with_name("admin-\x1b[31m.secret"))
    listed = interlock("admin-token", "list", "--data", data)
    refused = interlock("admin-token", "remove", "\x1b[32m", "--data", data)
    for told, said in ((listed, listed.stdout), (refused, refused.stderr)):
        assert ("\\x1b[3" in said, "\x1b" in told.stdout + told.stderr) == (True, False)


def test_every_list_of_keys_and_secrets_is_also_json(data: Path) -> None:
    def run(*words: str) -> list[dict[str, object]]:
        outcome = CliRunner().invoke(main, [*words, "--data", str(data)])
        assert outcome.exit_code == 0, outcome.output
        return [json.loads(line) for line in outcome.stdout.splitlines() if line.startswith("{")]

    for group, options in (("admin-token", ()), ("clients", ()), ("subscribers", ("--scope", "all"))):
        run(group, "create", "ada", *options)
        (row,) = run(group, "list", "--json")
        assert row == {"name": "ada", "created": row["created"], **({"scopes": "all"} if options else {})}
    run("realm-secrets", "add", "notes")
    (row,) = run("realm-secrets", "list", "--json")
    assert row.keys() == {"realm", "created"}
    keys = run("keys", "list", "--json")
    assert [(key["purpose"], key["status"]) for key in keys] == [("signing", "signs"), ("refresh", "signs")]
