"""Ownership of files: a server starts on nothing that another user may have written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.machine.errors import SettingsError
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets
from interlock.server.settings import Settings
from interlock.server.surface.sqlite.files import exclusive_access
from interlock.server.wiring import open_services
from tests.support.running import run

SOMEBODY = 54_321


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the folder of a server that has run and stopped."""
    load_keys(tmp_path / "data" / "keys")
    Secrets(tmp_path / "data" / "keys", "client").create("gateway", 1)
    Secrets(tmp_path / "data" / "keys", "admin").create("ada", 1)
    return tmp_path / "data"


def start(data: Path) -> None:
    async def open_and_close() -> None:
        async with open_services(Settings(data=str(data), cheap_passwords_for_tests=True)):
            pass

    run(open_and_close())


def given_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give ``path`` to another user, whoever runs the tests."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1)
        return
    real = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        found = real(self, **options)
        return os.stat_result((*found[:4], SOMEBODY, *found[5:])) if self == path else found

    monkeypatch.setattr(Path, "stat", stat)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o2755])
def test_a_data_folder_readable_by_others_is_accepted(data: Path, mode: int) -> None:
    data.chmod(mode)
    start(data)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777, 0o2775])
def test_a_data_folder_writable_by_others_is_refused(data: Path, mode: int) -> None:
    data.chmod(mode)
    before = sorted(data.iterdir())
    with pytest.raises(SettingsError, match=f"{data} .*chmod go-w") as refused:
        start(data)
    assert ("fsGroupChangePolicy" in str(refused.value)) is (not mode & 0o002), "a group alone is what fsGroup lets in"
    with pytest.raises(SettingsError, match="chmod go-w"), exclusive_access(data):
        pass
    assert sorted(data.iterdir()) == before, "and nothing is made in it"


FILES = [
    "interlock.db",
    "interlock.db-wal",
    "interlock.db-shm",
    "interlock.db-journal",
    "interlock.lock",
    "interlock.head",
]


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o620])
@pytest.mark.parametrize("name", FILES)
def test_a_data_file_writable_by_others_is_refused(data: Path, name: str, mode: int) -> None:
    start(data)
    (data / name).touch()
    (data / name).chmod(mode)
    with pytest.raises(SettingsError, match=name):
        start(data)
    (data / name).chmod(0o600)
    start(data)


KEYS: dict[str, Callable[[Path], Path]] = {
    "the first refresh key": lambda keys: keys / "refresh.key",
    "a signing key": lambda keys: next(keys.glob("signing-*.pem")),
    "an administrator's secret": lambda keys: keys / "admin-ada.secret",
}


@pytest.mark.asvs("13.3.1")
@pytest.mark.parametrize("mode", [0o660, 0o640, 0o604, 0o666])
@pytest.mark.parametrize("which", KEYS)
def test_a_key_open_to_group_or_others_is_refused_with_advice(data: Path, which: str, mode: int) -> None:
    path = KEYS[which](data / "keys")
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"{path.name} .*chmod 600") as said:
        start(data)
    assert ("fsGroupChangePolicy: OnRootMismatch" in str(said.value)) is (mode in {0o660, 0o640})
    path.chmod(0o400)
    start(data)


@pytest.mark.parametrize("which", KEYS)
def test_a_key_of_another_owner_is_refused(data: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = KEYS[which](data / "keys")
    given_away(path, monkeypatch)
    with pytest.raises(SettingsError, match=f"{path.name} .*{SOMEBODY}"):
        start(data)


def test_a_key_folder_of_another_owner_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_away(data / "keys", monkeypatch)
    with pytest.raises(SettingsError, match=str(SOMEBODY)):
        start(data)


SETTINGS_FILES = {"more.toml": "--config", "passwords.txt": "--password-blocklist"}


@pytest.mark.parametrize("name", [*FILES, *SETTINGS_FILES, *(f"keys/{name}" for name in KEYS)])
def test_a_pipe_in_place_of_a_file_is_refused_without_blocking(data: Path, name: str) -> None:
    start(data)
    which = KEYS.get(name.removeprefix("keys/"))
    path = which(data / "keys") if which is not None else data / name
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    flags = [SETTINGS_FILES[name], str(path)] if name in SETTINGS_FILES else []
    command = [sys.executable, "-m", "interlock.server.cli", "serve", "--data", str(data), "--port", "0", *flags]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode
    assert f"{path} " in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("name", FILES)
def test_a_data_file_of_another_owner_is_refused(data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start(data)
    (data / name).touch(mode=0o600)
    given_away(data / name, monkeypatch)
    with pytest.raises(SettingsError, match=f"{name} .*{SOMEBODY}"):
        start(data)


def test_a_link_is_judged_by_its_target(data: Path, tmp_path: Path) -> None:
    """As Kubernetes mounts secrets: each is a link to a file elsewhere."""
    key = KEYS["a signing key"](data / "keys")
    shutil.move(key, tmp_path / "elsewhere.pem")
    key.symlink_to(tmp_path / "elsewhere.pem")
    linked = tmp_path / "linked"
    linked.symlink_to(data)
    start(linked)
    (tmp_path / "elsewhere.pem").chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        start(linked)
    (tmp_path / "elsewhere.pem").chmod(0o600)
    data.chmod(0o777)
    with pytest.raises(SettingsError, match="chmod go-w"):
        start(linked)
