"""Subscribers: back ends that present a secret made by ``interlock subscribers create``."""

from __future__ import annotations

import msgspec
import structlog

from interlock.machine.errors import SubscriberCredentialInvalid
from interlock.machine.events.scopes import Scopes
from interlock.machine.secret.commands import Add
from interlock.server.guard.secrets import Secrets

_log = structlog.get_logger("interlock.events")


class Subscriber(msgspec.Struct, frozen=True):
    """An authenticated back end: its secret as the log records it, and what it learns of."""

    secret: Add
    scopes: Scopes


class Subscribers:
    """Authenticates subscribers. Refusals are logged; the log counts repeats."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def authenticate(self, presented: str) -> Subscriber:
        """Return the subscriber whose secret is ``presented``.

        Raises:
            SubscriberCredentialInvalid: it is no subscriber's secret.
            SettingsError: the secrets can't be read.
        """
        secret = self._secrets.check(presented)
        if secret is None:
            _log.warning("subscriber.refused")
            raise SubscriberCredentialInvalid("not a subscriber's secret")
        return Subscriber(secret, Scopes(secret.scopes))

    def still(self, secret: Add) -> bool:
        """Return whether ``secret`` is still stored, with the same scopes: neither removed nor replaced.

        Raises:
            SettingsError: the secrets can't be read.
        """
        return secret in self._secrets.held()
