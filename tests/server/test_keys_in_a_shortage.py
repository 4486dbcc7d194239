"""Shortages of descriptors or memory say nothing about the keys: known ones stay valid for a while."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from interlock.machine.errors import CredentialInvalid, KeysUnavailable, SettingsError
from interlock.server.guard.keys import keyring
from interlock.server.guard.keys.keyset import Keys, load_keys, read_key
from interlock.server.system.transient import RELIED_ON_S
from tests.support.keyring import KeyServer, new_key_file, token
from tests.support.running import eventually, run
from tests.support.shortage import Failing, Time, events, every_shortage, named, other_errors

# Which call lists a folder depends on Python's version.
by_each_call = pytest.mark.parametrize("calls", [("stat",), ("listdir", "scandir")], ids=["stat", "list"])


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def server(tmp_path: Path, hand: Time) -> KeyServer:
    assert hand
    return KeyServer(tmp_path / "keys")


def nothing_counts(server: KeyServer) -> None:
    with pytest.raises(KeysUnavailable):
        server.tokens.ensure_usable()


@every_shortage
def test_keys_stay_valid_while_checkable_but_not_listable(
    server: KeyServer, hand: Time, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    old, made, failing = server.ring.keys.signing.kid, token(server), Failing(monkeypatch, "listdir", "scandir")
    new_key_file(server)
    server.look()
    added = new_key_file(server)
    failing.code = code
    with capture_logs() as logs:
        for _ in range(5):
            assert server.look() == []
            hand.now += RELIED_ON_S
    assert events(logs) == ["files.unchecked"], "told once"
    assert (logs[0]["path"], logs[0]["error"]) == (str(server.folder), str(OSError(code, os.strerror(code))))
    server.tokens.check_access_token(made)
    (server.folder / f"signing-{old}.pem").unlink()
    assert server.look() == [True], "a key that is retired counts no more"
    with pytest.raises(CredentialInvalid):
        server.tokens.check_access_token(made)
    failing.code = 0
    assert server.look() == [False], "a key that is new counts once the folder can be listed"
    assert added.stem.removeprefix("signing-") in server.ring.keys.verifying


@pytest.mark.asvs("16.5.3")
@every_shortage
@pytest.mark.parametrize("name", ["refresh.key", "keys"])
def test_uncheckable_keys_stay_valid_for_a_while(
    server: KeyServer, hand: Time, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    made, failing = token(server), Failing(monkeypatch, "stat")
    failing.code, failing.concerns = code, named(name)
    with capture_logs() as logs:
        for _ in range(3):
            hand.now += RELIED_ON_S / 4
            assert server.look() == []
        server.tokens.check_access_token(made)
        hand.now += RELIED_ON_S / 4
        assert server.look() == [False]
        hand.now += RELIED_ON_S
        assert server.look() == []
        with pytest.raises(KeysUnavailable):
            server.tokens.check_access_token(made)
        failing.code = 0
        assert server.look() == [False]
        server.tokens.check_access_token(made)
        assert server.look() == []
    assert events(logs) == ["files.unchecked", "keys.unusable", "keys.usable"]


@every_shortage
def test_a_successful_check_restarts_the_keys_validity(
    server: KeyServer, hand: Time, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing = Failing(monkeypatch, "stat")
    failing.concerns = named("refresh.key")
    with capture_logs() as logs:
        for _ in range(9):
            failing.code = code
            hand.now += RELIED_ON_S / 2
            assert server.look() == []
            failing.code = 0
            hand.now += 1
            assert server.look() == []
    assert set(events(logs)) == {"files.unchecked"}
    assert len(logs) <= 1 + 9 * (RELIED_ON_S / 2 + 1) / 30, "not each time"


@every_shortage
def test_a_removed_key_is_noticed_while_another_is_uncheckable(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing, bad = Failing(monkeypatch, "stat"), new_key_file(server)
    server.look()
    failing.code, failing.concerns = code, named("refresh.key")
    assert server.look() == []
    bad.chmod(0o604)
    assert server.look() == [False]
    assert not server.tokens.usable
    bad.unlink()
    assert server.look() == [True]


@every_shortage
def test_a_changed_but_unreadable_key_is_not_used(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(_path: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(keyring, "read_key", fail)
    with capture_logs() as logs:
        new_key_file(server)
        assert server.look() == [], "of a new one nothing is said before it was read"
        assert logs == []
        os.utime(server.folder / "refresh.key")
        assert server.look() == [False]
        nothing_counts(server)
        assert server.look() == []
        monkeypatch.setattr(keyring, "read_key", read_key)
        assert server.look() == [False]
        assert server.tokens.usable
        assert len(server.ring.keys.verifying) == 2
    assert events(logs) == ["keys.unusable", "keys.usable", "keys.changed"]


@every_shortage
@by_each_call
def test_a_shortage_does_not_make_bad_keys_valid(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch, code: int, calls: tuple[str, ...]
) -> None:
    failing, path = Failing(monkeypatch, *calls), server.folder / "refresh.key"
    for spoilt in (path, server.folder):
        mode = spoilt.stat().st_mode
        spoilt.chmod(0o755)
        assert server.look() == [False]
        failing.code = code
        assert server.look() == []
        assert not server.tokens.usable
        failing.code = 0
        spoilt.chmod(mode)
        assert server.look() == [False]
        assert server.tokens.usable


@other_errors
@by_each_call
def test_any_other_error_invalidates_keys_at_once(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch, code: int, calls: tuple[str, ...]
) -> None:
    failing = Failing(monkeypatch, *calls)
    failing.code = code
    assert server.look() == [False]
    assert not server.tokens.usable


@every_shortage
@by_each_call
def test_a_start_that_cannot_check_its_keys_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, calls: tuple[str, ...]
) -> None:
    failing = Failing(monkeypatch, *calls)

    def load_then_fail(folder: Path, now_ms: int) -> Keys:
        keys = load_keys(folder, now_ms)
        failing.code = code
        return keys

    monkeypatch.setattr(keyring, "load_keys", load_then_fail)
    with pytest.raises(SettingsError, match=os.strerror(code)):
        KeyServer(tmp_path / "keys")


def test_keys_stay_valid_for_a_while_without_memory_for_a_scan(
    server: KeyServer, hand: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bool] = []
    looks = 0

    def fail(_folder: Path) -> list[Path]:
        nonlocal looks
        looks += 1
        raise MemoryError

    async def watch() -> None:
        task = asyncio.create_task(server.ring.watch(lambda keys, _early: heard.append(keys is not None)))
        await eventually(lambda: looks > 3)
        assert heard == []
        hand.now += RELIED_ON_S
        await eventually(lambda: heard == [False])
        task.cancel()

    monkeypatch.setattr(keyring, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(keyring, "key_files", fail)
    with capture_logs() as logs:
        run(watch())
    assert events(logs) == ["files.unchecked", "keys.unusable"]
