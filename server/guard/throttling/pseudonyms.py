"""Names for what must not be named: an email address in a log."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from interlock.server.guard.emails import fold_email

_BYTES: Final = 8


class Pseudonyms:
    """Keyed hashes of email addresses: the same for the same address, and of no use to whoever does not have the key.

    ``key`` tells the refresh tokens' MAC key of the moment, so that names stay the same over restarts, until that key is
    rotated: who had a stolen one can't tell who the new names are. What is hashed can't be a token's text.
    Somebody may have typed a password where the address belongs: without the key nobody can try whether it is one.
    """

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def of_email(self, email: str) -> str:
        """16 hexadecimal digits for the account's address, in whichever form it is written."""
        text = f"interlock log name v1\n{fold_email(email)}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key(), text, hashlib.sha256)[:_BYTES].hex()
