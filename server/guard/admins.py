"""Administrators: callers that present a secret made by ``interlock admin-token create``."""

from __future__ import annotations

import structlog

from interlock.machine.errors import AdminCredentialInvalid
from interlock.machine.secret.commands import Add
from interlock.server.guard.secrets import Secrets

_log = structlog.get_logger("interlock.admin")


class Admins:
    """Authenticates administrators.

    Refusals are logged and not audited: anybody can cause any number of them, and the audit trail is kept for ever. The log
    counts repeats.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def authenticate(self, presented: str) -> Add:
        """Return the secret ``presented`` of an administrator, as the log records it.

        Raises:
            AdminCredentialInvalid: it is no administrator's secret.
            SettingsError: the secrets can't be read.
        """
        secret = self._secrets.check(presented)
        if secret is None:
            _log.warning("admin.refused")
            raise AdminCredentialInvalid("not an administrator's secret")
        return secret

    def still(self, secret: Add) -> bool:
        """Return whether ``secret`` is still stored: neither removed nor replaced.

        Raises:
            SettingsError: the secrets can't be read.
        """
        return secret in self._secrets.held()
