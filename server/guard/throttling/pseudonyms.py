"""Keyed hashes of email addresses, for logs."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from interlock.server.guard.emails import fold_email

_BYTES: Final = 8


class Pseudonyms:
    """Computes a pseudonym per email address, which is meaningless without the key.

    ``key`` returns the refresh tokens' current MAC key. Pseudonyms outlive restarts and change when that key is rotated, so
    a stolen old key does not resolve the new ones. The hashed text can never be a token's. Users sometimes type a password
    as the address: without the key nobody can test guesses.
    """

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def of_email(self, email: str) -> str:
        """Return 16 hexadecimal digits for the account's address, equal for all its spellings."""
        text = f"interlock log name v1\n{fold_email(email)}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key(), text, hashlib.sha256)[:_BYTES].hex()
