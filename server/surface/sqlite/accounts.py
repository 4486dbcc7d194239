"""Accounts in the log's own file, whose they are at an identity provider, and what administrators did to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

from interlock.machine.errors import AccountDisabled, AccountExists, CredentialInvalid, IdentityRefused, PasswordWrong
from interlock.server.surface.accounts import Account
from interlock.server.surface.audit import Act, AuditRecord
from interlock.server.surface.identities import Arrival
from interlock.server.surface.log import Along
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Lookup, Reader
from interlock.server.surface.sqlite.writer import Writer, raise_again

_COLUMNS: Final = "account_id, email, password_hash, created_at_ms, password_changed_at_ms, groups, disabled_at_ms"

_PAGE: Final = f"SELECT {_COLUMNS} FROM accounts WHERE account_id > ? ORDER BY account_id LIMIT ?"  # noqa: S608  # column names of ours
_DISABLED_WITH_SESSIONS: Final = (
    "SELECT account_id FROM accounts WHERE disabled_at_ms IS NOT NULL"
    " AND EXISTS (SELECT 1 FROM instances WHERE kind = 'session' AND owner = account_id AND ended = 0)"
)
_OF_OLD_PASSWORDS: Final = (
    "SELECT instance_id FROM instances CROSS JOIN accounts ON account_id = owner"
    # A login sets the absolute deadline. An account that still has its first password has no session of another.
    " WHERE kind = 'session' AND ended = 0 AND password_changed_at_ms > accounts.created_at_ms"
    " AND (fold ->> '$.absolute_deadline_ms') - (fold ->> '$.policy.absolute_timeout_ms') < password_changed_at_ms"
)
_STANDING: Final = "SELECT password_changed_at_ms, disabled_at_ms FROM accounts WHERE account_id = ?"

_USED: Final = "the ID token was already exchanged"
_AUDIT_COLUMNS: Final = "position, at_ms, actor, action, object, detail, address"
_INSERT_ACT: Final = (
    f"INSERT INTO audit ({_AUDIT_COLUMNS}) "  # noqa: S608  # column names of ours
    "VALUES ((SELECT coalesce(max(position), 0) + 1 FROM audit), ?, ?, ?, ?, ?, ?)"
)
_ACTS_AFTER: Final = f"SELECT {_AUDIT_COLUMNS} FROM audit WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608  # column names of ours

_groups_decoder: Final = msgspec.json.Decoder(tuple[str, ...])


class SqliteAccounts:
    """:class:`AccountStore` in the log's own file."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, account: Account) -> None:
        """See :meth:`AccountStore.add`."""

        def run(connection: Connection) -> None:
            connection.execute(
                f"INSERT INTO accounts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # column names of ours
                _row(account),
            )

        def diagnose(_connection: Connection, _error: Exception) -> None:
            raise AccountExists("an account with this email address exists")

        await self._writer.submit(run, diagnose, grows=True)

    async def by_email(self, email: str) -> Account | None:
        """See :meth:`AccountStore.by_email`."""
        return await self._reader.find(_BY_EMAIL, email)

    async def by_id(self, account_id: str) -> Account | None:
        """See :meth:`AccountStore.by_id`."""
        return await self._reader.find(_BY_ID, account_id)

    def still(self, account: Account) -> Along:
        """See :meth:`AccountStore.still`."""

        def run(connection: Connection) -> None:
            row = connection.execute(_STANDING, (account.account_id,)).fetchone()
            if row is not None and row[1] is not None:
                raise AccountDisabled("an administrator has disabled this account")
            if row is None or row[0] != account.password_changed_at_ms:
                raise CredentialInvalid("email or password is wrong")

        return run

    def new_password(self, account: Account, changed: Account) -> Along:
        """See :meth:`AccountStore.new_password`."""

        def run(connection: Connection) -> None:
            done = connection.execute(
                "UPDATE accounts SET password_hash = ?, password_changed_at_ms = ? WHERE account_id = ?"
                " AND password_hash IS NOT NULL AND password_changed_at_ms = ? AND disabled_at_ms IS NULL",
                (
                    changed.password_hash,
                    changed.password_changed_at_ms,
                    account.account_id,
                    account.password_changed_at_ms,
                ),
            )
            if not done.rowcount:
                raise PasswordWrong("the current password is wrong")

        return run

    async def sessions_of_old_passwords(self) -> list[str]:
        """See :meth:`AccountStore.sessions_of_old_passwords`."""
        return [session_id for (session_id,) in await self._reader.rows(_OF_OLD_PASSWORDS)]

    async def rehash(self, account_id: str, old_hash: str, new_hash: str) -> bool:
        """See :meth:`AccountStore.rehash`."""

        def run(connection: Connection) -> bool:
            changed = connection.execute(
                "UPDATE accounts SET password_hash = ? WHERE account_id = ? AND password_hash = ?",
                (new_hash, account_id, old_hash),
            )
            return bool(changed.rowcount)

        return await self._writer.submit(run, raise_again)

    async def page(self, after: str, limit: int) -> list[Account]:
        """See :meth:`AccountStore.page`."""
        return [_account(row) for row in await self._reader.rows(_PAGE, after, limit)]

    async def set_disabled(self, account_id: str, at_ms: int | None, act: Act) -> Account | None:
        """See :meth:`AccountStore.set_disabled`."""
        return await self._set(
            "disabled_at_ms = iif(?1 IS NULL, NULL, coalesce(disabled_at_ms, ?1))", at_ms, account_id, act
        )

    async def set_groups(self, account_id: str, groups: tuple[str, ...], act: Act) -> Account | None:
        """See :meth:`AccountStore.set_groups`."""
        return await self._set("groups = ?1", msgspec.json.encode(groups).decode(), account_id, act)

    async def disabled_with_sessions(self) -> list[str]:
        """See :meth:`AccountStore.disabled_with_sessions`."""
        return [account_id for (account_id,) in await self._reader.rows(_DISABLED_WITH_SESSIONS)]

    async def _set(self, what: str, value: Any, account_id: str, act: Act) -> Account | None:
        statement = f"UPDATE accounts SET {what} WHERE account_id = ?2 RETURNING {_COLUMNS}"  # noqa: S608  # text of ours

        def run(connection: Connection) -> Account | None:
            rows = connection.execute(statement, (value, account_id)).fetchall()
            if not rows:
                return None
            write_act(connection, act)
            return _account(rows[0])

        return await self._writer.submit(run, raise_again)


