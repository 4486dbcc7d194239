"""The signed head of the log: a statement of where the log ended, verifiable with the public keys.

A compact JWS (RFC 7515) with ES256 and ``typ: interlock-head+jwt``. The payload holds ``position`` and ``digest`` (hex) of
the newest record, ``iat``, and ``final``: whether the server stopped after that record. The type keeps a head and an access
token from being mistaken for each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import jwt
import msgspec

from interlock.machine.errors import HeadRefused, InterlockError
from interlock.machine.ledger import EMPTY, Receipt
from interlock.server.guard.keys.jose import Header, Malformed, take_apart
from interlock.server.guard.keys.keyset import ALGORITHM, SigningKey

_TYPE: Final = "interlock-head+jwt"
_MAX_LENGTH: Final = 1024


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The payload of a head: position and digest of the newest record, and ``iat``, when it was signed.

    For an empty log these are 0 and 32 zero bytes. ``iat`` is in seconds since the Unix epoch.

    ``final``: the server stopped cleanly after this record, so the log ends there. Heads of older versions lack it.
    """

    position: int
    digest: str
    iat: int
    final: bool = False

    @property
    def receipt(self) -> Receipt:
        """The record that the head was signed for."""
        return Receipt(self.position, self.digest)


_head_decoder: Final = msgspec.json.Decoder(Head)


def sign_head(receipt: Receipt, key: SigningKey, now_ms: int, *, final: bool) -> str:
    """Return a signed head: the log holds the record of ``receipt`` and, if ``final``, ends there."""
    head = Head(receipt.position, receipt.digest, now_ms // 1000, final)
    headers = {"kid": key.kid, "typ": _TYPE}
    return jwt.encode(msgspec.to_builtins(head), key.private, algorithm=ALGORITHM, headers=headers)


def read_head(text: str) -> Head:
    """Return the payload of ``text`` without verifying the signature.

    Raises:
        HeadRefused: it is not a head.
    """
    return _take_apart(text)[1]


def signer_of(text: str) -> str:
    """Return the ``kid`` in the header of ``text`` without verifying the signature.

    Raises:
        HeadRefused: it is not a head.
    """
    return _take_apart(text)[0].kid


def check_head(text: str, public_keys: Mapping[str, Any]) -> Head:
    """Return the payload of ``text``, verified with ``public_keys`` (by kid).

    Raises:
        HeadRefused: it is not a head, its key is not among them, or the signature is wrong.
    """
    header, head = _take_apart(text)
    public = public_keys.get(header.kid)
    if public is None:
        raise HeadRefused("it is signed by an unknown key")
    try:
        jwt.decode(text, public, algorithms=[ALGORITHM], options={"verify_iat": False})
    except jwt.InvalidTokenError:
        raise HeadRefused("its signature is wrong") from None
    return head


def _take_apart(text: str) -> tuple[Header, Head]:
    try:
        header, head = take_apart(text, _head_decoder, typ=_TYPE, max_length=_MAX_LENGTH)
        if head.receipt != EMPTY:
            Receipt.parse(str(head.receipt))
    except (Malformed, InterlockError):
        raise HeadRefused("it is not a signed head") from None
    return header, head
