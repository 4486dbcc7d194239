"""Key rotation: when a new key begins to sign, and when an old one may be retired.

A new signing key is published at once. It signs after twice the key set's cache time, when every verifier has had time to
fetch it. An old key may be retired when everything it signed has expired. The lifecycle follows NIST SP 800-57 part 1, 5.3
and 8 (ASVS 11.1.1, 11.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from interlock.machine.errors import KeyInUse, SettingsError
from interlock.machine.times import rfc3339
from interlock.server.guard.keys.keyset import (
    JWKS_MAX_AGE_S,
    Key,
    KeyPurpose,
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
"""How much longer than its tokens an old key is kept: clocks differ, and servers notice a new key with a delay."""

_LIFETIMES_FILE: Final = "lifetimes.json"

Status: TypeAlias = Literal["waits", "signs", "verifies", "done"]


class TokenLifetimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Maximum lifetimes of what a key signs: access tokens, and sessions, which bound refresh tokens."""

    access_token_ms: int
    session_ms: int

    def of(self, kind: KeyPurpose) -> int:
        """Return how long tokens of a key of ``kind`` may live."""
        return self.access_token_ms if kind == "signing" else self.session_ms


class KeyRow(msgspec.Struct, frozen=True):
    """The status of one key. ``retire_from_ms``: when everything it signed has expired; None if unknown.

    ``waits``: published, signs later. ``verifies``: tokens that it signed may be alive. ``done``: it may be retired.
    """

    name: str
    kind: KeyPurpose
    status: Status
    signs_from_ms: int
    retire_from_ms: int | None


def record_lifetimes(folder: Path, lifetimes: TokenLifetimes) -> TokenLifetimes:
    """Record the token lifetimes for the command line, and return them. The longest ever allowed in this folder is kept.

    Raises:
        SettingsError: the file can't be read.
        OSError: it can't be written.
    """
    known = known_lifetimes(folder)
    longest = known and TokenLifetimes(
        max(known.access_token_ms, lifetimes.access_token_ms), max(known.session_ms, lifetimes.session_ms)
    )
    longest = longest or lifetimes
    if longest != known:
        write_private(folder / _LIFETIMES_FILE, msgspec.json.encode(longest))
    return longest


def known_lifetimes(folder: Path) -> TokenLifetimes | None:
    """Return the token lifetimes that a server recorded; None if none did.

    Raises:
        SettingsError: the file can't be read.
    """
    path = folder / _LIFETIMES_FILE
    try:
        return msgspec.json.decode(read_private(path), type=TokenLifetimes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from error
    except ValueError:
        raise SettingsError(f"{path} does not say how long tokens live; remove it and start the server") from None


def rotate(folder: Path, now_ms: int, *, refresh: bool, at_once: bool) -> Key:
    """Create the next key, which signs after :data:`ANNOUNCED_MS`, or ``at_once``.

    Its start time lies after that of every older key, or an older one would go on signing. ``at_once`` ignores keys that
    still wait; they take over when their time comes.

    Raises:
        SettingsError: there are no keys to rotate, or the new one can't be written.
    """
    keys = read_keys(folder)
    if not keys:
        raise no_keys(folder)
    older_ms = sorted(key.signs_from_ms for key in keys if isinstance(key, RefreshKey) == refresh)
    if at_once:
        # If none has started, the first one signs anyway.
        older_ms = [each for each in older_ms if each <= now_ms] or older_ms[:1]
    signs_from_ms = max([now_ms if at_once else now_ms + ANNOUNCED_MS, *(each + 1 for each in older_ms)])
    try:
        return create_refresh_key(folder, signs_from_ms) if refresh else create_signing_key(folder, signs_from_ms)
    except OSError as error:
        raise SettingsError(f"the key can't be written to {folder}: {error.strerror}") from error


def rows(folder: Path, now_ms: int) -> list[KeyRow]:
    """Return the status of every key in ``folder``, ordered by start time.

    Raises:
        SettingsError: a key can't be read.
    """
    keys, lifetimes = read_keys(folder), known_lifetimes(folder)
    signing, refresh = of_kind(keys, SigningKey), of_kind(keys, RefreshKey)
    return [
        *(_row(place, signing, lifetimes, now_ms) for place in range(len(signing))),
        *(_row(place, refresh, lifetimes, now_ms) for place in range(len(refresh))),
    ]


def find(folder: Path, name: str) -> Key:
    """Return the key named ``name``.

    Raises:
        SettingsError: there is none, or a key can't be read.
    """
    for key in read_keys(folder):
        if key.name == name:
            return key
    raise SettingsError(f"there is no key named {name}; `interlock keys list` shows them")


def check_retirement(folder: Path, key: Key, now_ms: int, *, force: bool) -> None:
    """Check that ``key`` may be retired. With ``force``, refuse only the key that signs.

    Raises:
        KeyInUse: it may not; the message says why.
        SettingsError: a key can't be read.
    """
    row = next(row for row in rows(folder, now_ms) if row.name == key.name)
    if row.status == "signs":
        raise KeyInUse(
            f"{key.name} is the key that signs; make another one first: interlock keys rotate"
            f"{' --refresh' if row.kind == 'refresh' else ''} (with --now, if this one is compromised)"
        )
    if row.status != "verifies" or force:
        return
    if row.retire_from_ms is None:
        raise KeyInUse(
            f"nothing says how long tokens of {key.name} live: start a server of this version on this folder once, or, if"
            " the key is compromised, use --force"
        )
    raise KeyInUse(
        f"tokens of {key.name} may be alive until {rfc3339(row.retire_from_ms)}; retire it then, or, if it is compromised,"
        " use --force: they are worthless at once"
    )


def remove(folder: Path, key: Key) -> None:
    """Delete the file of ``key``.

    Raises:
        SettingsError: the file can't be removed.
    """
    try:
        key_file(folder, key).unlink()
        sync_folder(folder)
    except OSError as error:
        raise SettingsError(f"{key_file(folder, key)} can't be removed: {error.strerror}") from error


def may_have_tokens(key: Key, keys: Iterable[Key], lifetimes: TokenLifetimes | None, now_ms: int) -> bool:
    """Return whether tokens that ``key``, one of ``keys``, signed may be alive."""
    same = of_kind(keys, SigningKey) if isinstance(key, SigningKey) else of_kind(keys, RefreshKey)
    place = [each.name for each in same].index(key.name)
    return _row(place, same, lifetimes, now_ms).status in {"signs", "verifies"}


def _row(
    place: int, keys: Sequence[SigningKey] | Sequence[RefreshKey], lifetimes: TokenLifetimes | None, now_ms: int
) -> KeyRow:
    """Return the status of the key at ``place`` among all of its kind."""
    key, signs = keys[place], place_of_current(keys, now_ms)
    retire_from_ms = None
    if place + 1 < len(keys) and lifetimes is not None:
        retire_from_ms = keys[place + 1].signs_from_ms + lifetimes.of(key.kind) + MARGIN_MS
    status: Status
    if place >= signs:
        status = "signs" if place == signs else "waits"
    else:
        status = "verifies" if retire_from_ms is None or now_ms < retire_from_ms else "done"
    return KeyRow(key.name, key.kind, status, key.signs_from_ms, retire_from_ms)
