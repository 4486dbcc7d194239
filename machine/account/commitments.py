"""Keyed commitments: what records hold of an account's personal data, which itself stays outside of them.

Each account has a random key, which lies beside its personal data and is erased with it. With the key anybody can check that
the data is what was recorded. Without it, so from the log alone or after the account's deletion, nobody can test a guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

KEY_BYTES: Final = 32

Commitment: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
"""HMAC-SHA-256 (RFC 2104) under the account's key, as base64url without padding."""

Committed: TypeAlias = Literal["email", "password_hash", "identity"]
"""What there are commitments to."""


def commit(key: bytes, what: Committed, *values: str) -> Commitment:
    """The commitment to ``values``, which are ``what`` of the account that has ``key`` (32 bytes)."""
    message = b"".join(b"%d:%s" % (len(text), text) for text in (each.encode() for each in (what, *values)))
    return base64.urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).rstrip(b"=").decode()
