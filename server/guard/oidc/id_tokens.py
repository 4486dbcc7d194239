"""Login with an OpenID Connect provider, by an ID token.

Only ID tokens are accepted: they say that a user has just authenticated, and an access token says what its holder may do
(ASVS 9.2.2). The claims are checked by OpenID Connect Core 1.0, 3.1.3.7, and the form as in
:mod:`interlock.server.guard.tokens`. Each token is accepted once, because it is a bearer token that other programs have
seen.

Providers write optional claims in many ways. A claim that no setting asks for never causes a refusal.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Final, Literal, TypeAlias

import jwt
import msgspec
import structlog
from msgspec import Meta

from interlock.machine.errors import CredentialInvalid, GroupsRefused, SettingsError
from interlock.server.clock import Clock
from interlock.server.guard.groups import named
from interlock.server.guard.keys.jose import COMPACT, Malformed, canonical_bytes
from interlock.server.guard.oidc.provider_keys import JwksCachePolicy, ProviderKeys
from interlock.server.settings import Settings
from interlock.strict_json import unambiguous_json

_log = structlog.get_logger("interlock.oidc")

_SKEW_S: Final = 60
_MS_PER_S: Final = 1000
_SENT_KEYS: Final = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
"""Header parameters that carry a key, or change what the signature means (RFC 7515, 4.1; RFC 7797)."""


_LATEST_S: Final = 2**53

NumericDate: TypeAlias = Annotated[float, Meta(ge=0, le=_LATEST_S)]
"""Seconds since the Unix epoch, possibly with a fraction (RFC 7519, 2)."""


class Header(msgspec.Struct, frozen=True):
    """The header of an ID token.

    Many providers omit ``typ``; otherwise it is JWT (RFC 7519, 5.1). A provider with one key may omit ``kid`` (OpenID
    Connect Core 1.0, 10.1).
    """

    alg: str
    kid: str | None = None
    typ: str | None = "JWT"


class Claims(msgspec.Struct, frozen=True):
    """The claims of an ID token.

    Keycloak and Cognito mark ID tokens with ``typ`` and ``token_use``; only logout tokens have ``events`` (OpenID Connect
    Back-Channel Logout 1.0, 2.4). ``auth_time``, ``acr`` and ``nonce`` may hold anything unless a setting or the client
    asks for them.
    """

    iss: str
    sub: Annotated[str, Meta(pattern=r"^[ -~]{1,255}\Z")]
    aud: str | Annotated[list[str], Meta(min_length=1)]
    exp: NumericDate
    iat: NumericDate
    nbf: NumericDate | None = None
    auth_time: Any = None
    nonce: Any = None
    azp: str | None = None
    acr: Any = None
    typ: Literal["ID"] | None = None
    token_use: Literal["id"] | None = None
    events: Any = None

    @property
    def auth_time_s(self) -> float | None:
        """The time of the login, in seconds since the Unix epoch; None if the provider sends no number."""
        said = self.auth_time
        # A comparison instead of `isfinite`: an integer may be too large for a float.
        known = isinstance(said, int | float) and not isinstance(said, bool) and -math.inf < said < math.inf
        return float(min(max(said, 0), _LATEST_S)) if known else None


class VerifiedIdentity(msgspec.Struct, frozen=True):
    """A user whose ID token was verified.

    ``subject`` is the provider's permanent identifier of the user, unique within ``issuer``. ``groups`` replace those of
    the account; None keeps them. ``token_hash``: SHA-256 of the signed part, 32 bytes; from ``token_until_ms`` on the token
    is too old. ``auth_time_ms``: when the user authenticated at the provider, None if unknown.
    """

    issuer: str
    subject: str
    groups: tuple[str, ...] | None
    token_hash: bytes
    token_until_ms: int
    auth_time_ms: int | None = None


class IdTokens:
    """Verifies ID tokens of the configured provider.

    Raises:
        SettingsError: the settings name a provider but lack what is needed to trust it.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._keys: ProviderKeys | None = None
        if settings.oidc_issuer:
            if not settings.oidc_audiences or not settings.oidc_algorithms:
                raise SettingsError("oidc_issuer needs oidc_audiences and oidc_algorithms")
            self._keys = ProviderKeys(
                clock,
                issuer=settings.oidc_issuer,
                jwks_uri=settings.oidc_jwks_uri,
                algorithms=settings.oidc_algorithms,
                cache_policy=JwksCachePolicy(
                    round(settings.oidc_keys_s * _MS_PER_S),
                    round(settings.oidc_stale_s * _MS_PER_S),
                    round(settings.oidc_retry_s * _MS_PER_S),
                ),
            )

    async def check(self, token: str, nonce: str | None) -> VerifiedIdentity:
        """Verify ``token`` and return its user. ``nonce``: the one of the client's authentication request, if any.

        Raises:
            CredentialInvalid: the token is invalid, or not valid here and now.
            IdentityProviderUnavailable: the provider's keys can't be fetched.
        """
        if self._keys is None:
            raise CredentialInvalid("no identity provider is configured")
        if not COMPACT.match(token):
            raise CredentialInvalid("not an ID token")
        header_text, payload_text, signature_text = token.split(".")
        header = _convert(header_members := _members(header_text), Header)
        _check_canonical(signature_text)
        # Check every claim before fetching keys: a foreign token must not cause requests to the provider.
        members = _members(payload_text)
        claims = _convert(members, Claims)
        if header.alg not in self._settings.oidc_algorithms:
            raise CredentialInvalid("ID token rejected: its signature algorithm is not in `oidc_algorithms`")
        if (header.typ or "JWT").upper() != "JWT" or _SENT_KEYS & header_members.keys():
            raise CredentialInvalid("not an ID token")
        until_s = self._check_claims(claims, nonce)
        groups = self._groups(members)
        await self._check_signature(token, header, self._keys)
        if groups is None and self._settings.oidc_groups_claim:
            _log.warning("oidc.groups_left_out", claim=self._settings.oidc_groups_claim)
        return VerifiedIdentity(
            issuer=claims.iss,
            subject=claims.sub,
            groups=groups,
            auth_time_ms=None if claims.auth_time_s is None else _ms(claims.auth_time_s),
            # Without the signature: some algorithms let anybody derive a second valid one from the first.
            token_hash=hashlib.sha256(f"{header_text}.{payload_text}".encode()).digest(),
            token_until_ms=_ms(until_s),
        )

    async def close(self) -> None:
        """Close the connections to the provider."""
        if self._keys is not None:
            await self._keys.close()

    async def _check_signature(self, token: str, header: Header, keys: ProviderKeys) -> None:
        """Check that the provider signed ``token``.

        Raises:
            CredentialInvalid: no key of the provider verifies it.
            IdentityProviderUnavailable: the provider's keys can't be fetched.
        """
        kid, key = header.kid or None, None
        # Without a key id, only a new fetch can tell a signature by a new key from a forged one.
        for _ in range(1 if kid else 2):
            key = await keys.find(kid, header.alg, other_than=key)
            if key is not None and _signed_with(key, token):
                return
        if key is not None:
            raise CredentialInvalid("ID token rejected: wrong signature")
        if kid is not None:
            raise CredentialInvalid("ID token rejected: the provider has no key with its key id")
        raise CredentialInvalid(
            "ID token rejected: it has no key id, and the provider has no key or several keys that fit"
        )

    def _check_claims(self, claims: Claims, nonce: str | None) -> float:
        """Check the claims. Return the second from which the token is too old to be exchanged."""
        settings = self._settings
        now_s = self._clock.now_ms() / _MS_PER_S
        auth_time_s = claims.auth_time_s
        audiences = {claims.aud} if isinstance(claims.aud, str) else set(claims.aud)
        until_s = min(claims.exp, claims.iat + settings.oidc_token_age_s)
        faults = {
            "wrong issuer": claims.iss != settings.oidc_issuer,
            "wrong audience": not audiences <= set(settings.oidc_audiences),
            "issued to another client (azp)": claims.azp not in {None, *settings.oidc_audiences},
            "not an ID token, but another kind of token": claims.events is not None,
            "expired, or issued too long ago": now_s >= until_s,
            "not valid yet": max(claims.iat, claims.nbf or 0, auth_time_s or 0) > now_s + _SKEW_S,
            # Some providers send an empty nonce where the request had none.
            "wrong nonce": (claims.nonce or None) != (nonce or None),
            "the login is too old, or auth_time is missing": bool(settings.oidc_auth_age_s)
            and (auth_time_s is None or now_s > auth_time_s + settings.oidc_auth_age_s),
            "the login is too weak (acr)": bool(settings.oidc_acr) and claims.acr not in settings.oidc_acr,
        }
        for fault, found in faults.items():
            if found:
                raise CredentialInvalid(f"ID token rejected: {fault}")
        return until_s

    def _groups(self, members: dict[str, Any]) -> tuple[str, ...] | None:
        """Return the names in the groups claim; a missing claim means no groups.

        Return None if no claim is configured, or if the token says that there are too many groups to list.
        """
        name = self._settings.oidc_groups_claim
        if not name:
            return None
        groups = members.get(name)
        if not groups and _kept_elsewhere(members, name):
            return None
        if groups is None or groups == "":
            groups = []
        elif isinstance(groups, str):
            groups = [groups]  # AD FS writes a single group like this
        elif isinstance(groups, dict):
            groups = list(groups)  # Zitadel writes roles as member names
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise CredentialInvalid("the groups claim is not a list of names")
        try:
            return named(groups)
        except GroupsRefused as refused:
            # Refuse the token instead of dropping groups: an application may deny access by a group.
            raise CredentialInvalid(f"groups claim rejected: {refused}") from None


