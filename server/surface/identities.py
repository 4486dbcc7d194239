"""Identities as they are stored: which account belongs to whom at an identity provider, and which tokens were exchanged."""

from __future__ import annotations

from typing import Final, NoReturn, Protocol

import msgspec

from interlock.machine.errors import CredentialInvalid, IdentityRefused
from interlock.server.surface.sqlite.engine import Connection
from interlock.server.surface.sqlite.reader import Reader
from interlock.server.surface.sqlite.writer import Writer

_USED: Final = "the ID token was already exchanged"


class Arrival(msgspec.Struct, frozen=True):
    """Somebody for whom an identity provider vouches with a token.

    ``subject`` is what the provider ``issuer`` calls them, for ever and nobody else. ``groups`` replace those of the account;
    None leaves them. ``token_hash``: SHA-256 of what was signed, 32 bytes; from ``token_until_ms`` on the token is too old.
    """

    issuer: str
    subject: str
    groups: tuple[str, ...] | None
    token_hash: bytes
    token_until_ms: int
    proved_at_ms: int | None = None


class IdentityStore(Protocol):
    """Where identities are kept. Every implementation passes the same contract suite."""

    async def admit(self, arrival: Arrival, new_account: str | None, now_ms: int) -> str:
        """The id of the account of ``arrival``, found or made, with its groups; uses the token up.

        Durably, and all of it or nothing.

        ``new_account`` is the id that a new account gets; None makes none. An account is only ever found by issuer and
        subject.

        Raises:
            CredentialInvalid: the token was used up before; nothing changed.
            IdentityRefused: there is no account and none is to be made, or it is disabled; nothing changed.
        """
        ...


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
        raise IdentityRefused("nobody is registered for this identity, and registration is closed")
    connection.execute(
        "INSERT INTO accounts (account_id, created_at_ms, password_changed_at_ms, groups) VALUES (?, ?, ?, ?)",
        (new_account, now_ms, now_ms, groups or "[]"),
    )
    connection.execute(
        "INSERT INTO identities VALUES (?, ?, ?, ?)", (arrival.issuer, arrival.subject, new_account, now_ms)
    )
    return new_account
