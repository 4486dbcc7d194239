"""Identity providers' tokens that were exchanged for a session, as they are stored: each is good once."""

from __future__ import annotations

from typing import Protocol

from interlock.server.surface.log import Along


class ExchangedTokenStore(Protocol):
    """Where they are kept until they are too old to be exchanged. Every implementation passes the same contract suite."""

    async def ensure_new(self, token_hash: bytes) -> None:
        """Look whether the token was exchanged: a courtesy, so that one that is sent again and again never reaches the writer.

        Raises:
            CredentialInvalid: it was.
        """
        ...

    def use_up(self, token_hash: bytes, until_ms: int, now_ms: int) -> Along:
        """Use a token up, with a step. ``token_hash``: SHA-256 of what was signed, 32 bytes.

        ``until_ms``: when it is too old to be exchanged. What is so at ``now_ms`` is forgotten.

        Raises (with the step):
            CredentialInvalid: it was used up before.
        """
        ...
