"""Keyed commitments: the form in which records refer to data of an account that is stored outside the log.

This is its personal data and reset code, and the parameters, results and errors of its executions. Each account and each
execution has a random key, stored beside its data and erased with it. Anyone with the key can check that the data is what was
recorded. Without the key (from the log alone, or after the account's deletion) a guess can't be tested.
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

Committed: TypeAlias = Literal["email", "password_hash", "identity", "reset_code", "parameters", "result", "error"]
"""The values that commitments are made to."""


def commit(key: bytes, what: Committed, *values: str) -> Commitment:
    """Return the commitment to ``values``, the ``what`` of the account or execution whose key (32 bytes) is ``key``."""
    message = b"".join(b"%d:%s" % (len(text), text) for text in (each.encode() for each in (what, *values)))
    return base64.urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).rstrip(b"=").decode()
