"""While a running server's key files are unusable, no token is issued or verified; a rotation never looks like that."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from interlock.machine.errors import CredentialInvalid, KeysUnavailable, SettingsError
from interlock.server.guard.keys import keyring, rotation
from interlock.server.guard.keys.keyset import KeyPurpose, Keys, create_signing_key, key_file, key_files, load_keys
from interlock.server.guard.keys.rotation import rotate
from tests.support.keyring import SID, KeyServer, new_key_file, token
from tests.support.running import eventually, run
from tests.support.steps import Story

KINDS: dict[bool, KeyPurpose] = {False: "signing", True: "refresh"}


@pytest.fixture
def server(tmp_path: Path) -> KeyServer:
    return KeyServer(tmp_path / "keys")


def nothing_counts(server: KeyServer, made: str) -> None:
    """Check that no token is issued, and none is valid that was valid before."""
    story = Story(SID)
    story.begin("ada")
    assert not server.tokens.usable
    for use in (
        server.tokens.ensure_usable,
        lambda: server.tokens.check_access_token(made),
        lambda: server.tokens.access_token(story.session),
        lambda: server.tokens.refresh_token(story.session),
        lambda: server.tokens.check_refresh_token(f"{SID}.0.0.{'A' * 43}"),
    ):
        with pytest.raises(KeysUnavailable):
            use()


@pytest.mark.parametrize("refresh", [False, True])
def test_an_unreadable_key_makes_all_keys_unusable(server: KeyServer, *, refresh: bool) -> None:
    path = new_key_file(server, refresh=refresh)
    server.look()
    before = server.ring.keys
    made = token(server)
    server.tokens.check_access_token(made)
    good = path.read_bytes()
    for spoil in (lambda: path.write_bytes(b"garbage"), lambda: path.chmod(0o604)):
        spoil()
        with capture_logs() as logs:
            assert server.look() == [False]
            assert server.look() == [], "it is told once"
        assert [log["event"] for log in logs] == ["keys.unusable"]
        nothing_counts(server, made)
        path.write_bytes(good)
        path.chmod(0o600)
        with capture_logs() as logs:
            assert server.look() == [False]
        assert [log["event"] for log in logs] == ["keys.usable"]
        assert server.ring.keys is before
        server.tokens.check_access_token(made)


def test_a_missing_or_empty_key_folder_makes_all_keys_unusable(server: KeyServer) -> None:
    made, elsewhere = token(server), server.folder.with_name("elsewhere")
    server.folder.rename(elsewhere)
    with capture_logs() as logs:
        assert server.look() == [False]
    assert str(server.folder) in logs[0]["problem"]
    nothing_counts(server, made)
    server.folder.mkdir(mode=0o700)
    with capture_logs() as logs:
        assert server.look() == server.look() == []
    assert len(logs) == 2, "one for each sort of key"
    nothing_counts(server, made)
    server.folder.rmdir()
    elsewhere.rename(server.folder)
    assert server.look() == [False]
    server.tokens.check_access_token(made)


@pytest.mark.parametrize("kind", ["signing", "refresh"])
def test_removing_the_last_key_of_a_kind_makes_all_keys_unusable(server: KeyServer, kind: str) -> None:
    made = token(server)
    (path,) = server.folder.glob(f"{kind}*")
    away = path.rename(path.with_name("away"))
    assert server.look() == [False]
    nothing_counts(server, made)
    away.rename(path)
    assert server.look() == [False]
    server.tokens.check_access_token(made)


def test_a_key_folder_open_to_others_is_unusable_and_drops_retired_keys(server: KeyServer) -> None:
    old, stolen = server.ring.keys.signing, token(server)
    new_key_file(server)
    server.look()
    made = token(server)
    server.folder.chmod(0o755)
    with capture_logs() as logs:
        assert server.look() == [False]
    assert f"chmod 700 {server.folder}" in logs[0]["problem"]
    nothing_counts(server, made)
    key_file(server.folder, old).unlink()
    assert server.look() == [True], "sockets that it opened are closed at once"
    server.folder.chmod(0o700)
    assert server.look() == [False]
    server.tokens.check_access_token(made)
    with pytest.raises(CredentialInvalid):
        server.tokens.check_access_token(stolen)


def test_replacing_the_last_key_voids_its_tokens(server: KeyServer) -> None:
    stolen = token(server)
    key_file(server.folder, server.ring.keys.signing).unlink()
    server.look()
    create_signing_key(server.folder, server.now_ms)
    assert server.look() == [True]
    assert server.tokens.usable
    with pytest.raises(CredentialInvalid):
        server.tokens.check_access_token(stolen)


def test_a_failing_key_scan_makes_all_keys_unusable(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the error: otherwise the server would never notice a removed key."""
    heard: list[bool] = []
    listed = key_files

    def fail(_folder: Path) -> list[Path]:
        raise RuntimeError("can't start new thread")

    async def watch() -> None:
        def use(keys: Keys | None, _early: bool) -> None:  # noqa: FBT001  # as KeyRing calls it
            heard.append(keys is not None)
            monkeypatch.setattr(keyring, "key_files", listed)

        task = asyncio.create_task(server.ring.watch(use))
        await eventually(lambda: len(heard) == 2)
        task.cancel()

    monkeypatch.setattr(keyring, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(keyring, "key_files", fail)
    with capture_logs() as logs:
        run(watch())
    assert heard == [False, True]
    assert [log["event"] for log in logs] == ["keys.unusable", "keys.usable"]
    assert str(server.folder) in logs[0]["problem"]
    assert "RuntimeError" in logs[0]["problem"]


def test_a_failed_key_change_handler_is_called_again(server: KeyServer) -> None:
    """Including that a key was retired early, even though the next scan finds no change."""
    old = server.ring.keys.signing.kid
    create_signing_key(server.folder, server.now_ms)
    server.look()
    rotate(server.folder, server.now_ms, refresh=False, at_once=True)
    server.look()
    server.retire(old, force=True)
    heard: list[bool] = []

    def fail(_keys: Keys | None, early: bool) -> None:  # noqa: FBT001  # as KeyRing calls it
        heard.append(early)
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            server.ring.take(server.ring.look(), fail)
    assert heard == [True, True]
    assert server.look() == [True]
    assert server.look() == []


def test_a_rotation_during_a_scan_is_not_taken_for_a_loss(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    old, listed = server.ring.keys.signing.kid, key_files

    def list_and_rotate(folder: Path) -> list[Path]:
        paths = listed(folder)
        monkeypatch.setattr(keyring, "key_files", listed)
        rotate(folder, server.now_ms, refresh=False, at_once=True)
        server.retire(old, force=True)
        return paths

    monkeypatch.setattr(keyring, "key_files", list_and_rotate)
    assert server.look() == [True], "retired"
    assert server.tokens.usable
    assert server.ring.keys.signing.kid != old


def test_keys_are_usable_at_every_moment_of_a_rotation(server: KeyServer) -> None:
    """Scanned as fast as possible, while keys are made and retired as the command line does it."""
    done = threading.Event()
    found: list[str] = []

    def look() -> None:
        while not done.is_set():
            seen = server.ring.look()
            found.extend(seen.unusable | seen.ignored)

    with ThreadPoolExecutor(1) as other:
        looking = other.submit(look)
        for refresh in (False, True) * 20:
            older = [row.name for row in rotation.rows(server.folder, server.now_ms) if row.kind == KINDS[refresh]]
            rotate(server.folder, server.now_ms, refresh=refresh, at_once=True)
            server.clock.time_ms += 1
            for name in older:
                server.retire(name, force=True)
        done.set()
        looking.result()
    assert found == []


def test_a_key_folder_opened_to_others_during_the_start_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_open(folder: Path, now_ms: int) -> Keys:
        keys = load_keys(folder, now_ms)
        folder.chmod(0o755)
        return keys

    monkeypatch.setattr(keyring, "load_keys", read_and_open)
    with pytest.raises(SettingsError, match="chmod 700"):
        KeyServer(tmp_path / "keys")