def _row(account: Account) -> tuple[Any, ...]:
    *fields, groups, disabled_at_ms = msgspec.structs.astuple(account)
    return (*fields, msgspec.json.encode(groups).decode(), disabled_at_ms)


def _account(row: Sequence[Any]) -> Account:
    account_id, email, password_hash, created_at_ms, changed_at_ms, groups, disabled_at_ms = row
    names = _groups_decoder.decode(groups)
    return Account(account_id, email, password_hash, created_at_ms, changed_at_ms, names, disabled_at_ms)


_BY_EMAIL: Final = Lookup("accounts", _COLUMNS, "email", _account)
_BY_ID: Final = Lookup("accounts", _COLUMNS, "account_id", _account)


class SqliteIdentities:
    """:class:`IdentityStore` in the log's own file."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def admit(self, arrival: Arrival, new_account: str | None, now_ms: int) -> str:
        """See :meth:`IdentityStore.admit`. A token that is sent again and again never reaches the writer."""
        if await self._reader.rows("SELECT 1 FROM exchanged_tokens WHERE token_hash = ?", arrival.token_hash):
            raise CredentialInvalid(_USED)
        return await self._writer.submit(lambda c: _admit(c, arrival, new_account, now_ms), _refuse_used, grows=True)


def _refuse_used(_connection: Connection, _error: Exception) -> NoReturn:
    raise CredentialInvalid(_USED)


def _admit(connection: Connection, arrival: Arrival, new_account: str | None, now_ms: int) -> str:
    connection.execute("DELETE FROM exchanged_tokens WHERE expires_at_ms <= ?", (now_ms,))
    connection.execute("INSERT INTO exchanged_tokens VALUES (?, ?)", (arrival.token_hash, arrival.token_until_ms))
    groups = None if arrival.groups is None else msgspec.json.encode(arrival.groups).decode()
    row = connection.execute(
        "SELECT account_id, disabled_at_ms FROM identities JOIN accounts USING (account_id) WHERE issuer = ? AND subject = ?",
        (arrival.issuer, arrival.subject),
    ).fetchone()
    if row is not None:
        account_id, disabled_at_ms = row
        if disabled_at_ms is not None:
            raise IdentityRefused("the account is disabled")
        connection.execute(
            "UPDATE accounts SET groups = ?1 WHERE account_id = ?2 AND ?1 IS NOT NULL AND groups <> ?1",
            (groups, account_id),
        )
        return str(account_id)
    if new_account is None:
        raise IdentityRefused("no account exists for this identity, and new accounts are not allowed")
    connection.execute(
        "INSERT INTO accounts (account_id, created_at_ms, password_changed_at_ms, groups) VALUES (?, ?, ?, ?)",
        (new_account, now_ms, now_ms, groups or "[]"),
    )
    connection.execute(
        "INSERT INTO identities VALUES (?, ?, ?, ?)", (arrival.issuer, arrival.subject, new_account, now_ms)
    )
    return new_account


class SqliteAudit:
    """:class:`AuditStore` in the log's own file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def after(self, position: int, limit: int) -> list[AuditRecord]:
        """See :meth:`AuditStore.after`."""
        return [_act_of(*row) for row in await self._reader.rows(_ACTS_AFTER, position, limit)]


def write_act(connection: Connection, act: Act) -> None:
    """Write ``act`` in the writer's open transaction."""
    detail = msgspec.json.encode(act.detail).decode()
    connection.execute(_INSERT_ACT, (act.at_ms, act.actor, act.action, act.object, detail, act.address))


def _act_of(position: int, at_ms: int, actor: str, action: str, *rest: Any) -> AuditRecord:
    about, detail, address = rest
    return AuditRecord(position, Act(at_ms, actor, action, about, msgspec.json.decode(detail), address))
