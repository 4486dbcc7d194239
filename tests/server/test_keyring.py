"""The keys of a running server: changes of the files take effect within a second, and none counts while they are unusable."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from interlock.machine.errors import CredentialInvalid, KeyInUse, SettingsError
from interlock.server.guard.keys import rotation
from interlock.server.guard.keys.keyset import SigningKey, key_file, load_keys, read_keys
from interlock.server.guard.keys.rotation import (
    ANNOUNCED_MS,
    MARGIN_MS,
    TokenLifetimes,
    known_lifetimes,
    record_lifetimes,
    rotate,
)
from tests.support.keyring import LIFETIMES, SID, KeyServer, new_key_file, token
from tests.support.steps import Story


@pytest.fixture
def server(tmp_path: Path) -> KeyServer:
    return KeyServer(tmp_path / "keys")


@pytest.mark.asvs("11.2.2")
def test_a_new_key_is_published_at_once_and_signs_after_the_cache_time(server: KeyServer) -> None:
    old = server.ring.keys.signing.kid
    before = token(server)
    new = rotate(server.folder, server.now_ms, refresh=False, at_once=False).name
    assert server.look() == [False]
    assert [key["kid"] for key in server.ring.keys.jwks()["keys"]] == [old, new]
    assert server.statuses() == {old: "signs", new: "waits", "refresh": "signs"}
    server.clock.time_ms += ANNOUNCED_MS - 1
    assert server.look() == []
    assert server.ring.keys.signing.kid == old
    server.clock.time_ms += 1
    assert server.look() == [False]
    assert server.ring.keys.signing.kid == new
    # The old one verifies for its last token's life and a margin, and can't be retired until then.
    server.clock.time_ms -= ANNOUNCED_MS
    assert server.tokens.check_access_token(before).sid == SID
    server.clock.time_ms += ANNOUNCED_MS
    server.clock.time_ms += 300_000 + MARGIN_MS - 1
    assert server.statuses()[old] == "verifies"
    with pytest.raises(KeyInUse, match=r"2027-.*Z.*--force"):
        server.retire(old)
    server.clock.time_ms += 1
    assert server.statuses()[old] == "done"
    server.retire(old)
    assert server.look() == [False], "nothing of it can be alive: no reason for alarm"
    assert list(server.ring.keys.verifying) == [new]


@pytest.mark.asvs("11.2.2")
def test_a_compromised_keys_tokens_are_void_at_once(server: KeyServer) -> None:
    old = server.ring.keys.signing.kid
    stolen = token(server)
    server.tokens.check_access_token(stolen)
    new = rotate(server.folder, server.now_ms, refresh=False, at_once=True).name
    assert server.look() == [False]
    assert server.ring.keys.signing.kid == new
    server.tokens.check_access_token(stolen)
    server.retire(old, force=True)
    assert server.look() == [True]
    with pytest.raises(CredentialInvalid):
        server.tokens.check_access_token(stolen)
    assert server.tokens.check_access_token(token(server)).sid == SID


@pytest.mark.asvs("11.2.2")
def test_refresh_tokens_outlive_the_rotation_of_their_key(server: KeyServer) -> None:
    story = Story(SID)
    story.begin("ada")
    old = server.tokens.refresh_token(story.session)
    new_key = rotate(server.folder, server.now_ms, refresh=True, at_once=True).name
    assert server.look() == [False]
    new = server.tokens.refresh_token(story.session)
    assert new != old
    for each in (old, new):
        server.tokens.check_refresh_token(each)
    server.clock.time_ms += LIFETIMES.session_ms
    with pytest.raises(KeyInUse):
        server.retire("refresh")
    server.clock.time_ms += MARGIN_MS
    server.retire("refresh")
    assert server.look() == [False]
    with pytest.raises(CredentialInvalid):
        server.tokens.check_refresh_token(old)
    server.tokens.check_refresh_token(new)
    assert server.statuses()[new_key] == "signs"


def test_the_signing_key_cannot_be_retired_even_by_force(server: KeyServer) -> None:
    with pytest.raises(KeyInUse, match="interlock keys rotate "):
        server.retire(server.ring.keys.signing.kid, force=True)
    with pytest.raises(KeyInUse, match="interlock keys rotate --refresh "):
        server.retire("refresh", force=True)
    with pytest.raises(SettingsError, match="interlock keys list"):
        server.retire("x")


def test_overwriting_a_key_file_retires_the_old_key(server: KeyServer) -> None:
    """This is how a stolen key can be replaced by hand."""
    file = server.folder / "refresh.key"
    file.write_bytes(bytes(32))
    assert server.look() == [True], "sockets close, since tokens of the one before may be alive"


def test_a_waiting_key_can_be_removed(server: KeyServer) -> None:
    new = rotate(server.folder, server.now_ms, refresh=False, at_once=False).name
    server.look()
    server.retire(new)
    assert server.look() == [False], "it has signed nothing"
    assert server.statuses()[server.ring.keys.signing.kid] == "signs"


def test_with_unknown_token_lifetimes_a_key_is_retired_only_by_force(server: KeyServer) -> None:
    old = server.ring.keys.signing.kid
    rotate(server.folder, server.now_ms, refresh=False, at_once=True)
    (server.folder / "lifetimes.json").unlink()
    server.clock.time_ms += 10**12
    with pytest.raises(KeyInUse):
        server.retire(old)
    server.retire(old, force=True)


def test_the_longest_token_lifetime_ever_allowed_is_kept(tmp_path: Path) -> None:
    assert known_lifetimes(tmp_path) is None
    assert record_lifetimes(tmp_path, LIFETIMES) == LIFETIMES
    longer = TokenLifetimes(600_000, 1_000)
    assert record_lifetimes(tmp_path, longer) == known_lifetimes(tmp_path) == TokenLifetimes(600_000, 43_200_000)
    (tmp_path / "lifetimes.json").write_bytes(b"{}")
    with pytest.raises(SettingsError):
        known_lifetimes(tmp_path)
    (tmp_path / "lifetimes.json").unlink()
    (tmp_path / "lifetimes.json").mkdir(mode=0o700)
    with pytest.raises(SettingsError):
        known_lifetimes(tmp_path)


def test_a_new_key_signs_after_every_older_one_whatever_their_files_say(server: KeyServer) -> None:
    """A clock that was ahead made the older one: a new key that sorted before it would never sign."""
    ahead_ms = server.now_ms + 10**10
    late = rotate(server.folder, ahead_ms, refresh=False, at_once=True)
    new = rotate(server.folder, server.now_ms, refresh=False, at_once=False)
    assert (late.signs_from_ms, new.signs_from_ms) == (ahead_ms, ahead_ms + 1)
    mac = rotate(server.folder, server.now_ms, refresh=True, at_once=False)
    assert mac.signs_from_ms == server.now_ms + ANNOUNCED_MS, "the other kind has times of its own"


def test_rotating_at_once_does_not_wait_for_waiting_keys(server: KeyServer) -> None:
    waits = rotate(server.folder, server.now_ms, refresh=False, at_once=False)
    new = rotate(server.folder, server.now_ms, refresh=False, at_once=True)
    assert server.statuses()[new.name] == "signs"
    again = rotate(server.folder, server.now_ms, refresh=False, at_once=True)
    assert again.signs_from_ms == new.signs_from_ms + 1, "made within the same millisecond"
    server.clock.time_ms += ANNOUNCED_MS
    assert server.statuses()[waits.name] == "signs"


def test_if_no_key_has_started_the_first_signs_and_sorts_before_new_ones(server: KeyServer) -> None:
    """It has signed, so it must not sort among waiting keys, which may be retired because they have no live tokens."""
    first = server.ring.keys.signing
    server.clock.time_ms = first.signs_from_ms - 10**9
    new = rotate(server.folder, server.now_ms, refresh=False, at_once=True)
    assert new.signs_from_ms == first.signs_from_ms + 1
    assert server.statuses() == {first.kid: "signs", new.name: "waits", "refresh": "signs"}
    with pytest.raises(KeyInUse):
        server.retire(first.kid, force=True)


def test_a_folder_without_keys_is_not_rotated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        rotate(tmp_path / "keys", 1, refresh=False, at_once=True)
    assert not (tmp_path / "keys").exists()


def test_rotation_names_a_failing_disk(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SettingsError, match="No space left on device"):
        rotate(server.folder, server.now_ms, refresh=True, at_once=True)
    with pytest.raises(SettingsError, match="No space left on device"):
        rotation.remove(server.folder, rotation.find(server.folder, "refresh"))


def test_an_invalid_new_key_is_never_used_and_logged_once(server: KeyServer) -> None:
    before = server.ring.keys
    path = new_key_file(server)
    path.chmod(0o644)
    with capture_logs() as logs:
        assert server.look() == server.look() == []
    assert server.ring.keys is before
    (told,) = logs
    assert (told["event"], told["log_level"]) == ("keys.ignored", "error")
    assert server.tokens.usable
    assert told["problem"].startswith(f"{path} ")
    path.chmod(0o600)
    assert server.look() == [False], "mended, it counts"


def test_a_retired_key_is_void_whatever_else_is_wrong(server: KeyServer) -> None:
    """Otherwise a mistake with one file would keep a compromised key valid."""
    old, stolen = server.ring.keys.signing, token(server)
    new_key_file(server)
    server.look()
    bad = new_key_file(server)
    bad.write_bytes(b"garbage")
    key_file(server.folder, old).unlink()
    assert server.look() == [True]
    with pytest.raises(CredentialInvalid):
        server.tokens.check_access_token(stolen)


def test_a_key_file_that_vanishes_during_a_scan_is_removed(server: KeyServer) -> None:
    new_key_file(server)
    (server.folder / "signing-x.pem").symlink_to(server.folder / "nowhere")
    assert server.look() == [False]


def test_a_key_signs_from_the_time_in_its_file_even_after_a_copy(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = load_keys(folder).signing
    second = rotate(folder, first.signs_from_ms + 1000, refresh=False, at_once=True)
    assert key_file(folder, second).read_bytes().startswith(b"Signs-From: %d\n-----BEGIN" % second.signs_from_ms)
    os.utime(key_file(folder, first), (2_000_000_000, 2_000_000_000))
    assert load_keys(folder, second.signs_from_ms).signing.kid == second.name
    assert load_keys(folder, second.signs_from_ms - 1).signing.kid == first.kid
    assert load_keys(folder, 0).signing.kid == first.kid, "before all of them, the first"


def test_a_key_without_a_start_time_signs_from_its_modification_time(tmp_path: Path) -> None:
    key = load_keys(tmp_path).signing
    path = key_file(tmp_path, key)
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (read,) = (key for key in read_keys(tmp_path) if isinstance(key, SigningKey))
    assert (read.kid, read.signs_from_ms) == (key.kid, 1_700_000_000_000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"garbage", "does not hold a refresh key"),
        (json.dumps({"signs_from_ms": 1, "key": "AAAA"}).encode(), "does not hold 32 bytes"),
        (json.dumps({"signs_from_ms": "1", "key": "A" * 43 + "="}).encode(), "does not hold a refresh key"),
    ],
)
def test_an_invalid_refresh_key_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    load_keys(tmp_path)
    path = tmp_path / "refresh-x.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=says):
        load_keys(tmp_path)


def test_no_key_name_looks_like_an_option(tmp_path: Path) -> None:
    load_keys(tmp_path)
    names = [rotate(tmp_path, 1, refresh=False, at_once=True).name for _ in range(150)]
    assert not [name for name in names if name.startswith("-")]


def test_keys_made_by_root_belong_to_the_folders_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "keys"
    load_keys(folder)
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _descriptor, user, group: given.append((user, group)))
    rotate(folder, 1, refresh=False, at_once=True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    rotate(folder, 1, refresh=False, at_once=True)
    assert given == [(folder.stat().st_uid, folder.stat().st_gid)], "and nobody else gives files away"
