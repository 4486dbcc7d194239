"""When a new key begins to sign, and when an old one may go.

A new signing key is published at once and signs only when everybody who checks tokens has had time to fetch it: twice as
long as the key set may be cached. An old key may go when nothing that it signed can be alive any more. Key lifecycle after
NIST SP 800-57 part 1, 5.3 and 8 (ASVS 11.1.1, 11.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from interlock.machine.errors import KeyNeeded, SettingsError
from interlock.machine.times import rfc3339
from interlock.server.guard.keys.keyset import (
    JWKS_MAX_AGE_S,
    Key,
    Kind,
    RefreshKey,
    SigningKey,
    create_refresh_key,
    create_signing_key,
    key_file,
    no_keys,
    of_kind,
    place_of_current,
    read_keys,
)
from interlock.server.system.permissions import read_private, sync_folder, write_private

ANNOUNCED_MS: Final = 2 * JWKS_MAX_AGE_S * 1000
"""How long a new key is published before it signs."""

MARGIN_MS: Final = 60_000
"""How much longer than its tokens an old key is kept: clocks differ, and a server needs a moment to notice a new key."""

_LIVES_FILE: Final = "lives.json"

Status: TypeAlias = Literal["waits", "signs", "verifies", "done"]


class Lives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long what a key signed may live: access tokens, and refresh tokens, which live as long as their session."""

    access_token_ms: int
    session_ms: int

    def of(self, kind: Kind) -> int:
        """How long tokens of keys of ``kind`` may live."""
        return self.access_token_ms if kind == "signing" else self.session_ms


class KeyRow(msgspec.Struct, frozen=True):
    """How one key stands. ``retire_from_ms``: when nothing that it signed can be alive; None while that is not known.

    ``waits``: published, signs later. ``verifies``: what it signed may be alive. ``done``: it may be retired.
    """

    name: str
    kind: Kind
    status: Status
    signs_from_ms: int
    retire_from_ms: int | None


def note_lives(folder: Path, lives: Lives) -> Lives:
    """Write down, for the command line, how long tokens may live; the longest that was ever allowed here counts.

    Raises:
        SettingsError: what is there can't be read.
        OSError: it can't be written.
    """
    known = known_lives(folder)
    longest = known and Lives(
        max(known.access_token_ms, lives.access_token_ms), max(known.session_ms, lives.session_ms)
    )
    longest = longest or lives
    if longest != known:
        write_private(folder / _LIVES_FILE, msgspec.json.encode(longest))
    return longest


def known_lives(folder: Path) -> Lives | None:
    """How long tokens may live, as the server wrote it down; None if none has.

    Raises:
        SettingsError: it can't be read.
    """
    path = folder / _LIVES_FILE
    try:
        return msgspec.json.decode(read_private(path), type=Lives)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from error
    except ValueError:
        raise SettingsError(f"{path} does not say how long tokens live; remove it and start the server") from None


def rotate(folder: Path, now_ms: int, *, refresh: bool, at_once: bool) -> Key:
    """Make the next key, which signs after a while, or ``at_once``.

    It signs after every older one, whatever time their files say: one that sorted before another would not go on signing.
    Only those that still wait are not waited for ``at_once``; they take over when their time comes.

    Raises:
        SettingsError: there are no keys to rotate, or the new one can't be written.
    """
    keys = read_keys(folder)
    if not keys:
        raise no_keys(folder)
    older_ms = sorted(key.signs_from_ms for key in keys if isinstance(key, RefreshKey) == refresh)
    if at_once:
        # Before all of them, the first signs, though its time has not come.
        older_ms = [each for each in older_ms if each <= now_ms] or older_ms[:1]
    signs_from_ms = max([now_ms if at_once else now_ms + ANNOUNCED_MS, *(each + 1 for each in older_ms)])
    try:
        return create_refresh_key(folder, signs_from_ms) if refresh else create_signing_key(folder, signs_from_ms)
    except OSError as error:
        raise SettingsError(f"the key can't be written to {folder}: {error.strerror}") from error


def rows(folder: Path, now_ms: int) -> list[KeyRow]:
    """Every key in ``folder`` and how it stands, in the order in which they sign.

    Raises:
        SettingsError: a key can't be read.
    """
    keys, lives = read_keys(folder), known_lives(folder)
    signing, refresh = of_kind(keys, SigningKey), of_kind(keys, RefreshKey)
    return [
        *(_row(place, signing, lives, now_ms) for place in range(len(signing))),
        *(_row(place, refresh, lives, now_ms) for place in range(len(refresh))),
    ]


def find(folder: Path, name: str) -> Key:
    """The key that ``name`` means.

    Raises:
        SettingsError: there is none, or a key can't be read.
    """
    for key in read_keys(folder):
        if key.name == name:
            return key
    raise SettingsError(f"there is no key named {name}; `interlock keys list` shows them")


def check_retirement(folder: Path, key: Key, now_ms: int, *, force: bool) -> None:
    """Check that ``key`` may go. With ``force`` only one that is needed to sign may not.

    Raises:
        KeyNeeded: it may not, and why.
        SettingsError: a key can't be read.
    """
    row = next(row for row in rows(folder, now_ms) if row.name == key.name)
    if row.status == "signs":
        raise KeyNeeded(
            f"{key.name} is the key that signs; make another one first: interlock keys rotate"
            f"{' --refresh' if row.kind == 'refresh' else ''} (with --now, if this one is compromised)"
        )
    if row.status != "verifies" or force:
        return
    if row.retire_from_ms is None:
        raise KeyNeeded(
            f"nothing says how long tokens of {key.name} live: start a server of this version on this folder once, or, if"
            " the key is compromised, use --force"
        )
    raise KeyNeeded(
        f"tokens of {key.name} may be alive until {rfc3339(row.retire_from_ms)}; retire it then, or, if it is compromised,"
        " use --force: they are worthless at once"
    )


def remove(folder: Path, key: Key) -> None:
    """Let ``key`` be gone, on disk.

    Raises:
        SettingsError: its file can't be removed.
    """
    try:
        key_file(folder, key).unlink()
        sync_folder(folder)
    except OSError as error:
        raise SettingsError(f"{key_file(folder, key)} can't be removed: {error.strerror}") from error


def may_have_tokens(key: Key, keys: Iterable[Key], lives: Lives | None, now_ms: int) -> bool:
    """Whether, among ``keys``, something that ``key`` signed may be alive."""
    same = of_kind(keys, SigningKey) if isinstance(key, SigningKey) else of_kind(keys, RefreshKey)
    place = [each.name for each in same].index(key.name)
    return _row(place, same, lives, now_ms).status in {"signs", "verifies"}


def _row(place: int, keys: Sequence[SigningKey] | Sequence[RefreshKey], lives: Lives | None, now_ms: int) -> KeyRow:
    """How the key at ``place`` among all of its kind stands."""
    key, signs = keys[place], place_of_current(keys, now_ms)
    retire_from_ms = None
    if place + 1 < len(keys) and lives is not None:
        retire_from_ms = keys[place + 1].signs_from_ms + lives.of(key.kind) + MARGIN_MS
    status: Status
    if place >= signs:
        status = "signs" if place == signs else "waits"
    else:
        status = "verifies" if retire_from_ms is None or now_ms < retire_from_ms else "done"
    return KeyRow(key.name, key.kind, status, key.signs_from_ms, retire_from_ms)
