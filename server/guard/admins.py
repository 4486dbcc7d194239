"""Administrators: callers that present a secret made by ``interlock admin-token create``."""

from __future__ import annotations

import msgspec
import structlog

from interlock.machine.errors import AdminCredentialInvalid
from interlock.server.guard.secrets import Secrets, StoredSecret

_log = structlog.get_logger("interlock.admin")


class Administrator(msgspec.Struct, frozen=True):
    """An authenticated administrator: the secret's name and the stored secret."""

    name: str
    secret: StoredSecret

    @property
    def actor(self) -> str:
        """The actor in transitions and audit events. No account has this name: account ids begin with ``acc_``."""
        return f"admin:{self.name}"


class Admins:
    """Authenticates administrators.

    Refusals are logged and not audited: anybody can cause any number of them, and the audit trail is kept for ever. The log
    counts repeats.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def prove(self, presented: str) -> Administrator:
        """Return the administrator whose secret ``presented`` is.

        Raises:
            AdminCredentialInvalid: it is no administrator's secret.
            SettingsError: the secrets can't be read.
        """
        name = self._secrets.check(presented)
        if name is None:
            _log.warning("admin.refused")
            raise AdminCredentialInvalid("not an administrator's secret")
        return Administrator(name, self._secrets.names()[name])

    def still(self, administrator: Administrator) -> bool:
        """Return whether the secret that ``administrator`` presented is still stored: neither removed nor replaced.

        Raises:
            SettingsError: the secrets can't be read.
        """
        return self._secrets.names().get(administrator.name) == administrator.secret
