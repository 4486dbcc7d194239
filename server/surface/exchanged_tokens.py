"""Hashes of identity providers' tokens that were exchanged for a session. Each token can be exchanged once."""

from __future__ import annotations

from typing import Protocol

from interlock.server.surface.log import Along


class ExchangedTokenStore(Protocol):
    """The store of tokens, each kept until it is too old to exchange. Every implementation passes the same contract suite."""

    async def ensure_new(self, token_hash: bytes) -> None:
        """Check early that the token was not exchanged, so that a token sent repeatedly does not load the writer.

        Raises:
            CredentialInvalid: the token was exchanged.
        """
        ...

    def use_up(self, token_hash: bytes, until_ms: int, now_ms: int) -> Along:
        """Mark a token as exchanged in the transaction of a step. ``token_hash`` is the SHA-256 of the signed part, 32 bytes.

        ``until_ms`` is when the token becomes too old to be exchanged. Tokens that are too old at ``now_ms`` are deleted.

        Raises (when the step is written):
            CredentialInvalid: the token was exchanged before.
        """
        ...
