"""Secrets that sign requests between the server and other programs (Standard Webhooks). Both sides hold them.

Each program has a file ``<kind>-<name>.signing`` of mode 0600 beside the keys. The command line writes it, and a running server
notices. While the program changes from an old secret to a new one, the file holds both.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from interlock.machine.errors import SettingsError
from interlock.machine.secret.commands import Add, added
from interlock.server.guard.keys.keyset import FileStamp, key_files, no_keys, stamp_of
from interlock.server.outgoing.signatures import new_signing_secret
from interlock.server.system.permissions import read_private, write_private

Kind: TypeAlias = Literal["realm"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
_SUFFIX: Final = ".signing"
_MAX_SECRETS: Final = 3


class SigningSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One secret, and its creation time."""

    secret: Annotated[str, Meta(pattern=r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}\Z")]
    created_at_ms: int


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    secrets: Annotated[tuple[SigningSecret, ...], Meta(min_length=1)]


class SigningSecrets:
    """The signing secrets of one kind of program in ``folder``. Changes by the command line take effect at the next use."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self._folder = folder
        self._kind: Kind = kind
        self._known: dict[str, tuple[FileStamp, tuple[SigningSecret, ...]]] = {}

    def texts(self, name: str) -> list[str]:
        """Return the secrets of the program ``name``, the newest first; none if it has none.

        Raises:
            SettingsError: its file can't be read, holds no secret, or is readable by others.
        """
        return [each.secret for each in self.of(name)]

    def of(self, name: str) -> tuple[SigningSecret, ...]:
        """Return the secrets of the program ``name``, the newest first.

        Raises:
            SettingsError: as in :meth:`texts`.
        """
        path = self._path(name)
        try:
            stamp = stamp_of(path.stat())
            known = self._known.get(name)
            if known is None or known[0] != stamp:
                known = self._known[name] = stamp, _read(path)
        except FileNotFoundError:
            self._known.pop(name, None)
            return ()
        except OSError as error:
            raise SettingsError(f"{path} can't be used: {error.strerror}") from error
        return known[1]

    def names(self) -> list[str]:
        """Return the names of all programs that have a secret, sorted.

        Raises:
            SettingsError: the folder can't be listed.
        """
        try:
            files = [each.name for each in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SettingsError(f"the secrets in {self._folder} can't be used: {error.strerror}") from error
        prefix = f"{self._kind}-"
        found = (
            each[len(prefix) : -len(_SUFFIX)] for each in files if each.startswith(prefix) and each.endswith(_SUFFIX)
        )
        return sorted(each for each in found if _NAME.match(each))

    def held(self) -> list[Add]:
        """Return every secret, as the log records it.

        Raises:
            SettingsError: as in :meth:`names` and :meth:`texts`.
        """
        return [added(self._kind, name, each.secret.encode()) for name in self.names() for each in self.of(name)]

    def add(self, name: str, now_ms: int) -> str:
        """Create and return another secret of the program ``name``. Earlier ones stay valid.

        Raises:
            SettingsError: the name is invalid, it has 3 secrets, the folder is not one that a server uses, or the file can't be
                written.
        """
        if not _NAME.match(name):
            raise SettingsError("a name has 1 to 32 of a-z, 0-9, - and _, and begins with a letter")
        present = self.of(name)
        if len(present) >= _MAX_SECRETS:
            raise SettingsError(f"{name} has {len(present)} secrets; remove the old ones first")
        secret = new_signing_secret()
        self._write(name, (SigningSecret(secret, now_ms), *present))
        return secret

    def retire(self, name: str) -> int:
        """Remove all secrets of the program ``name`` except the newest. Return how many.

        Raises:
            SettingsError: it has none, or the file can't be written.
        """
        present = self._present(name)
        self._write(name, present[:1])
        return len(present) - 1

    def remove(self, name: str) -> None:
        """Remove all secrets of the program ``name``.

        Raises:
            SettingsError: it has none, or its file can't be removed.
        """
        self._present(name)
        try:
            self._path(name).unlink()
        except OSError as error:
            raise SettingsError(f"{self._path(name)} can't be removed: {error.strerror}") from error

    def _present(self, name: str) -> tuple[SigningSecret, ...]:
        if not _NAME.match(name) or not (present := self.of(name)):
            raise SettingsError(f"{name} has no secret")
        return present

    def _write(self, name: str, secrets: tuple[SigningSecret, ...]) -> None:
        try:
            # A secret without keys beside it is of no server: the folder is the wrong one.
            if not self._folder.exists() or not key_files(self._folder):
                raise no_keys(self._folder)
            write_private(self._path(name), msgspec.json.encode(_File(secrets)))
        except OSError as error:
            raise SettingsError(f"the secret can't be written to {self._folder}: {error.strerror}") from error

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._kind}-{name}{_SUFFIX}"


def _read(path: Path) -> tuple[SigningSecret, ...]:
    try:
        return msgspec.json.decode(read_private(path), type=_File).secrets
    except ValueError:
        raise SettingsError(f"{path} does not hold signing secrets") from None
