"""The server's keys and the secrets of others, opened together with their records in the log."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from interlock.machine.secret.commands import Purpose
from interlock.server.clock import Clock
from interlock.server.guard.keys.keyring import KeyRing, open_keyring
from interlock.server.guard.keys.rotation import TokenLifetimes
from interlock.server.guard.secrets import Secrets
from interlock.server.guard.signing_secrets import SigningSecrets
from interlock.server.guard.webhook_files import WebhookFiles
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.secret_records import Look, SecretRecords
from interlock.server.settings import Settings
from interlock.server.surface.sqlite.files import Surface


class OpenedSecrets(msgspec.Struct):
    """The keys, the secrets of others, and their records."""

    ring: KeyRing
    admins: Secrets
    clients: Secrets
    subscribers: Secrets
    webhooks: WebhookFiles
    records: SecretRecords


async def open_secrets(settings: Settings, clock: Clock, feed: Feed, surface: Surface) -> OpenedSecrets:
    """Return the keys and secrets in the folder of keys. Nothing is recorded yet.

    Raises:
        SettingsError: a file can't be used.
    """
    keys = Path(settings.data) / "keys"
    lifetimes = TokenLifetimes(settings.access_token_s * 1000, settings.policy.absolute_timeout_ms)
    ring = open_keyring(keys, clock, lifetimes)
    admins, clients, subscribers = Secrets(keys, "admin"), Secrets(keys, "client"), Secrets(keys, "subscriber")
    webhooks = WebhookFiles(keys)
    admins.names()  # what can't be read is said now, not at the first use
    looks: dict[Purpose, Look] = {
        "signing": partial(ring.held, "signing"),
        "refresh": partial(ring.held, "refresh"),
        "admin": admins.held,
        "client": clients.held,
        "subscriber": subscribers.held,
        "webhook": webhooks.held,
        "realm": SigningSecrets(keys, "realm").held,
    }
    records = SecretRecords(feed, clock, looks)
    await records.restore(surface.directory)
    return OpenedSecrets(ring, admins, clients, subscribers, webhooks, records)
