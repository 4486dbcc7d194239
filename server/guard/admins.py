"""Who is an administrator: whoever presents one of the secrets that ``interlock admin-token create`` made."""

from __future__ import annotations

import msgspec
import structlog

from interlock.machine.errors import AdminCredentialInvalid
from interlock.server.guard.secrets import Secrets, StoredSecret

_log = structlog.get_logger("interlock.admin")


class Administrator(msgspec.Struct, frozen=True):
    """One who has presented a secret: whose, and which."""

    name: str
    secret: StoredSecret

    @property
    def actor(self) -> str:
        """What transitions and acts call them. No account is called so: those begin with ``acc_``."""
        return f"admin:{self.name}"


class Admins:
    """All administrators.

    Refusals are no audit records: anybody can cause them, as many as they like, and the audit trail is kept for ever. They
    are in the log, which tells repeats as a number.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def prove(self, presented: str) -> Administrator:
        """Whose secret ``presented`` is.

        Raises:
            AdminCredentialInvalid: nobody's.
            SettingsError: the secrets can't be read, so nobody can be told from them.
        """
        name = self._secrets.check(presented)
        if name is None:
            _log.warning("admin.refused")
            raise AdminCredentialInvalid("not an administrator's secret")
        return Administrator(name, self._secrets.names()[name])

    def still(self, administrator: Administrator) -> bool:
        """The secret that ``administrator`` has presented has not been removed since, nor exchanged.

        Raises:
            SettingsError: the secrets can't be read.
        """
        return self._secrets.names().get(administrator.name) == administrator.secret
