"""Somebody else proves who is calling: an OpenID Connect provider, by an ID token.

Only an ID token says that somebody has just proved who they are; an access token says what somebody may do, so it is not
taken (ASVS 9.2.2). What is checked is OpenID Connect Core 1.0, 3.1.3.7, and of the form what
:mod:`interlock.server.guard.tokens` checks of our own tokens. A token is exchanged once: it is a bearer token that other
programs have seen.

Providers write optional claims in many ways. A claim that no setting asks for refuses nobody, whatever is in it.
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
from interlock.server.guard.keys.jose import COMPACT, Malformed, canonical_bytes, unambiguous_json
from interlock.server.guard.oidc.provider_keys import Freshness, ProviderKeys
from interlock.server.settings import Settings

_log = structlog.get_logger("interlock.upstream")

_SKEW_S: Final = 60
_MS_PER_S: Final = 1000
_SENT_KEYS: Final = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
"""Header parameters that bring a key of their own, or change what the signature means (RFC 7515, 4.1; RFC 7797)."""


_LATEST_S: Final = 2**53

NumericDate: TypeAlias = Annotated[float, Meta(ge=0, le=_LATEST_S)]
"""Seconds since the Unix epoch, perhaps with a fraction (RFC 7519, 2)."""


class Header(msgspec.Struct, frozen=True):
    """What an ID token's header says.

    ``typ`` is left out by many, and JWT otherwise (RFC 7519, 5.1). ``kid`` may be left out by a provider with one key
    (OpenID Connect Core 1.0, 10.1).
    """

    alg: str
    kid: str | None = None
    typ: str | None = "JWT"


class Claims(msgspec.Struct, frozen=True):
    """What an ID token says.

    ``typ`` and ``token_use`` are how Keycloak and Cognito tell ID tokens from access tokens; ``events`` is in logout tokens
    only (OpenID Connect Back-Channel Logout 1.0, 2.4). ``auth_time``, ``acr`` and ``nonce`` may be anything as long as nobody
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
        """When the login was, in seconds since the Unix epoch; None if the provider does not say it as a number."""
        said = self.auth_time
        # Compared and not asked whether it is finite: a whole number may be too large for a float.
        known = isinstance(said, int | float) and not isinstance(said, bool) and -math.inf < said < math.inf
        return float(min(max(said, 0), _LATEST_S)) if known else None


class Arrival(msgspec.Struct, frozen=True):
    """Somebody for whom an identity provider vouches with a token.

    ``subject`` is what the provider ``issuer`` calls them, for ever and nobody else. ``groups`` replace those of the account;
    None leaves them. ``token_hash``: SHA-256 of what was signed, 32 bytes; from ``token_until_ms`` on the token is too old.
    ``proved_at_ms``: when they proved to the provider who they are, None if it does not say.
    """

    issuer: str
    subject: str
    groups: tuple[str, ...] | None
    token_hash: bytes
    token_until_ms: int
    proved_at_ms: int | None = None


