"""Identities as they are stored: which account belongs to whom at an identity provider, and which tokens were exchanged."""

from __future__ import annotations

from typing import Protocol

import msgspec


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
