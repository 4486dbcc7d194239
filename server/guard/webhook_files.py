"""The files of webhooks: where each is, what it learns of, and the secrets that sign what is sent to it.

Unlike other secrets, these are stored themselves: the server signs with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from interlock.machine.events.scopes import ScopeText
from interlock.machine.secret.commands import Add, added
from interlock.server.guard.secret_files import SecretFiles
from interlock.server.outgoing.signatures import SigningSecret, new_signing_secret

_OVERLAP_MS: Final = 86_400_000
"""How long messages are signed with an old secret, too, after a rotation."""


class SecretUntil(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A secret that signs messages until ``until_ms``, None for the newest."""

    secret: SigningSecret
    until_ms: int | None = None


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook as its file has it. ``secrets``: the newest first.

    ``enabled_at_ms`` and ``replay_at_ms``: when the command line last asked to enable it again, or to replay its dead letters.
    """

    url: str
    scopes: tuple[ScopeText, ...]
    secrets: Annotated[tuple[SecretUntil, ...], Meta(min_length=1)]
    created_at_ms: int
    enabled_at_ms: int = 0
    replay_at_ms: int = 0

    def signing(self, now_ms: int) -> list[str]:
        """Return the secrets that sign at ``now_ms``, the newest first."""
        return [each.secret for each in self.secrets if each.until_ms is None or now_ms < each.until_ms]


class WebhookFiles(SecretFiles[Webhook]):
    """The webhooks in ``folder``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "webhook", Webhook, called="webhook")

    def held(self, now_ms: int) -> list[Add]:
        """Return every secret that signs messages at ``now_ms``, as the log records it.

        Raises:
            SettingsError: as in :meth:`names`.
        """
        return [
            added("webhook", name, secret.encode(), stored.scopes)
            for name, stored in self.names().items()
            for secret in stored.signing(now_ms)
        ]

    def create(self, name: str, url: str, scopes: tuple[ScopeText, ...], now_ms: int) -> str:
        """Create the webhook ``name``. Return its secret.

        Raises:
            SettingsError: see :meth:`add`.
        """
        secret = new_signing_secret()
        self.add(name, Webhook(url, scopes, (SecretUntil(secret),), now_ms))
        return secret

    def rotate(self, name: str, now_ms: int) -> str:
        """Give the webhook ``name`` a new secret, and return it. For a day, messages are signed with the former one, too.

        Raises:
            SettingsError: there is none, or its file can't be written.
        """
        stored = self.existing(name)
        secret = new_signing_secret()
        former = tuple(
            SecretUntil(each.secret, now_ms + _OVERLAP_MS if each.until_ms is None else each.until_ms)
            for each in stored.secrets
            if each.until_ms is None or now_ms < each.until_ms
        )
        self.replace(name, msgspec.structs.replace(stored, secrets=(SecretUntil(secret), *former)))
        return secret

    def ask(self, name: str, **when_ms: int) -> None:
        """Note in the file of ``name`` that something is asked of the server: ``enabled_at_ms`` or ``replay_at_ms``.

        Raises:
            SettingsError: there is none, or its file can't be written.
        """
        self.replace(name, msgspec.structs.replace(self.existing(name), **when_ms))
