"""Who is an administrator: whoever presents one of the secrets that ``interlock admin-token create`` made."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from machine.errors import AdminCredentialInvalid
from server.guard.secrets import Secrets, StoredSecret

_log = structlog.get_logger("interlock.admin")

_TOLD_EVERY_S: Final = 10.0


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
    are counted, and the log tells the count at most once in ten seconds.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._refused = 0
        self._from: str | None = None
        self._telling: asyncio.TimerHandle | None = None

    def prove(self, presented: str, address: str | None) -> Administrator:
        """Whose secret ``presented`` is. ``address`` is where it came from, for the log.

        Raises:
            AdminCredentialInvalid: nobody's.
            SettingsError: the secrets can't be read, so nobody can be told from them.
        """
        name = self._secrets.check(presented)
        if name is None:
            self._refuse(address)
            raise AdminCredentialInvalid("not an administrator's secret")
        return Administrator(name, self._secrets.names()[name])

    def still(self, administrator: Administrator) -> bool:
        """The secret that ``administrator`` has presented has not been removed since, nor exchanged.

        Raises:
            SettingsError: the secrets can't be read.
        """
        return self._secrets.names().get(administrator.name) == administrator.secret

    def _refuse(self, address: str | None) -> None:
        self._refused += 1
        self._from = address
        if self._telling is None:
            self._tell()

    def _tell(self) -> None:
        """Say what was refused since the last time; as long as there is something to say, look again."""
        self._telling = None
        if self._refused:
            _log.warning("admin.refused", refusals=self._refused, last_from=self._from)
            self._refused = 0
            self._telling = asyncio.get_running_loop().call_later(_TOLD_EVERY_S, self._tell)
