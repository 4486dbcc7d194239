"""The secrets that sign the calls of remote realms, and their callbacks. Both sides hold them (Standard Webhooks).

While a realm changes from an old secret to a new one, its file holds both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from interlock.machine.errors import SettingsError
from interlock.machine.secret.commands import Add, added
from interlock.server.guard.secret_files import NameRule, SecretFiles
from interlock.server.outgoing.signatures import SigningSecret, new_signing_secret

_MAX_SECRETS: Final = 3


class DatedSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One secret, and its creation time."""

    secret: SigningSecret
    created_at_ms: int


class SecretsOfRealm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a file: the secrets of one realm, the newest first."""

    secrets: Annotated[tuple[DatedSecret, ...], Meta(min_length=1)]


class RealmSecrets(SecretFiles[SecretsOfRealm]):
    """The signing secrets of all remote realms in ``folder``."""

    def __init__(self, folder: Path) -> None:
        # A realm's name, as realms declare it.
        rule = NameRule(r"[a-z][a-z0-9_-]{0,31}", "1 to 32 of a-z, 0-9, - and _, and begins with a letter")
        super().__init__(folder, "realm", SecretsOfRealm, rule=rule)

    def texts(self, realm: str) -> list[str]:
        """Return the secrets of ``realm``, the newest first; none if it has none.

        Raises:
            SettingsError: as in :meth:`names`.
        """
        stored = self.names().get(realm)
        return [] if stored is None else [each.secret for each in stored.secrets]

    def held(self) -> list[Add]:
        """Return every secret, as the log records it.

        Raises:
            SettingsError: as in :meth:`names`.
        """
        return [added("realm", name, text.encode()) for name in self.names() for text in self.texts(name)]

    def create(self, realm: str, now_ms: int) -> str:
        """Create and return another secret of ``realm``. Earlier ones stay valid.

        Raises:
            SettingsError: it has 3 secrets; or as in :meth:`add`.
        """
        secret = new_signing_secret()
        new = DatedSecret(secret, now_ms)
        if (stored := self.names().get(realm)) is None:
            self.add(realm, SecretsOfRealm((new,)))
        elif len(stored.secrets) >= _MAX_SECRETS:
            raise SettingsError(f"{realm} has {len(stored.secrets)} secrets; remove the old ones first")
        else:
            self.replace(realm, SecretsOfRealm((new, *stored.secrets)))
        return secret

    def retire(self, realm: str) -> int:
        """Remove all secrets of ``realm`` except the newest. Return how many.

        Raises:
            SettingsError: it has none, or the file can't be written.
        """
        present = self.existing(realm).secrets
        self.replace(realm, SecretsOfRealm(present[:1]))
        return len(present) - 1
