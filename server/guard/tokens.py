"""Tokens as functions of the session. None is stored.

Access token: a JWT signed with ES256 (RFC 7519, RFC 9068's ``typ: at+jwt``), minutes long. It names the session, subject
and epoch it was made for, and is accepted only while the session is alive and at that epoch: the guard checks the token,
its caller the session.

Refresh token: ``<session id>.<epoch>.<rotation>.<MAC>``, where the MAC is HMAC-SHA-256 over the other three. The MAC is
checked before the session is looked up, so a made-up token never costs a read. A login raises the epoch, which voids every
older refresh token of the session: an attacker who planted or copied the anonymous one gains nothing (session fixation,
ASVS 7.2.4).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from typing import Final

import msgspec
from jwt.algorithms import ECAlgorithm
from msgspec import UNSET, UnsetType

from interlock.machine.errors import CredentialInvalid, KeysUnavailable, TokenExpired
from interlock.machine.session.session import Session
from interlock.server.clock import Clock
from interlock.server.guard.keys.jose import Header, Malformed, base64url, canonical_bytes, read_header, take_apart
from interlock.server.guard.keys.keyset import ALGORITHM, Keys
from interlock.server.ids import next_id
from interlock.server.system.newest import keep_newest

_TYPE: Final = "at+jwt"
_MAX_TOKEN_LENGTH: Final = 2048
_CACHE_LIMIT: Final = 16_384
_CLOCK_SKEW_S: Final = 60
"""How far the clock of another server with these keys may be ahead. ``exp`` is exact: a late client refreshes."""
_REFRESH_TOKEN: Final = re.compile(r"([0-9a-v]{36})\.(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})\.([A-Za-z0-9_-]{43})\Z")

_CONSOLE_TOKEN: Final = re.compile(r"([0-9a-v]{36})\.(0|[1-9][0-9]{0,15})\.([A-Za-z0-9_-]{43})\Z")


class Claims(msgspec.Struct, frozen=True):
    """The claims of an access token: all that RFC 9068, 2.2, requires.

    ``exp``, ``iat`` and ``nbf`` are whole seconds since the Unix epoch.

    ``client_id`` is the application that the token was made for. Clients are not registered for logins, so it equals the
    audience. This server writes no ``nbf`` but checks it. Other claims are ignored (RFC 7519, 4).
    """

    sid: str
    sub: str
    epoch: int
    iss: str
    aud: str
    client_id: str
    iat: int
    exp: int
    jti: str
    nbf: int | UnsetType = UNSET


class RefreshToken(msgspec.Struct, frozen=True):
    """The content of a refresh token."""

    session_id: str
    epoch: int
    rotation: int


_claims_decoder: Final = msgspec.json.Decoder(Claims)
_encode: Final = msgspec.json.Encoder().encode
_es256: Final = ECAlgorithm(ECAlgorithm.SHA256)
"""Not the library's ``encode`` and ``decode``: the rest of what they check is checked here, more strictly."""


