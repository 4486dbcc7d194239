"""The keys of a running server, re-read from their files every second so that the command line can rotate and retire them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias, get_args

import msgspec
import structlog

from interlock.machine.errors import SettingsError
from interlock.machine.secret.commands import Add
from interlock.server.clock import Clock
from interlock.server.guard.keys.keyset import (
    FileStamp,
    Key,
    KeyPurpose,
    Keys,
    assemble,
    key_files,
    load_keys,
    read_key,
    stamp_of,
)
from interlock.server.guard.keys.rotation import TokenLifetimes, may_have_tokens, record_lifetimes
from interlock.server.system.permissions import refuse_open
from interlock.server.system.supervision import progressed
from interlock.server.system.transient import Checks, is_transient

_LOOK_EVERY_S: Final = 1.0

_log = structlog.get_logger("interlock.keys")

OnKeysChanged: TypeAlias = Callable[[Keys | None, bool], None]
"""Called on every change with the keys now in use, or None while the files are unusable, and with whether a key was removed
whose tokens may still be alive: then it was retired because it is compromised."""


class KeyScan(msgspec.Struct, frozen=True):
    """The result of one scan of the key files.

    ``keys``: by file. A file that became unusable keeps its last known key, so that the key is recognised once the file is
    mended. ``unusable``: why no key is in use, one text per problem; empty otherwise. ``ignored``: problems of files whose
    key was never in use.
    """

    keys: dict[Path, tuple[FileStamp | None, Key]]
    unusable: frozenset[str]
    ignored: frozenset[str]


class _Look(msgspec.Struct):
    """The result of a scan in progress, as in :class:`KeyScan`.

    ``went``: files that were listed but are missing. ``complete``: every check succeeded.
    """

    keys: dict[Path, tuple[FileStamp | None, Key]] = {}
    unusable: set[str] = set()
    ignored: set[str] = set()
    went: set[Path] = set()
    complete: bool = True


class KeyRing:
    """Holds the keys in use as ``keys``. :meth:`watch` keeps them up to date.

    A key whose file is gone is dropped, whatever else is wrong. If no key of a kind is left, or the file of a key in use is
    unreadable, holds no key or is open to others, no key is used until that is mended: an operator or a thief may have
    changed it. A key that was invalid when it appeared is never used.

    A shortage of descriptors or memory is different. Checking known files needs no descriptor, so a removed or changed file
    is still noticed; a new one is noticed once the folder can be listed.

    ``lifetimes``: how long tokens may live.

    Raises:
        SettingsError: a key is unusable at the start.
    """

    def __init__(self, folder: Path, clock: Clock, lifetimes: TokenLifetimes) -> None:
        self._folder = folder
        self._clock = clock
        self._lifetimes = lifetimes
        self._checks = Checks(folder)
        # No time limit: known files are checked anyway, so a listing only reveals new ones.
        self._lists = Checks(folder, math.inf)
        self.keys: Keys = load_keys(folder, clock.now_ms())
        # A change that `use` has not handled yet, and whether it retired a key early.
        self._untold = self._untold_early = False
        self._found = KeyScan({}, frozenset(), frozenset())
        self._found = self.look()
        for problem in sorted(self._found.unusable):
            raise SettingsError(problem)

    def held(self, kind: KeyPurpose) -> list[Add]:
        """Return the keys of ``kind``, as the log records them. Keys that are unusable for now are included."""
        return [key.added for _, key in self._found.keys.values() if key.kind == kind]

    async def watch(self, use: OnKeysChanged) -> None:
        """Scan periodically. Call ``use`` on the event loop when the keys have changed."""
        # A dedicated thread, started once: under memory pressure no other may start.
        thread = ThreadPoolExecutor(1, thread_name_prefix="interlock-keys")
        try:
            while True:
                progressed()
                await asyncio.sleep(_LOOK_EVERY_S)
                try:
                    found = await asyncio.get_running_loop().run_in_executor(thread, self.look)
                except Exception as error:  # noqa: BLE001  # otherwise the scans end and removed keys stay valid
                    if self._excused(self._checks, error):
                        continue
                    problem = f"{self._folder} can't be looked at: {type(error).__name__}"
                    found = KeyScan(self._found.keys, frozenset({problem}), frozenset())
                self.take(found, use)
        finally:
            thread.shutdown(wait=False)

    def look(self) -> KeyScan:
        """Scan the files and return the result, which takes effect in :meth:`take`."""
        gone: set[Path] = set()
        while True:
            found, went = self._look()
            # A file that vanished after the listing may have been replaced earlier, so list again. A file that is missing
            # twice is a dangling link.
            if went <= gone:
                return found
            gone |= went

    def _look(self) -> tuple[KeyScan, set[Path]]:
        """Return the result of one scan, and the files that were listed but are missing."""
        look, known = _Look(), self._found.keys
        try:
            paths = self._paths()
            self._check_folder(look)
        except OSError as error:
            return KeyScan(known, frozenset({_in_words(self._folder, error)}), frozenset()), set()
        for path in paths:
            self._check(path, look)
        for kind in get_args(KeyPurpose):
            if all(key.kind != kind for _, key in look.keys.values()):
                look.unusable.add(f"{self._folder} holds no {kind} key any more")
                look.keys.update({path: (None, key) for path, (_, key) in known.items() if key.kind == kind})
        if look.complete:
            self._checks.succeeded()
        return KeyScan(look.keys, frozenset(look.unusable), frozenset(look.ignored)), look.went

    def _paths(self) -> list[Path]:
        """Return the key files; those already known if the folder can't be listed for lack of a descriptor.

        Raises:
            OSError: the folder can't be listed.
        """
        try:
            paths = key_files(self._folder)
        except OSError as error:
            if not self._excused(self._lists, error):
                raise
            return sorted(self._found.keys)
        self._lists.succeeded()
        return paths

    def _check_folder(self, look: _Look) -> None:
        try:
            refuse_open(self._folder)
        except SettingsError as error:
            look.unusable.add(str(error))
        except OSError as error:
            if not self._excused(self._checks, error):
                raise
            look.complete = False

    def _check(self, path: Path, look: _Look) -> None:
        known = self._found.keys
        stamp: FileStamp | None = None
        try:
            stamp = stamp_of(path.stat())
            if path in known and known[path][0] == stamp:
                look.keys[path] = known[path]
            else:
                look.keys[path] = (stamp, read_key(path))
        except FileNotFoundError:
            look.went.add(path)
        except (SettingsError, OSError) as error:
            if path not in known:
                # A later scan reads a new file that lacks a descriptor now.
                if not is_transient(error):
                    look.ignored.add(_in_words(path, error))
            elif stamp is None and self._excused(self._checks, error):
                look.keys[path], look.complete = known[path], False
            else:
                look.unusable.add(_in_words(path, error))
                # No stamp, so the next scan reads it again.
                look.keys[path] = (None, known[path][1])

    def _excused(self, checks: Checks, error: Exception) -> bool:
        """Return whether the keys of the last scan stay in use despite ``error``, because that scan was clean."""
        return bool(self._found.keys) and not self._found.unusable and checks.excuse(error)

    def take(self, found: KeyScan, use: OnKeysChanged) -> None:
        """Apply ``found``. The signing key can change with time even if no file did."""
        before, now_ms = self._found, self._clock.now_ms()
        self._found = found
        for problem in sorted(found.unusable - before.unusable):
            _log.error("keys.unusable", problem=problem)
        for problem in sorted(found.ignored - before.ignored):
            _log.error("keys.ignored", problem=problem)
        if before.unusable and not found.unusable:
            _log.info("keys.usable")
        keys, early = assemble((key for _, key in found.keys.values()), now_ms), False
        changed = _names(keys) != _names(self.keys)
        if changed:
            self.keys = keys
            held = [key for _, key in before.keys.values()]
            left = {key.added for _, key in found.keys.values()}
            gone = [key for key in held if key.added not in left]
            early = any(may_have_tokens(key, held, self._lifetimes, now_ms) for key in gone)
            _log.info("keys.changed", signing=keys.signing.kid, verifying=list(keys.verifying), retired_early=early)
        self._untold |= changed or bool(found.unusable) != bool(before.unusable)
        self._untold_early |= early
        if self._untold:
            # If `use` fails, the next scan repeats the call: a removed key must not stay valid.
            use(None if found.unusable else self.keys, self._untold_early)
            self._untold = self._untold_early = False


def open_keyring(folder: Path, clock: Clock, lifetimes: TokenLifetimes) -> KeyRing:
    """Return the key ring of ``folder``, and record there for the command line how long tokens may live.

    Raises:
        SettingsError: a key is unusable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lifetimes = record_lifetimes(folder, lifetimes)
    except OSError as error:
        _log.warning("keys.lifetimes_not_written", path=str(folder), error=str(error))
    return KeyRing(folder, clock, lifetimes)


def _in_words(path: Path, error: Exception) -> str:
    return f"{path} can't be read: {error.strerror}" if isinstance(error, OSError) else str(error)


def _names(keys: Keys) -> tuple[object, ...]:
    """Return what distinguishes two sets of keys: a key read twice does not equal itself."""
    return keys.signing.kid, *keys.verifying, keys.refresh_mac, keys.refresh_macs