def _kept_elsewhere(members: dict[str, Any], name: str) -> bool:
    """Return whether the token says that claim ``name`` was left out and must be fetched elsewhere.

    Providers do so for users in very many groups: with distributed claims (OpenID Connect Core 1.0, 5.6.2), or with Entra
    ID's ``hasgroups``.
    """
    elsewhere = members.get("_claim_names")
    return (isinstance(elsewhere, dict) and name in elsewhere) or (
        name == "groups" and (members.get("hasgroups") is True or members.get("hasgroups") == "true")
    )


def _signed_with(key: jwt.PyJWK, token: str) -> bool:
    # Not the library's ``decode``: everything else that it checks has been checked here.
    signed, _, signature = token.rpartition(".")
    return key.Algorithm.verify(signed.encode(), key.key, canonical_bytes(signature))


def _ms(seconds: float) -> int:
    return int(seconds * _MS_PER_S)


def _convert(members: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError:
        raise CredentialInvalid("ID token rejected: a claim or header is missing or has the wrong type") from None


def _check_canonical(part: str) -> None:
    try:
        canonical_bytes(part)
    except Malformed:
        raise CredentialInvalid("not canonical base64url") from None


def _members(part: str) -> dict[str, Any]:
    """Decode a JSON object without duplicate members at any depth."""
    try:
        value = unambiguous_json(canonical_bytes(part))
    except (ValueError, RecursionError):  # not base64url, not UTF-8, not JSON, or nested too deeply
        raise CredentialInvalid("not an ID token") from None
    if not isinstance(value, dict):
        raise CredentialInvalid("not an ID token")
    return value
