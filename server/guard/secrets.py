"""Secrets of other software: administrators, clients of introspection, and subscribers. Only their hashes are stored.

A secret is ``ilk_<kind>_<name>_<43 characters>``: 256 random bits, prefixed so that scanners find leaks.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from interlock.machine.errors import SettingsError
from interlock.machine.events.scopes import ScopeText
from interlock.machine.secret.commands import Add, added
from interlock.server.guard.secret_files import SecretFiles

SecretKind: TypeAlias = Literal["admin", "client", "subscriber"]

_SECRET_BYTES: Final = 32
_UNKNOWN_HASH: Final = "0" * 64


class StoredSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of a file: the secret's SHA-256 in hex, and its creation time. 256 random bits need no slower hash.

    ``scopes``: what a subscriber learns of; no other secret has any.
    """

    sha256: str
    created_at_ms: int
    scopes: tuple[ScopeText, ...] = ()


class Secrets(SecretFiles[StoredSecret]):
    """The secrets of one kind in ``folder``."""

    def __init__(self, folder: Path, kind: SecretKind) -> None:
        super().__init__(folder, kind, StoredSecret)
        self._purpose: SecretKind = kind

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
            SettingsError: see :meth:`add`.
        """
        secret = f"ilk_{self._kind}_{name}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        self.add(name, StoredSecret(_hash(secret), now_ms, scopes))
        return secret

    def _added(self, name: str, stored: StoredSecret) -> Add:
        return added(self._purpose, name, stored.sha256.encode(), stored.scopes)

    def _name_in(self, presented: str) -> str:
        prefix = f"ilk_{self._kind}_"
        return presented.removeprefix(prefix).partition("_")[0] if presented.startswith(prefix) else ""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
