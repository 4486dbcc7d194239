"""The data of a secret's commands: one structure per declared event. None contains a secret."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

Purpose: TypeAlias = Literal["signing", "refresh", "admin", "client", "subscriber", "webhook", "realm"]
"""What a secret is for: signing tokens, the MACs of refresh tokens, an administrator, client, subscriber, webhook or realm."""

_FINGERPRINT_BYTES: Final = 16


class Add(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Add a secret. The fields together identify it.

    ``fingerprint``: the public thumbprint of a signing key (RFC 7638), or a hash of another secret. The secrets are 256
    random bits, so the hash doesn't help to guess one. ``scopes``: the records that its holder learns of, for a
    subscriber or a webhook.
    """

    event: ClassVar[str] = "add"
    purpose: Purpose
    name: str
    fingerprint: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22,43}\Z")]
    scopes: tuple[str, ...] = ()

    @property
    def actor(self) -> str:
        """The actor in records of what its holder does. No account has this name: account ids begin with ``acc_``."""
        return f"{self.purpose}:{self.name}"


class Remove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Remove the secret."""

    event: ClassVar[str] = "remove"


Data: TypeAlias = Add | Remove


def added(purpose: Purpose, name: str, known: bytes, scopes: tuple[str, ...] = ()) -> Add:
    """Return the data that records the secret ``name``. ``known`` is the secret (256 random bits), or a hash of it."""
    digest = hashlib.sha256(b"interlock fingerprint v1\n" + known).digest()[:_FINGERPRINT_BYTES]
    # The name comes from a file name, which may not be UTF-8.
    readable = name.encode(errors="backslashreplace").decode()
    return Add(purpose, readable, base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), scopes)
