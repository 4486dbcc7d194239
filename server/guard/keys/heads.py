"""The signed head of the chain: a statement of where the log ended, which anybody with the public keys can check.

A compact JWS (RFC 7515) with ES256 and ``typ: interlock-head+jwt``. Its payload is ``position`` and ``digest`` (hex) of the
newest record, ``iat``, and ``final``: whether the server stopped after that record. A signature for access tokens can't be
passed off as one, nor the other way: the type differs.
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
    """What a head says: the newest record's place and digest, and when (seconds since the Unix epoch) it was signed.

    Of a log without records, 0 and 32 zero bytes.

    ``final``: the server stopped cleanly after this record, so the log ends there. Heads of older versions don't say.
    """

    position: int
    digest: str
    iat: int
    final: bool = False

    @property
    def receipt(self) -> Receipt:
        """The record it was signed for."""
        return Receipt(self.position, self.digest)


_head_decoder: Final = msgspec.json.Decoder(Head)


def sign_head(receipt: Receipt, key: SigningKey, now_ms: int, *, final: bool) -> str:
    """The head that says that the log holds the record of ``receipt`` and, if ``final``, ends there."""
    head = Head(receipt.position, receipt.digest, now_ms // 1000, final)
    headers = {"kid": key.kid, "typ": _TYPE}
    return jwt.encode(msgspec.to_builtins(head), key.private, algorithm=ALGORITHM, headers=headers)


def read_head(text: str) -> Head:
    """What ``text`` says; its signature is not looked at.

    Raises:
        HeadRefused: it is no head.
    """
    return _take_apart(text)[1]


def signer_of(text: str) -> str:
    """The kid of the key that ``text`` says it is signed by; the signature is not looked at.

    Raises:
        HeadRefused: it is no head.
    """
    return _take_apart(text)[0].kid


def check_head(text: str, public_keys: Mapping[str, Any]) -> Head:
    """What ``text`` says, if one of ``public_keys`` (by kid) says that it was signed.

    Raises:
        HeadRefused: it is no head, of a key that is not among them, or not what was signed.
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
