"""Secrets of other software: administrators, clients of introspection, and subscribers. Only their hashes are stored.

Each is a file ``<kind>-<name>.secret`` of mode 0600 beside the keys. The command line writes it, and a running server
notices. A secret is ``ilk_<kind>_<name>_<43 characters>``: 256 random bits, prefixed so that scanners find leaks.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import secrets
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from interlock.machine.errors import SettingsError
from interlock.machine.events.scopes import ScopeText
from interlock.machine.secret.commands import Add, added
from interlock.server.guard.keys.keyset import FileStamp, key_files, no_keys, stamp_of
from interlock.server.system.permissions import create_private, read_private
from interlock.server.system.transient import Checks

Kind: TypeAlias = Literal["admin", "client", "subscriber"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
_SUFFIX: Final = ".secret"
_SECRET_BYTES: Final = 32
_UNKNOWN_HASH: Final = "0" * 64


class StoredSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of a file: the secret's SHA-256 in hex, and its creation time. 256 random bits need no slower hash.

    ``scopes``: what a subscriber learns of; no other secret has any.
    """

    sha256: str
    created_at_ms: int
    scopes: tuple[ScopeText, ...] = ()


class Secrets:
    """The secrets of one kind in ``folder``. Changes by the command line take effect at the next check.

    While the folder can't be listed for lack of a descriptor, known secrets are still checked.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        self._folder = folder
        self._kind: Kind = kind
        self._seen: dict[str, FileStamp] = {}
        self._known: dict[str, StoredSecret] = {}
        self._good = False
        self._listed = True
        self._checks = Checks(folder / f"{kind}-*{_SUFFIX}")
        self._lists = Checks(folder / f"{kind}-*{_SUFFIX}", math.inf)

    def names(self) -> dict[str, StoredSecret]:
        """Return every secret by name, sorted.

        Raises:
            SettingsError: a file can't be read, holds no secret, or is readable by others; or the folder is gone.
        """
        was_good, self._good = self._good, False
        try:
            seen = self._stamps(was_good=was_good)
            if seen != self._seen:
                self._known = self._read_changed(seen)
                self._seen = seen
            self._good = True
        except FileNotFoundError:
            if self._seen:
                raise SettingsError(f"the folder {self._folder} is gone") from None
            return {}
        except OSError as error:
            raise SettingsError(f"the secrets in {self._folder} can't be used: {error.strerror}") from error
        return self._known

    def held(self) -> list[Add]:
        """Return every secret, as the log records it.

        Raises:
            SettingsError: as in :meth:`names`.
        """
        return [self._added(name, stored) for name, stored in self.names().items()]

    def check(self, presented: str) -> Add | None:
        """Return the secret ``presented``, as the log records it, or None. An unknown name takes as long.

        Raises:
            SettingsError: as in :meth:`names`; or the name is unknown and the folder can't be listed.
        """
        name = self._name_in(presented)
        stored = self.names().get(name)
        if stored is None and not self._listed:
            raise SettingsError(f"the secrets in {self._folder} can't be listed")
        expected = stored.sha256 if stored is not None else _UNKNOWN_HASH
        fits = hmac.compare_digest(expected, _hash(presented))
        return self._added(name, stored) if fits and stored is not None else None

    def create(self, name: str, now_ms: int, scopes: tuple[ScopeText, ...] = ()) -> str:
        """Create and return the secret of ``name``, which can't be shown again. ``scopes``: see :class:`StoredSecret`.

        Raises:
            SettingsError: the name is taken or invalid, the folder is not one that a server uses, or the file can't be
                written.
        """
        if not _NAME.match(name):
            raise SettingsError("a name has 1 to 40 of a-z, 0-9 and -, and does not begin with -")
        if name in self.names():
            raise _taken(name)
        secret = f"ilk_{self._kind}_{name}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        try:
            # A secret without keys beside it opens nothing: the folder is the wrong one.
            if not self._folder.exists() or not key_files(self._folder):
                raise no_keys(self._folder)
            create_private(self._path(name), msgspec.json.encode(StoredSecret(_hash(secret), now_ms, scopes)))
        except FileExistsError:
            raise _taken(name) from None
        except OSError as error:
            raise SettingsError(f"the secret can't be written to {self._folder}: {error.strerror}") from error
        return secret

    def remove(self, name: str) -> None:
        """Delete the secret of ``name``, so that it is no longer accepted.

        Raises:
            SettingsError: there is none, or its file can't be removed.
        """
        if name not in self.names():
            raise SettingsError(f"there is no secret named {name}")
        try:
            self._path(name).unlink()
        except OSError as error:
            raise SettingsError(f"{self._path(name)} can't be removed: {error.strerror}") from error

    def _read_changed(self, seen: dict[str, FileStamp]) -> dict[str, StoredSecret]:
        """Return every secret by name. A file that was removed since it was listed leaves ``seen``."""
        known: dict[str, StoredSecret] = {}
        for file, stamp in list(seen.items()):
            name = self._name_of(file)
            if self._seen.get(file) == stamp:
                known[name] = self._known[name]
                continue
            try:
                known[name] = _read(self._folder / file)
            except FileNotFoundError:
                del seen[file]
        return known

    def _stamps(self, *, was_good: bool) -> dict[str, FileStamp]:
        """Return the stamp of each file, sorted by name. ``was_good``: the last scan found no problem.

        Raises:
            OSError: the folder or a file can't be checked.
        """
        seen: dict[str, FileStamp] = {}
        complete = True
        for file in self._files(was_good=was_good):
            try:
                seen[file] = stamp_of((self._folder / file).stat())
            except FileNotFoundError:
                continue
            except OSError as error:
                if not (was_good and file in self._seen and self._checks.excuse(error)):
                    raise
                seen[file], complete = self._seen[file], False
        if complete:
            self._checks.succeeded()
        return seen

    def _files(self, *, was_good: bool) -> list[str]:
        """Return the names of the files; those already known if the folder can't be listed.

        Raises:
            OSError: the folder can't be listed.
        """
        try:
            with os.scandir(self._folder) as entries:
                files = sorted(
                    entry.name
                    for entry in entries
                    if entry.name.startswith(f"{self._kind}-") and entry.name.endswith(_SUFFIX)
                )
        except OSError as error:
            if not (was_good and self._lists.excuse(error)):
                raise
            self._listed = False
            return list(self._seen)
        self._lists.succeeded()
        self._listed = True
        return files

    def _added(self, name: str, stored: StoredSecret) -> Add:
        return added(self._kind, name, stored.sha256.encode(), stored.scopes)

    def _name_of(self, file: str) -> str:
        return file.removeprefix(f"{self._kind}-").removesuffix(_SUFFIX)

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._kind}-{name}{_SUFFIX}"

    def _name_in(self, presented: str) -> str:
        prefix = f"ilk_{self._kind}_"
        return presented.removeprefix(prefix).partition("_")[0] if presented.startswith(prefix) else ""


def _read(path: Path) -> StoredSecret:
    try:
        return msgspec.json.decode(read_private(path), type=StoredSecret)
    except ValueError:
        raise SettingsError(f"{path} does not hold a secret") from None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _taken(name: str) -> SettingsError:
    return SettingsError(f"a secret named {name} exists; remove it first")
