"""What may be asked of a secret: one data structure per declared event. Neither holds a secret."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

Purpose: TypeAlias = Literal["signing", "refresh", "admin", "client"]
"""What a secret is for: to sign tokens, to make refresh tokens, an administrator's, a registered program's."""

_FINGERPRINT_BYTES: Final = 16


class Add(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Begin a secret. The three fields together tell it from any other.

    ``fingerprint``: a signing key's public thumbprint (RFC 7638); of another secret a hash that helps nobody to guess it.
    """

    event: ClassVar[str] = "add"
    purpose: Purpose
    name: str
    fingerprint: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22,43}\Z")]


class Remove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End the secret."""

    event: ClassVar[str] = "remove"


Data: TypeAlias = Add | Remove


def added(purpose: Purpose, name: str, known: bytes) -> Add:
    """What is recorded of the secret ``name``, of which ``known`` (256 random bits, or their hash) is at hand."""
    digest = hashlib.sha256(b"interlock fingerprint v1\n" + known).digest()[:_FINGERPRINT_BYTES]
    # A name is a file's, which may hold bytes that are not UTF-8.
    readable = name.encode(errors="backslashreplace").decode()
    return Add(purpose, readable, base64.urlsafe_b64encode(digest).rstrip(b"=").decode())
