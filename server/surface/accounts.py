"""Accounts as they are stored: who may log in, and the hash of the password."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from interlock.machine.errors import AccountDisabled, AccountExists, CredentialInvalid, PasswordWrong
from interlock.server.surface.audit import Act, write_act
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

_groups_decoder: Final = msgspec.json.Decoder(tuple[str, ...])


class Account(msgspec.Struct, frozen=True):
    """One account. ``email`` is normalised; ``password_hash`` is an argon2id string with its own parameters and salt.

    Both are None where somebody else proves who its owner is. ``groups`` are names that other software is told;
    ``disabled_at_ms`` is when an administrator closed the account, or None.
    """

    account_id: str
    email: str | None
    password_hash: str | None
    created_at_ms: int
    password_changed_at_ms: int
    groups: tuple[str, ...] = ()
    disabled_at_ms: int | None = None


class AccountStore(Protocol):
    """Where accounts are kept. Every implementation passes the same contract suite."""

    async def add(self, account: Account) -> None:
        """Store a new account durably.

        Raises:
            AccountExists: the email address is taken; nothing changed.
        """
        ...

    async def by_email(self, email: str) -> Account | None:
        """The account with this normalised email address, or None."""
        ...

    async def by_id(self, account_id: str) -> Account | None:
        """The account with this id, or None."""
        ...

    def still(self, account: Account) -> Along:
        """Check, with a step, that the account is open and has the password that ``account`` has.

        Raises (with the step):
            AccountDisabled: an administrator has closed it.
            CredentialInvalid: the password was changed, or the account is gone.
        """
        ...

    def new_password(self, account: Account, changed: Account) -> Along:
        """Replace, with a step, the password that ``account`` has by the one that ``changed`` has.

        Each password has a time of its own: at least a millisecond after the one before.

        Raises (with the step):
            PasswordWrong: the password was replaced already, or the account is disabled.
        """
        ...

    async def sessions_of_old_passwords(self) -> list[str]:
        """The ids of the sessions that have not ended and whose last login was before the account's password was set."""
        ...

    async def rehash(self, account_id: str, old_hash: str, new_hash: str) -> bool:
        """Replace ``old_hash`` durably by another hash of the same password; False when it is no longer the account's."""
        ...

    async def page(self, after: str, limit: int) -> list[Account]:
        """At most ``limit`` accounts whose id comes after ``after``, in the order of the ids."""
        ...

    async def set_disabled(self, account_id: str, at_ms: int | None, act: Act) -> Account | None:
        """Close the account, or open it with an ``at_ms`` of None, and write ``act``, durably: both, or neither.

        The account as it is now; it keeps the time when it was closed first. None, and nothing written, when there is none.
        """
        ...

    async def set_groups(self, account_id: str, groups: tuple[str, ...], act: Act) -> Account | None:
        """Replace the account's groups and write ``act``, durably: both, or neither. None when there is no such account."""
        ...

    async def disabled_with_sessions(self) -> list[str]:
        """The ids of the disabled accounts that have sessions which have not ended."""
        ...


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
