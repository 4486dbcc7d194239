"""Tokens as functions of the session. None is stored.

Access token: a JWT signed with ES256 (RFC 7519, RFC 9068's ``typ: at+jwt``), minutes long. It says which session, subject and
epoch it was made for, and opens something only while the session is alive and at that epoch: the guard checks the
token, its caller the session.

Refresh token: ``<session id>.<rotation>.<MAC>``, where the MAC is HMAC-SHA-256 over session id, epoch and rotation. The epoch
is inside the MAC and not in the text: a login makes every older refresh token of the session worthless, so whoever
planted or copied the anonymous one gets nothing (session fixation, ASVS 7.2.4).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

import jwt
import msgspec

from machine.errors import CredentialInvalid, TokenExpired
from machine.session import Session
from server.clock import Clock
from server.guard.keys import ALGORITHM, Keys
from server.ids import next_id

_TYPE: Final = "at+jwt"
_MAX_TOKEN_LENGTH: Final = 2048
_CACHE_LIMIT: Final = 16_384
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_REFRESH_TOKEN: Final = re.compile(r"([0-9a-v]{36})\.(0|[1-9][0-9]{0,15})\.([A-Za-z0-9_-]{43})\Z")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The only header an access token may have: no ``crit``, no key of its own, no address to fetch one from."""

    alg: str
    kid: str
    typ: str


class Claims(msgspec.Struct, frozen=True):
    """What an access token says. ``exp`` and ``iat`` in whole seconds since the Unix epoch."""

    sid: str
    sub: str
    epoch: int
    iss: str
    aud: str
    iat: int
    exp: int
    jti: str


class RefreshToken(msgspec.Struct, frozen=True):
    """A refresh token taken apart; ``mac`` is not yet checked."""

    session_id: str
    rotation: int
    mac: str


_header_decoder: Final = msgspec.json.Decoder(Header)
_claims_decoder: Final = msgspec.json.Decoder(Claims)


class Tokens:
    """Makes and checks tokens.

    ``lifetime_s``: how long an access token lives.
    """

    def __init__(self, keys: Keys, clock: Clock, *, issuer: str, audience: str, lifetime_s: int) -> None:
        self.lifetime_s = lifetime_s
        self._keys = keys
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        # A signature once checked need not be checked again: the exact text is the key, and nothing of the session is kept.
        self._verified: dict[str, Claims] = {}

    def access_token(self, session: Session) -> str:
        """A new access token for ``session`` as it stands."""
        now_s = self._clock.now_ms() // 1000
        claims = Claims(
            sid=session.session_id,
            sub=session.subject or f"anonymous:{session.session_id}",
            epoch=session.epoch,
            iss=self._issuer,
            aud=self._audience,
            iat=now_s,
            exp=now_s + self.lifetime_s,
            jti=next_id("at"),
        )
        signing = self._keys.signing
        return jwt.encode(
            msgspec.to_builtins(claims),
            signing.private,
            algorithm=ALGORITHM,
            headers={"kid": signing.kid, "typ": _TYPE},
        )

    def check_access_token(self, token: str) -> Claims:
        """The claims of ``token``, whose signature, type, issuer, audience and expiry hold.

        Raises:
            TokenExpired: it was good.
            CredentialInvalid: it is not one of ours, or not well formed.
        """
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token)
            if len(self._verified) >= _CACHE_LIMIT:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = claims
        if self._clock.now_ms() >= claims.exp * 1000:
            self._verified.pop(token, None)
            raise TokenExpired("the access token has expired")
        return claims

    def refresh_token(self, session: Session) -> str:
        """The session's current refresh token."""
        mac = self._mac(session.session_id, session.epoch, session.rotation)
        return f"{session.session_id}.{session.rotation}.{mac}"

    def parse_refresh_token(self, token: str) -> RefreshToken:
        """``token`` taken apart, nothing checked but its form.

        Raises:
            CredentialInvalid: it does not have the form.
        """
        match = _REFRESH_TOKEN.match(token)
        if match is None:
            raise CredentialInvalid("not a refresh token")
        return RefreshToken(match[1], int(match[2]), match[3])

    def check_refresh_token(self, token: RefreshToken, session: Session) -> None:
        """Check that ``token`` was issued for ``session`` at its current epoch; which rotation it is, the runtime judges.

        Raises:
            CredentialInvalid: it was not.
        """
        expected = self._mac(session.session_id, session.epoch, token.rotation)
        if token.session_id != session.session_id or not hmac.compare_digest(expected, token.mac):
            raise CredentialInvalid("the refresh token is not valid for this session")

    def _mac(self, session_id: str, epoch: int, rotation: int) -> str:
        message = f"interlock refresh v1\n{session_id}\n{epoch}\n{rotation}".encode()
        return _base64url(hmac.digest(self._keys.refresh_mac, message, hashlib.sha256))

    def _verify(self, token: str) -> Claims:
        if len(token) > _MAX_TOKEN_LENGTH or not _TOKEN.match(token):
            raise CredentialInvalid("not an access token")
        parts = [_canonical_bytes(part) for part in token.split(".")]
        try:
            header = _header_decoder.decode(parts[0])
            claims = _claims_decoder.decode(parts[1])
        except (ValueError, RecursionError):  # not UTF-8, not JSON, not of this shape, or nested for ever
            raise CredentialInvalid("not an access token") from None
        key = self._keys.verifying.get(header.kid)
        if header.alg != ALGORITHM or header.typ != _TYPE or key is None:
            raise CredentialInvalid("not an access token of this server")
        try:
            jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                # Expiry is checked at every use, against our clock; the signature once.
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidTokenError:
            raise CredentialInvalid("the access token's signature, issuer or audience is wrong") from None
        return claims


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _canonical_bytes(part: str) -> bytes:
    """The bytes that ``part`` encodes, if there is no other way to write them (RFC 4648, 3.5)."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise CredentialInvalid("not base64url") from None
    if _base64url(raw) != part:
        raise CredentialInvalid("not canonical base64url")
    return raw
