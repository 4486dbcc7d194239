"""Administrators: callers that present a secret made by ``interlock admin-token create``."""

from __future__ import annotations

import msgspec
import structlog

from interlock.machine.errors import AdminCredentialInvalid
from interlock.machine.secret.commands import Add
from interlock.server.guard.secrets import Secrets

_log = structlog.get_logger("interlock.admin")


class Administrator(msgspec.Struct, frozen=True):
    """An authenticated administrator: the presented secret, as the log records it."""

    secret: Add

    @property
    def actor(self) -> str:
        """The actor in transitions and audit events. No account has this name: account ids begin with ``acc_``."""
        return f"admin:{self.secret.name}"


class Admins:
    """Authenticates administrators.

    Refusals are logged and not audited: anybody can cause any number of them, and the audit trail is kept for ever. The log
    counts repeats.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def authenticate(self, presented: str) -> Administrator:
        """Return the administrator whose secret ``presented`` is.

        Raises:
            AdminCredentialInvalid: it is no administrator's secret.
            SettingsError: the secrets can't be read.
        """
        secret = self._secrets.check(presented)
        if secret is None:
            _log.warning("admin.refused")
            raise AdminCredentialInvalid("not an administrator's secret")
        return Administrator(secret)

    def still(self, administrator: Administrator) -> bool:
        """Return whether the secret that ``administrator`` presented is still stored: neither removed nor replaced.

        Raises:
            SettingsError: the secrets can't be read.
        """
        return administrator.secret in self._secrets.held()
