"""Reading our own signed texts (compact JWS, RFC 7515) more strictly than a library has to: there is one way to write one.

A library may take a text that others read differently, and what two readers understand differently is an attack (RFC 8725,
2.4 and 3.8 to 3.11): base64url with spare bits set, an object that names a member twice, a number as text, a header that
brings a key or says where to get one.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from typing import Any, Final, TypeVar

import msgspec

from interlock.server.guard.keys.keyset import ALGORITHM

T = TypeVar("T")

COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The only header there may be: no ``crit``, no ``jwk`` or ``x5c``, no ``jku`` or ``x5u`` (ASVS 9.1.3)."""

    alg: str
    kid: str
    typ: str


_header_decoder: Final = msgspec.json.Decoder(Header)


class Malformed(ValueError):
    """A text is none of ours; which rule it breaks is nobody's business."""


def take_apart(text: str, payload: msgspec.json.Decoder[T], *, typ: str, max_length: int) -> tuple[Header, T]:
    """The header and the payload of ``text``, whose signature is not looked at.

    Raises:
        Malformed: it is not in our form, of another algorithm than ours, or of another type than ``typ``.
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
    """The header that ``part`` encodes. All tokens of a key have the same.

    Raises:
        Malformed: it is not in our form.
    """
    return _read(part, _header_decoder)


def base64url(raw: bytes) -> str:
    """``raw`` in base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def canonical_bytes(part: str) -> bytes:
    """The bytes that ``part`` encodes, if there is no other way to write them (RFC 4648, 3.5).

    Raises:
        Malformed: there is, or it is not base64url.
    """
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise Malformed from None
    if base64url(raw) != part:
        raise Malformed
    return raw


def unambiguous_json(raw: bytes) -> Any:
    """What ``raw`` says to every reader: no object names a member twice (readers differ on which one counts: RFC 8259, 4).

    Raises:
        ValueError: one does, or ``raw`` is not JSON; ``NaN`` and ``Infinity`` are Python's, not JSON's.
        RecursionError: it is nested too deeply.
    """
    return _unambiguous.decode(raw.decode())


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _refuse_constant(_name: str) -> None:
    raise ValueError


_unambiguous: Final = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_refuse_constant)


def _read(part: str, decoder: msgspec.json.Decoder[T]) -> T:
    raw = canonical_bytes(part)
    try:
        value = decoder.decode(raw)
        unambiguous_json(raw)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, not of this shape, or nested for ever
        raise Malformed from None
    return value
