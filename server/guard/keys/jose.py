"""Strict parsing of this server's own compact JWS (RFC 7515): each has exactly one valid encoding.

Parser differences enable attacks (RFC 8725, 2.4 and 3.8 to 3.11), and libraries accept what others read differently:
base64url with non-zero spare bits, duplicate object members, a number as a string, a header that carries a key or its URL.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from typing import Final, TypeVar

import msgspec

from interlock.server.guard.keys.keyset import ALGORITHM
from interlock.strict_json import unambiguous_json

T = TypeVar("T")

COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The only header accepted: no ``crit``, no ``jwk`` or ``x5c``, no ``jku`` or ``x5u`` (ASVS 9.1.3)."""

    alg: str
    kid: str
    typ: str


_header_decoder: Final = msgspec.json.Decoder(Header)


class Malformed(ValueError):
    """The text is not one of this server's. The error does not say which rule it breaks."""


def take_apart(text: str, payload: msgspec.json.Decoder[T], *, typ: str, max_length: int) -> tuple[Header, T]:
    """Return the header and payload of ``text`` without verifying the signature.

    Raises:
        Malformed: the form, the algorithm or the type (``typ``) is wrong.
    """
    if len(text) > max_length or not COMPACT.match(text):
        raise Malformed
    header_part, payload_part, signature_part = text.split(".")
    canonical_bytes(signature_part)
    header = read_header(header_part)
    if header.alg != ALGORITHM or header.typ != typ:
        raise Malformed
    return header, _read(payload_part, payload)


@functools.lru_cache(maxsize=64)
def read_header(part: str) -> Header:
    """Return the header that ``part`` encodes. Cached, because all tokens of a key share one.

    Raises:
        Malformed: the form is wrong.
    """
    return _read(part, _header_decoder)


def base64url(raw: bytes) -> str:
    """Encode ``raw`` as base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def canonical_bytes(part: str) -> bytes:
    """Decode ``part``, which must be the canonical base64url encoding of its bytes (RFC 4648, 3.5).

    Raises:
        Malformed: it is not canonical, or not base64url.
    """
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise Malformed from None
    if base64url(raw) != part:
        raise Malformed
    return raw


def _read(part: str, decoder: msgspec.json.Decoder[T]) -> T:
    raw = canonical_bytes(part)
    try:
        value = decoder.decode(raw)
        unambiguous_json(raw)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, wrong shape, or nested too deeply
        raise Malformed from None
    return value
