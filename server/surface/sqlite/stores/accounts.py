"""Personal data and exchanged tokens in the log's database file."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from interlock.machine.account.account import Account
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.errors import AccountExists, CredentialInvalid
from interlock.server.surface.accounts import Owner, PersonalData, not_what_was_recorded
from interlock.server.surface.log import Along
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Lookup, Reader
from interlock.server.surface.sqlite.rows import COMPARED_COLUMNS, compared
from interlock.server.surface.sqlite.stores.devices import ERASE_OF_ACCOUNT

PERSONAL_COLUMNS: Final = "account_id, commitment_key, email, password_hash, issuer, subject"
_PERSONAL_WIDTH: Final = PERSONAL_COLUMNS.count(",") + 1
_COLUMNS: Final = f"{PERSONAL_COLUMNS}, {COMPARED_COLUMNS}"
_JOINED: Final = (
    "personal_data CROSS JOIN instances ON instances.kind = 'account' AND instances.instance_id = account_id"
)
_OF_IDENTITY: Final = f"SELECT {PERSONAL_COLUMNS} FROM personal_data WHERE (issuer, subject) = (?, ?)"  # noqa: S608  # names of ours

_INSERT: Final = f"INSERT INTO personal_data ({PERSONAL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608  # names of ours
_SUPERSEDED: Final = """
    SELECT s.instance_id FROM instances AS s INDEXED BY instances_live_of_owner
        LEFT JOIN instances AS a ON (a.kind, a.instance_id) = ('account', s.owner)
        WHERE s.kind = 'session' AND s.ended = 0 AND s.owner IS NOT NULL
            AND (a.state IS NOT 'active' OR a.epoch <> coalesce(s.fold ->> '$.account_epoch', 0))
"""
_ERASE_EXECUTIONS: Final = """
    DELETE FROM execution_data WHERE execution_id IN (
        SELECT instance_id FROM instances INDEXED BY instances_of_owner_created WHERE kind = 'execution' AND owner = ?)
"""
_USED: Final = "the ID token was already exchanged"


class SqliteAccounts:
    """:class:`AccountStore` in the log's database file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def by_email(self, email: str) -> PersonalData | None:
        """See :meth:`AccountStore.by_email`."""
        return await self._reader.find(_BY_EMAIL, email)

    async def by_id(self, account_id: str) -> Owner | None:
        """See :meth:`AccountStore.by_id`."""
        return await self._reader.find(_BY_ID, account_id)

    async def by_identity(self, issuer: str, subject: str) -> PersonalData | None:
        """See :meth:`AccountStore.by_identity`."""
        rows = await self._reader.rows(_OF_IDENTITY, issuer, subject)
        return _read(rows[0]) if rows else None

    async def of_accounts(self, account_ids: Collection[str]) -> list[PersonalData]:
        """See :meth:`AccountStore.of_accounts`."""
        return await self._reader.run(lambda connection: read_personal_data(connection, account_ids))

    def add(self, data: PersonalData) -> Along:
        """See :meth:`AccountStore.add`."""

        def run(connection: Connection) -> None:
            key = base64.b64encode(data.key).decode()
            values = (data.account_id, key, data.email, data.password_hash, data.issuer, data.subject)
            if not connection.execute(_INSERT, values).rowcount:
                raise AccountExists("an account with this email address exists")

        return run

    def replace_hash(self, account_id: str, password_hash: str) -> Along:
        """See :meth:`AccountStore.replace_hash`."""

        def run(connection: Connection) -> None:
            connection.execute(
                "UPDATE personal_data SET password_hash = ? WHERE account_id = ?", (password_hash, account_id)
            )

        return run

    def erase(self, account_id: str) -> Along:
        """See :meth:`AccountStore.erase`."""

        def run(connection: Connection) -> None:
            connection.execute("DELETE FROM personal_data WHERE account_id = ?", (account_id,))
            connection.execute(ERASE_OF_ACCOUNT, (account_id,))
            connection.execute(_ERASE_EXECUTIONS, (account_id,))

        return run

    async def superseded_sessions(self) -> list[str]:
        """See :meth:`AccountStore.superseded_sessions`."""
        return [session_id for (session_id,) in await self._reader.rows(_SUPERSEDED)]


class SqliteExchangedTokens:
    """:class:`ExchangedTokenStore` in the log's database file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def ensure_new(self, token_hash: bytes) -> None:
        """See :meth:`ExchangedTokenStore.ensure_new`."""
        if await self._reader.rows("SELECT 1 FROM exchanged_tokens WHERE token_hash = ?", token_hash):
            raise CredentialInvalid(_USED)

    def use_up(self, token_hash: bytes, until_ms: int, now_ms: int) -> Along:
        """See :meth:`ExchangedTokenStore.use_up`."""

        def run(connection: Connection) -> None:
            connection.execute("DELETE FROM exchanged_tokens WHERE expires_at_ms <= ?", (now_ms,))
            insert = "INSERT INTO exchanged_tokens VALUES (?, ?) ON CONFLICT DO NOTHING"
            if not connection.execute(insert, (token_hash, until_ms)).rowcount:
                raise CredentialInvalid(_USED)

        return run


def read_personal_data(connection: Connection, account_ids: Collection[str]) -> list[PersonalData]:
    """Return what :meth:`AccountStore.of_accounts` describes."""
    places = ", ".join("?" * len(account_ids))
    query = f"SELECT {PERSONAL_COLUMNS} FROM personal_data WHERE account_id IN ({places})"  # noqa: S608  # placeholders
    return [_read(row) for row in connection.execute(query, [*account_ids])]


def read_by_email(connection: Connection, email: str) -> PersonalData | None:
    """Return what :meth:`AccountStore.by_email` describes."""
    return _BY_EMAIL.find(connection, [email])[0]


def personal_data(row: Sequence[Any]) -> PersonalData:
    """Return the data in a row of PERSONAL_COLUMNS.

    Raises:
        ValueError: the key is malformed.
    """
    account_id, key, *rest = row
    return PersonalData(account_id, base64.b64decode(key, validate=True), *rest)


def fault_of_personal_data(rows: Iterable[Sequence[Any]], accounts: Mapping[str, Account]) -> str | None:
    """Return what is wrong with the ``rows`` of PERSONAL_COLUMNS, or None. ``accounts`` are all that are not deleted, by id."""
    missing = dict(accounts)
    for row in rows:
        account_id = row[0]
        account = missing.pop(account_id, None)
        if account is None:
            return f"there is personal data of account {account_id}, which the log does not have, or has deleted"
        try:
            good = personal_data(row).is_of(account)
        except (ValueError, TypeError):
            good = False
        if not good:
            return f"the personal data of account {account_id} is not what its records are about"
    return f"the personal data of account {min(missing)} is missing" if missing else None


def _read(row: Sequence[Any]) -> PersonalData:
    try:
        return personal_data(row)
    except (ValueError, TypeError):
        raise not_what_was_recorded(row[0]) from None


def _owner(row: Sequence[Any]) -> Owner:
    account: Account = compared(ACCOUNT_MACHINE, row[_PERSONAL_WIDTH:])
    data = _read(row[:_PERSONAL_WIDTH])
    if not data.is_of(account):
        raise not_what_was_recorded(account.account_id)
    return Owner(account, data)


_BY_EMAIL: Final = Lookup("personal_data", PERSONAL_COLUMNS, "email", _read)
_BY_ID: Final = Lookup(_JOINED, _COLUMNS, "account_id", _owner)