class Tokens:
    """Issues and verifies tokens. While the keys are unusable, every call that needs one raises KeysUnavailable.

    ``lifetime_s``: how long an access token lives.
    """

    def __init__(self, keys: Keys, clock: Clock, *, issuer: str, audience: str, lifetime_s: int) -> None:
        self.lifetime_s = lifetime_s
        self._usable: Keys | None = keys
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        # Cache of verified signatures by exact text. It holds no state of the session.
        self._verified: dict[str, Claims] = {}

    def use(self, keys: Keys | None) -> None:
        """Use ``keys`` from now on. Tokens that only other keys verify become invalid at once.

        With None every call is refused until there are keys again.
        """
        self._usable = keys
        self._verified.clear()

    @property
    def usable(self) -> bool:
        """Whether tokens can be issued and verified now."""
        return self._usable is not None

    def ensure_usable(self) -> None:
        """Refuse while the keys are unusable.

        Raises:
            KeysUnavailable: no credential can be verified now.
        """
        if self._usable is None:
            raise KeysUnavailable

    @property
    def _keys(self) -> Keys:
        if self._usable is None:
            raise KeysUnavailable
        return self._usable

    def access_token(self, session: Session) -> str:
        """Return a new access token for the current state of ``session``."""
        now_s = self._clock.now_ms() // 1000
        claims = Claims(
            sid=session.session_id,
            sub=subject_of(session),
            epoch=session.epoch,
            iss=self._issuer,
            aud=self._audience,
            client_id=self._audience,
            iat=now_s,
            exp=now_s + self.lifetime_s,
            jti=next_id("at"),
        )
        signing = self._keys.signing
        signed = f"{_header(signing.kid)}.{base64url(_encode(claims))}"
        return f"{signed}.{base64url(_es256.sign(signed.encode(), signing.private))}"

    def check_access_token(self, token: str) -> Claims:
        """Verify signature, type, issuer, audience and expiry of ``token``, and return its claims.

        Raises:
            TokenExpired: it was valid.
            CredentialInvalid: it is not this server's, or malformed.
        """
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token)
            keep_newest(self._verified, token, claims, _CACHE_LIMIT)
        if self._clock.now_ms() >= claims.exp * 1000:
            self._verified.pop(token, None)
            expired = TokenExpired("the access token has expired")
            expired.session_id = claims.sid
            raise expired
        return claims

    def ensure_verifies(self, kid: str) -> None:
        """Refuse what an access token of the key ``kid`` opened or bought, once that key is gone.

        Raises:
            TokenExpired: the key is gone.
        """
        if kid not in self._keys.verifying:
            raise TokenExpired("the key of the access token was retired")

    def refresh_token(self, session: Session) -> str:
        """Return the session's newest refresh token. Hand it out only once: after the login or refresh that made it."""
        mac = _mac(self._keys.refresh_mac, session.session_id, session.epoch, session.rotation)
        return f"{session.session_id}.{session.epoch}.{session.rotation}.{mac}"

    def check_refresh_token(self, token: str) -> RefreshToken:
        """Verify the MAC of ``token`` and return its content. The session decides whether epoch and rotation are current.

        Raises:
            CredentialInvalid: it is not this server's, or malformed.
        """
        match = _REFRESH_TOKEN.match(token)
        if match is None:
            raise CredentialInvalid("not a refresh token")
        parsed = RefreshToken(match[1], int(match[2]), int(match[3]))
        expected = [_mac(key, parsed.session_id, parsed.epoch, parsed.rotation) for key in self._keys.refresh_macs]
        # Every key is tried, so that the time reveals nothing (ASVS 11.2.4).
        fits = [hmac.compare_digest(each, match[4]) for each in expected]
        if not any(fits):
            raise CredentialInvalid("not a refresh token of this server")
        return parsed

    def marker(self, session: Session) -> str:
        """Return the cookie value that shows that a browser received ``session`` at its epoch. It grants no access."""
        return f"{session.epoch}.{_marker(self._keys.refresh_mac, session.session_id, session.epoch)}"

    def check_marker(self, session_id: str, epoch: int, mac: str) -> bool:
        """Return whether ``mac`` is that of the session's marker of ``epoch``."""
        return any(hmac.compare_digest(_marker(key, session_id, epoch), mac) for key in self._keys.refresh_macs)

    def console_token(self, session: Session) -> str:
        """Return the cookie value that opens the console for ``session`` at its epoch. No other call accepts it."""
        mac = _console_mac(self._keys.refresh_mac, session.session_id, session.epoch)
        return f"{session.session_id}.{session.epoch}.{mac}"

    def check_console_token(self, token: str) -> tuple[str, int]:
        """Verify the MAC of ``token``, and return its session's id and the epoch that it was made for.

        Raises:
            CredentialInvalid: it is not this server's, or malformed.
        """
        match = _CONSOLE_TOKEN.match(token)
        if match is None:
            raise CredentialInvalid("not a token of the console")
        session_id, epoch = match[1], int(match[2])
        fits = [hmac.compare_digest(_console_mac(key, session_id, epoch), match[3]) for key in self._keys.refresh_macs]
        if not any(fits):
            raise CredentialInvalid("not a console token of this server")
        return session_id, epoch

    def _verify(self, token: str) -> Claims:
        try:
            header, claims = take_apart(token, _claims_decoder, typ=_TYPE, max_length=_MAX_TOKEN_LENGTH)
        except Malformed:
            raise CredentialInvalid("not an access token") from None
        key = self._keys.verifying.get(header.kid)
        if key is None:
            raise CredentialInvalid("not an access token of this server")
        signed, _, signature = token.rpartition(".")
        if (
            not _es256.verify(signed.encode(), key.public, canonical_bytes(signature))
            or claims.iss != self._issuer
            or claims.aud != self._audience
        ):
            raise CredentialInvalid("the access token's signature, issuer or audience is wrong")
        # Expiry is checked at every use; once valid, the other times stay valid.
        self._check_span(claims)
        return claims

    def _check_span(self, claims: Claims) -> None:
        """Check that the token is already valid, and no longer than this server's tokens may be (ASVS 9.2.1).

        The second check keeps an attacker who had a key for a moment from making a token that never expires.
        """
        latest_s = self._clock.now_ms() // 1000 + _CLOCK_SKEW_S
        if claims.iat > latest_s or (claims.nbf is not UNSET and claims.nbf > latest_s):
            raise CredentialInvalid("the access token is not valid yet")
        if claims.exp - claims.iat > self.lifetime_s:
            raise TokenExpired("the access token would live longer than this server's may")


def kid_of(token: str) -> str:
    """Return the key id of a verified access token."""
    return read_header(token.partition(".")[0]).kid


@functools.cache
def _header(kid: str) -> str:
    return base64url(_encode(Header(alg=ALGORITHM, kid=kid, typ=_TYPE)))


def subject_of(session: Session) -> str:
    """Return the ``sub`` of the session's tokens."""
    return session.subject or f"anonymous:{session.session_id}"


def _mac(key: bytes, session_id: str, epoch: int, rotation: int) -> str:
    message = f"interlock refresh v1\n{session_id}\n{epoch}\n{rotation}".encode()
    return base64url(hmac.digest(key, message, hashlib.sha256))


def _marker(key: bytes, session_id: str, epoch: int) -> str:
    return base64url(hmac.digest(key, f"interlock marker v1\n{session_id}\n{epoch}".encode(), hashlib.sha256))


def _console_mac(key: bytes, session_id: str, epoch: int) -> str:
    return base64url(hmac.digest(key, f"interlock console v1\n{session_id}\n{epoch}".encode(), hashlib.sha256))
