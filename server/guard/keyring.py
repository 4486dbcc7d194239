"""The keys of a running server: it looks at their files once a second, so the command line can rotate and retire them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias, get_args

import msgspec
import structlog

from machine.errors import SettingsError
from server.clock import Clock
from server.guard.keys import Key, Keys, Kind, assemble, key_files, load_keys, read_key
from server.guard.rotation import Lives, may_have_tokens

_LOOK_EVERY_S: Final = 1.0

_log = structlog.get_logger("interlock.keys")

_Stamp: TypeAlias = tuple[int, int, int]
"""Inode, and times of writing and of a change of mode or owner: a change in place, too, is noticed."""


class Found(msgspec.Struct, frozen=True):
    """What a look at the files found: keys by file, and what was wrong with the others."""

    keys: dict[Path, tuple[_Stamp | None, Key]]
    trouble: frozenset[str]


class KeyRing:
    """``keys`` is what counts now. :meth:`watch` keeps it so.

    A key whose file is gone does not count any more, whatever else is wrong. Where a file can't be read, or is no key, what
    was known of it before still counts, and the error log says so: a slip of the hand must not log everybody out, and a
    key that was not good when it appeared never counts.

    ``lives``: how long tokens may live.

    Raises:
        SettingsError: a key can't be used, at the start.
    """

    def __init__(self, folder: Path, clock: Clock, lives: Lives) -> None:
        self._folder = folder
        self._clock = clock
        self._lives = lives
        self.keys: Keys = load_keys(folder, clock.now_ms())
        self._found = Found({}, frozenset())
        self._found = self.look()

    async def watch(self, use: Callable[[Keys, bool], None]) -> None:
        """Look again and again. ``use`` is called with the keys when they have changed, on the event loop.

        Its second argument: a key is gone whose tokens may still be alive, so it was retired because it is compromised.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.take(await asyncio.to_thread(self.look), use)

    def look(self) -> Found:
        """Read what has changed. Nothing counts before :meth:`take`."""
        known = self._found.keys
        try:
            paths = key_files(self._folder)
        except OSError as error:
            return Found(known, frozenset({f"{self._folder} can't be read: {error.strerror}"}))
        keys: dict[Path, tuple[_Stamp | None, Key]] = {}
        trouble = set()
        for path in paths:
            try:
                status = path.stat()
                stamp = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
                if path in known and known[path][0] == stamp:
                    keys[path] = known[path]
                else:
                    keys[path] = (stamp, read_key(path))
            except FileNotFoundError:
                continue
            except (SettingsError, OSError) as error:
                trouble.add(str(error))
                if path in known:
                    # Without its stamp, so that it is read anew at the next look.
                    keys[path] = (None, known[path][1])
        for kind in get_args(Kind):
            if all(key.kind != kind for _, key in keys.values()):
                trouble.add(f"{self._folder} holds no {kind} key any more")
                keys.update({path: (None, key) for path, (_, key) in known.items() if key.kind == kind})
        return Found(keys, frozenset(trouble))

    def take(self, found: Found, use: Callable[[Keys, bool], None]) -> None:
        """Let ``found`` count from now on. Also without a change of files another key may be the one to sign by now."""
        before, now_ms = self._found, self._clock.now_ms()
        self._found = found
        for trouble in sorted(found.trouble - before.trouble):
            _log.error("keys.unusable", problem=trouble)
        keys = assemble((key for _, key in found.keys.values()), now_ms)
        if _names(keys) == _names(self.keys):
            return
        self.keys = keys
        held = [key for _, key in before.keys.values()]
        left = {key.name for _, key in found.keys.values()}
        gone = [key for key in held if key.name not in left]
        early = any(may_have_tokens(key, held, self._lives, now_ms) for key in gone)
        _log.info("keys.changed", signing=keys.signing.kid, verifying=list(keys.verifying), retired_early=early)
        use(keys, early)


def _names(keys: Keys) -> tuple[object, ...]:
    """What tells two sets of keys apart: the same key read twice is not equal to itself."""
    return keys.signing.kid, *keys.verifying, keys.refresh_mac, keys.refresh_macs
