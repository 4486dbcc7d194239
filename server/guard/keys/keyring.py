"""The keys of a running server: it looks at their files once a second, so the command line can rotate and retire them."""

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
from interlock.server.clock import Clock
from interlock.server.guard.keys.keyset import (
    Key,
    Keys,
    Kind,
    SigningKey,
    Stamp,
    assemble,
    key_files,
    load_keys,
    read_key,
    stamp_of,
)
from interlock.server.guard.keys.rotation import Lives, may_have_tokens, note_lives
from interlock.server.system.permissions import refuse_open
from interlock.server.system.supervision import progressed
from interlock.server.system.transient import Checks, is_transient

_LOOK_EVERY_S: Final = 1.0

_log = structlog.get_logger("interlock.keys")

OnKeysChanged: TypeAlias = Callable[[Keys | None, bool], None]
"""Told of every change: the keys that count from now on, or None while their files can't be used; and whether a key is gone
whose tokens may still be alive, so that it was retired because it is compromised."""


class Found(msgspec.Struct, frozen=True):
    """What a look at the files found.

    ``keys``: by file. Of a file that can't be used it is what was known before, so that it is known again once it can.
    ``unusable``: why no key counts now, in words; empty if they do. ``ignored``: what is wrong with files that hold no key
    that ever counted.
    """

    keys: dict[Path, tuple[Stamp | None, Key]]
    unusable: frozenset[str]
    ignored: frozenset[str]


class _Look(msgspec.Struct):
    """What one look has found so far, as in :class:`Found`.

    ``went``: files that were listed and are not there. ``complete``: everything could be checked.
    """

    keys: dict[Path, tuple[Stamp | None, Key]] = {}
    unusable: set[str] = set()
    ignored: set[str] = set()
    went: set[Path] = set()
    complete: bool = True


class KeyRing:
    """``keys`` is what counts now, or counted last. :meth:`watch` keeps it so.

    A key whose file is gone does not count any more, whatever else is wrong. Where there is no key of a kind left, or the
    file of one that counts can't be read, is no key, or is open to others, none counts until that is mended: nobody can
    tell then what the operator, or a thief, has done to them. A key that was not good when it appeared never counts.

    A shortage of descriptors or memory is no such case. A check of the known files takes no descriptor, so a file that is
    removed or changed is noticed meanwhile; a new one is noticed once the folder can be listed.

    ``lives``: how long tokens may live.

    Raises:
        SettingsError: a key can't be used, at the start.
    """

    def __init__(self, folder: Path, clock: Clock, lives: Lives) -> None:
        self._folder = folder
        self._clock = clock
        self._lives = lives
        self._checks = Checks(folder)
        # Without end: beyond what a check of the known files shows, a list shows only what is new.
        self._lists = Checks(folder, math.inf)
        self.keys: Keys = load_keys(folder, clock.now_ms())
        # A change that `use` was not told of yet, or failed at, and whether it retired a key early.
        self._untold = self._untold_early = False
        self._found = Found({}, frozenset(), frozenset())
        self._found = self.look()
        for problem in sorted(self._found.unusable):
            raise SettingsError(problem)

    async def watch(self, use: OnKeysChanged) -> None:
        """Look again and again. ``use`` is called, on the event loop, when the keys have changed."""
        # A thread of its own, started once: a machine that is short of memory may start no other.
        thread = ThreadPoolExecutor(1, thread_name_prefix="interlock-keys")
        try:
            while True:
                progressed()
                await asyncio.sleep(_LOOK_EVERY_S)
                try:
                    found = await asyncio.get_running_loop().run_in_executor(thread, self.look)
                except Exception as error:  # noqa: BLE001  # nobody would look again, and what is gone would count for ever
                    if self._excused(self._checks, error):
                        continue
                    problem = f"{self._folder} can't be looked at: {type(error).__name__}"
                    found = Found(self._found.keys, frozenset({problem}), frozenset())
                self.take(found, use)
        finally:
            thread.shutdown(wait=False)

    def look(self) -> Found:
        """Read what has changed. Nothing counts before :meth:`take`."""
        gone: set[Path] = set()
        while True:
            found, went = self._look()
            # What went after the folder was listed may have been replaced before, so the list is too old. What is missing
            # again and again is a link to nowhere.
            if went <= gone:
                return found
            gone |= went

    def _look(self) -> tuple[Found, set[Path]]:
        """What is found, and which files were listed and are not there."""
        look, known = _Look(), self._found.keys
        try:
            paths = self._paths()
            self._check_folder(look)
        except OSError as error:
            return Found(known, frozenset({_in_words(self._folder, error)}), frozenset()), set()
        for path in paths:
            self._check(path, look)
        for kind in get_args(Kind):
            if all(key.kind != kind for _, key in look.keys.values()):
                look.unusable.add(f"{self._folder} holds no {kind} key any more")
                look.keys.update({path: (None, key) for path, (_, key) in known.items() if key.kind == kind})
        if look.complete:
            self._checks.succeeded()
        return Found(look.keys, frozenset(look.unusable), frozenset(look.ignored)), look.went

    def _paths(self) -> list[Path]:
        """The files of keys; while the folder can't be listed for want of a descriptor, those that are known.

        Raises:
            OSError: there is no telling.
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
        stamp: Stamp | None = None
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
                # A new file that can't be read for want of a descriptor is read at a later look.
                if not is_transient(error):
                    look.ignored.add(_in_words(path, error))
            elif stamp is None and self._excused(self._checks, error):
                look.keys[path], look.complete = known[path], False
            else:
                look.unusable.add(_in_words(path, error))
                # Without its stamp, so that it is read anew at the next look.
                look.keys[path] = (None, known[path][1])

    def _excused(self, checks: Checks, error: Exception) -> bool:
        """Whether the keys that the last look found still count, if it found nothing wrong."""
        return bool(self._found.keys) and not self._found.unusable and checks.excuse(error)

    def take(self, found: Found, use: OnKeysChanged) -> None:
        """Let ``found`` count from now on. Also without a change of files another key may be the one to sign by now."""
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
            left = {_identity(key) for _, key in found.keys.values()}
            gone = [key for key in held if _identity(key) not in left]
            early = any(may_have_tokens(key, held, self._lives, now_ms) for key in gone)
            _log.info("keys.changed", signing=keys.signing.kid, verifying=list(keys.verifying), retired_early=early)
        self._untold |= changed or bool(found.unusable) != bool(before.unusable)
        self._untold_early |= early
        if self._untold:
            # Should it fail, it is called again at the next look: a key that is gone must not count for ever.
            use(None if found.unusable else self.keys, self._untold_early)
            self._untold = self._untold_early = False


def open_keyring(folder: Path, clock: Clock, lives: Lives) -> KeyRing:
    """Return the keys in ``folder``, and tell the command line, by a file there, how long what they sign may live.

    Raises:
        SettingsError: a key can't be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lives = note_lives(folder, lives)
    except OSError as error:
        _log.warning("keys.lives_not_written", path=str(folder), error=str(error))
    return KeyRing(folder, clock, lives)


def _in_words(path: Path, error: Exception) -> str:
    return f"{path} can't be read: {error.strerror}" if isinstance(error, OSError) else str(error)


def _identity(key: Key) -> tuple[str, bytes]:
    """What tells ``key`` from another in a file of the same name: a signing key is named after itself."""
    return key.name, b"" if isinstance(key, SigningKey) else key.secret


def _names(keys: Keys) -> tuple[object, ...]:
    """What tells two sets of keys apart: the same key read twice is not equal to itself."""
    return keys.signing.kid, *keys.verifying, keys.refresh_mac, keys.refresh_macs
