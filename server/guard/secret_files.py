"""Files with secrets beside the keys: ``<kind>-<name>.secret`` of mode 0600. The command line writes them, a server notices."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from interlock.machine.errors import SettingsError
from interlock.server.guard.keys.keyset import FileStamp, key_files, no_keys, stamp_of
from interlock.server.system.permissions import create_private, read_private, write_private
from interlock.server.system.transient import Checks

StoredT = TypeVar("StoredT", bound=msgspec.Struct)

_SUFFIX: Final = ".secret"


class NameRule(NamedTuple):
    """What names are allowed, as a pattern, and ``said`` in a message after "a name has"."""

    pattern: str
    said: str


_RULE: Final = NameRule(r"[a-z0-9][a-z0-9-]{0,39}", "1 to 40 of a-z, 0-9 and -, and does not begin with -")


class SecretFiles(Generic[StoredT]):
    """The files of one ``kind`` in ``folder``, each with a ``stored``; messages call one ``called``.

    Changes by the command line are seen at the next check. While the folder can't be listed for lack of a descriptor, known
    files are still checked.
    """

    def __init__(
        self, folder: Path, kind: str, stored: type[StoredT], *, called: str = "secret", rule: NameRule = _RULE
    ) -> None:
        self._folder = folder
        self._called = called
        self._kind = kind
        self._rule = rule
        self._stored = stored
        self._seen: dict[str, FileStamp] = {}
        self._known: dict[str, StoredT] = {}
        self._good = False
        self._listed = True
        self._checks = Checks(folder / f"{kind}-*{_SUFFIX}")
        self._lists = Checks(folder / f"{kind}-*{_SUFFIX}", math.inf)

    def names(self) -> dict[str, StoredT]:
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

    def add(self, name: str, stored: StoredT) -> None:
        """Write the file of ``name``.

        Raises:
            SettingsError: the name is taken or invalid, the folder is not one that a server uses, or the file can't be
                written.
        """
        if not re.fullmatch(self._rule.pattern, name):
            raise SettingsError(f"a name has {self._rule.said}")
        if name in self.names():
            raise self._taken(name)
        try:
            # A secret without keys beside it opens nothing: the folder is the wrong one.
            if not self._folder.exists() or not key_files(self._folder):
                raise no_keys(self._folder)
            create_private(self._path(name), msgspec.json.encode(stored))
        except FileExistsError:
            raise self._taken(name) from None
        except OSError as error:
            raise SettingsError(f"the secret can't be written to {self._folder}: {error.strerror}") from error

    def replace(self, name: str, stored: StoredT) -> None:
        """Write the file of ``name`` anew.

        Raises:
            SettingsError: it can't be written.
        """
        try:
            write_private(self._path(name), msgspec.json.encode(stored))
        except OSError as error:
            raise SettingsError(f"the secret can't be written to {self._folder}: {error.strerror}") from error

    def existing(self, name: str) -> StoredT:
        """Return what is stored of ``name``.

        Raises:
            SettingsError: there is none; or as in :meth:`names`.
        """
        stored = self.names().get(name)
        if stored is None:
            raise SettingsError(f"there is no {self._called} named {name}")
        return stored

    def remove(self, name: str) -> None:
        """Delete the secret of ``name``, so that it is no longer accepted.

        Raises:
            SettingsError: there is none, or its file can't be removed.
        """
        self.existing(name)
        try:
            self._path(name).unlink()
        except OSError as error:
            raise SettingsError(f"{self._path(name)} can't be removed: {error.strerror}") from error

    def _read_changed(self, seen: dict[str, FileStamp]) -> dict[str, StoredT]:
        """Return every secret by name. A file that was removed since it was listed leaves ``seen``."""
        known: dict[str, StoredT] = {}
        for file, stamp in list(seen.items()):
            name = self._name_of(file)
            if self._seen.get(file) == stamp:
                known[name] = self._known[name]
                continue
            try:
                known[name] = self._read(self._folder / file)
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

    def _name_of(self, file: str) -> str:
        return file.removeprefix(f"{self._kind}-").removesuffix(_SUFFIX)

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._kind}-{name}{_SUFFIX}"

    def _read(self, path: Path) -> StoredT:
        try:
            return msgspec.json.decode(read_private(path), type=self._stored)
        except ValueError:
            raise SettingsError(f"{path} does not hold a secret") from None

    def _taken(self, name: str) -> SettingsError:
        return SettingsError(f"a {self._called} named {name} exists; remove it first")