class IdTokens:
    """Checks ID tokens of the provider that the settings name.

    Raises:
        SettingsError: the settings name a provider and not all that is needed to trust it.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._keys: ProviderKeys | None = None
        if settings.upstream_issuer:
            if not settings.upstream_audiences or not settings.upstream_algorithms:
                raise SettingsError("upstream_issuer needs upstream_audiences and upstream_algorithms")
            self._keys = ProviderKeys(
                clock,
                issuer=settings.upstream_issuer,
                jwks_uri=settings.upstream_jwks_uri,
                algorithms=settings.upstream_algorithms,
                freshness=Freshness(
                    round(settings.upstream_keys_s * _MS_PER_S),
                    round(settings.upstream_stale_s * _MS_PER_S),
                    round(settings.upstream_retry_s * _MS_PER_S),
                ),
            )

    async def check(self, token: str, nonce: str | None) -> Arrival:
        """Who ``token`` says has arrived. ``nonce`` is what the client asked the provider with, if it sent one.

        Raises:
            CredentialInvalid: it is no good, or no good here and now.
            UpstreamUnavailable: the provider's keys can't be had.
        """
        if self._keys is None:
            raise CredentialInvalid("no identity provider is configured")
        if not COMPACT.match(token):
            raise CredentialInvalid("not an ID token")
        header_text, payload_text, signature_text = token.split(".")
        header = _convert(header_members := _members(header_text), Header)
        _check_canonical(signature_text)
        # Every claim is looked at before a key is asked for: a token of somebody else costs the provider nothing.
        members = _members(payload_text)
        claims = _convert(members, Claims)
        if header.alg not in self._settings.upstream_algorithms:
            raise CredentialInvalid("ID token rejected: its signature algorithm is not in `upstream_algorithms`")
        if (header.typ or "JWT").upper() != "JWT" or _SENT_KEYS & header_members.keys():
            raise CredentialInvalid("not an ID token")
        until_s = self._check_claims(claims, nonce)
        groups = self._groups(members)
        await self._check_signature(token, header, self._keys)
        if groups is None and self._settings.upstream_groups_claim:
            _log.warning("upstream.groups_left_out", claim=self._settings.upstream_groups_claim)
        return Arrival(
            issuer=claims.iss,
            subject=claims.sub,
            groups=groups,
            proved_at_ms=None if claims.auth_time_s is None else _ms(claims.auth_time_s),
            # Without the signature: some algorithms let anybody make a second good signature out of the first.
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
            CredentialInvalid: it did not, with none of its keys.
            UpstreamUnavailable: the provider's keys can't be had.
        """
        kid, key = header.kid or None, None
        # Without a name a signature by a new key can't be told from a forged one before the provider is asked again.
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
        """Check what the token says of itself; the second from which it is too old to be exchanged."""
        settings = self._settings
        now_s = self._clock.now_ms() / _MS_PER_S
        auth_time_s = claims.auth_time_s
        audiences = {claims.aud} if isinstance(claims.aud, str) else set(claims.aud)
        until_s = min(claims.exp, claims.iat + settings.upstream_token_age_s)
        faults = {
            "wrong issuer": claims.iss != settings.upstream_issuer,
            "wrong audience": not audiences <= set(settings.upstream_audiences),
            "issued to another client (azp)": claims.azp not in {None, *settings.upstream_audiences},
            "not an ID token, but another kind of token": claims.events is not None,
            "expired, or issued too long ago": now_s >= until_s,
            "not valid yet": max(claims.iat, claims.nbf or 0, auth_time_s or 0) > now_s + _SKEW_S,
            # Some write an empty nonce where there was none.
            "wrong nonce": (claims.nonce or None) != (nonce or None),
            "the login is too old, or auth_time is missing": bool(settings.upstream_auth_age_s)
            and (auth_time_s is None or now_s > auth_time_s + settings.upstream_auth_age_s),
            "the login is too weak (acr)": bool(settings.upstream_acr) and claims.acr not in settings.upstream_acr,
        }
        for fault, found in faults.items():
            if found:
                raise CredentialInvalid(f"ID token rejected: {fault}")
        return until_s

    def _groups(self, members: dict[str, Any]) -> tuple[str, ...] | None:
        """The names in the groups claim; no claim is no group.

        None when no claim is asked for, or when the token says that the groups are too many to be listed in it.
        """
        name = self._settings.upstream_groups_claim
        if not name:
            return None
        groups = members.get(name)
        if not groups and _kept_elsewhere(members, name):
            return None
        if groups is None or groups == "":
            groups = []
        elif isinstance(groups, str):
            groups = [groups]  # AD FS writes a single one so
        elif isinstance(groups, dict):
            groups = list(groups)  # Zitadel writes roles as the names of members
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise CredentialInvalid("the groups claim is not a list of names")
        try:
            return named(groups)
        except GroupsRefused as refused:
            # Not without those that can't be told: an application may refuse whoever is in one of them.
            raise CredentialInvalid(f"groups claim rejected: {refused}") from None


def _kept_elsewhere(members: dict[str, Any], name: str) -> bool:
    """Whether the token says that claim ``name`` is left out of it and has to be asked for somewhere else.

    Distributed claims (OpenID Connect Core 1.0, 5.6.2), and the ``hasgroups`` of Entra ID: both are written there when somebody
    is in very many groups.
    """
    elsewhere = members.get("_claim_names")
    return (isinstance(elsewhere, dict) and name in elsewhere) or (
        name == "groups" and (members.get("hasgroups") is True or members.get("hasgroups") == "true")
    )


def _signed_with(key: jwt.PyJWK, token: str) -> bool:
    # The library's algorithm, and not its ``decode``: what this checks of the form is checked already.
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
    """The JSON object in ``part``, no member of which, however deep, is named twice."""
    try:
        value = unambiguous_json(canonical_bytes(part))
    except (ValueError, RecursionError):  # not base64url, not UTF-8, not JSON, or nested for ever
        raise CredentialInvalid("not an ID token") from None
    if not isinstance(value, dict):
        raise CredentialInvalid("not an ID token")
    return value
