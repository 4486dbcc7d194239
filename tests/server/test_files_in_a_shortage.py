"""Shortages of descriptors or memory say nothing about secrets, database and head; a removed file is still noticed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from interlock.machine.errors import SettingsError, SurfaceFailed
from interlock.machine.ledger import Receipt
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets
from interlock.server.surface.head import HeadKeeper
from interlock.server.surface.sqlite import file_identity
from interlock.server.surface.sqlite.file_identity import FileIdentity
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.surface.sqlite.log import HeadLag
from interlock.server.system.supervision import Supervisor
from interlock.server.system.transient import RELIED_ON_S
from tests.support.admin import holder_of
from tests.support.asynchronous import asynchronous
from tests.support.few_files import no_descriptor
from tests.support.running import eventually
from tests.support.shortage import SHORTAGES, Failing, Time, events, every_shortage, named, other_errors
from tests.support.steps import Story


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def admins(tmp_path: Path, hand: Time) -> Secrets:
    assert hand
    load_keys(tmp_path / "keys")
    return Secrets(tmp_path / "keys", "admin")


@every_shortage
def test_secrets_stay_valid_while_checkable_but_not_listable(
    admins: Secrets, tmp_path: Path, hand: Time, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    command_line, failing = Secrets(tmp_path / "keys", "admin"), Failing(monkeypatch, "listdir", "scandir")
    ada, bob = admins.create("ada", 1), admins.create("bob", 2)
    assert holder_of(admins, ada) == "ada"
    eve = command_line.create("eve", 3)
    failing.code = code
    with capture_logs() as logs:
        for _ in range(3):
            assert (holder_of(admins, ada), holder_of(admins, bob)) == ("ada", "bob")
            assert admins.check(f"{ada}x") is None
            hand.now += RELIED_ON_S
        with pytest.raises(SettingsError):
            admins.check(eve)
        admins._path("bob").unlink()
        with pytest.raises(SettingsError):
            admins.check(bob)
        assert list(admins.names()) == ["ada"]
        failing.code = 0
        assert (holder_of(admins, ada), holder_of(admins, bob), holder_of(admins, eve)) == ("ada", None, "eve")
    assert events(logs) == ["files.unchecked"]


@every_shortage
def test_uncheckable_secrets_stay_valid_for_a_while(
    admins: Secrets, hand: Time, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    ada, bob, failing = admins.create("ada", 1), admins.create("bob", 2), Failing(monkeypatch, "stat")
    assert holder_of(admins, ada) == "ada"
    failing.code, failing.concerns = code, named("admin-ada.secret")
    hand.now += RELIED_ON_S - 1
    assert (holder_of(admins, ada), holder_of(admins, bob)) == ("ada", "bob")
    admins._path("bob").unlink()
    assert (holder_of(admins, ada), holder_of(admins, bob)) == ("ada", None)
    hand.now += 1
    with pytest.raises(SettingsError):
        admins.check(ada)
    failing.code = 0
    assert holder_of(admins, ada) == "ada"


@every_shortage
def test_a_shortage_does_not_make_bad_secrets_valid(
    admins: Secrets, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    ada, failing = admins.create("ada", 1), Failing(monkeypatch, "stat", "scandir")
    assert holder_of(admins, ada) == "ada"
    admins._path("ada").chmod(0o604)
    with pytest.raises(SettingsError):
        admins.check(ada)
    failing.code = code
    with pytest.raises(SettingsError):
        admins.check(ada)


@every_shortage
def test_secrets_never_listed_are_not_treated_as_absent(
    admins: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    admins.create("ada", 1)
    failing = Failing(monkeypatch, "scandir")
    failing.code = code
    with pytest.raises(SettingsError):
        Secrets(tmp_path / "keys", "admin").names()


@other_errors
@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_any_other_error_invalidates_secrets_at_once(
    admins: Secrets, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    ada, failing = admins.create("ada", 1), Failing(monkeypatch, call)
    assert holder_of(admins, ada) == "ada"
    failing.code = code
    with pytest.raises(SettingsError):
        admins.check(ada)


def test_a_changed_but_unreadable_secret_is_not_valid(admins: Secrets) -> None:
    ada = admins.create("ada", 1)
    assert holder_of(admins, ada) == "ada"
    with no_descriptor():
        assert holder_of(admins, ada) == "ada"
        os.utime(admins._path("ada"))
        with pytest.raises(SettingsError, match="Too many open files"):
            admins.check(ada)
    assert holder_of(admins, ada) == "ada"


@every_shortage
@asynchronous
async def test_nothing_is_acknowledged_before_the_database_is_checked(tmp_path: Path, code: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with open_surface(tmp_path, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            failing = Failing(monkeypatch, "stat")
            failing.concerns, pauses = named("interlock.db"), Pauses(monkeypatch)
            failing.code = code
            writing = surface.log.append(Story().begin())
            await eventually(lambda: pauses.count > 3)
            assert not writing.done()
            failing.code = 0
            assert len(await writing) == 1
            assert surface.log.failure is None


class Pauses:
    """Counts how often a check of the database was retried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.then: Callable[[], None] = lambda: None
        monkeypatch.setattr(file_identity, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.count += 1
        self.then()
        time.sleep(seconds / 50)


@every_shortage
def test_a_long_uncheckable_database_stops_the_log(
    tmp_path: Path, hand: Time, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    files, failing, pauses = look_up(tmp_path), Failing(monkeypatch, "stat"), Pauses(monkeypatch)

    def later() -> None:
        hand.now += RELIED_ON_S / 10

    pauses.then, failing.code = later, code
    with capture_logs() as logs, pytest.raises(SurfaceFailed, match=os.strerror(code)):
        files.check()
    assert pauses.count == 10
    assert events(logs) == ["files.unchecked"]


def look_up(folder: Path) -> FileIdentity:
    for name in ("interlock.db", "interlock.db-wal"):
        (folder / name).touch()
    return FileIdentity(folder / "interlock.db")


@every_shortage
def test_a_database_removed_during_a_shortage_stops_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    files, failing, pauses = look_up(tmp_path), Failing(monkeypatch, "stat"), Pauses(monkeypatch)

    def moved() -> None:
        (tmp_path / "interlock.db").rename(tmp_path / "away")
        failing.code = 0

    pauses.then, failing.code = moved, code
    with pytest.raises(SurfaceFailed, match="is gone"):
        files.check()
    assert pauses.count == 1


@other_errors
def test_any_other_check_error_stops_the_log_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    files, failing, pauses = look_up(tmp_path), Failing(monkeypatch, "stat"), Pauses(monkeypatch)
    failing.code = code
    with pytest.raises(SurfaceFailed, match=os.strerror(code)):
        files.check()
    assert pauses.count == 0


@pytest.mark.parametrize(
    "error",
    [*(OSError(code, os.strerror(code)) for code in SHORTAGES), MemoryError(), RuntimeError("can't start new thread")],
    ids=repr,
)
@asynchronous
async def test_the_head_is_written_once_the_shortage_ends(tmp_path: Path, error: Exception) -> None:
    path, tries = tmp_path / "interlock.head", 0

    async def fail(_call: Callable[[], None]) -> None:
        nonlocal tries
        tries += 1
        raise error

    with pytest.MonkeyPatch.context() as monkeypatch, capture_logs() as logs:
        monkeypatch.setattr(asyncio, "to_thread", fail)
        keeper = HeadKeeper(path, lambda receipt, final: f"{receipt} {final}", HeadLag(), Supervisor())
        await keeper.start(Receipt(1, "0" * 64), required=False)
        await eventually(lambda: tries > 2)
        assert not path.exists()
        monkeypatch.undo()
        await eventually(path.exists)
        await keeper.close(None)
    assert path.read_text() == f"{Receipt(1, '00' * 32)} False\n"
    assert events(logs) == ["head.failed"]
