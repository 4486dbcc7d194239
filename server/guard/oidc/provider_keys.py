"""The public keys of the identity provider: fetched, validated and cached.

Fetches use HTTPS (plain HTTP only on this machine), have limits of time and size, and follow no redirect. An unknown
``kid`` causes a fetch, at most once per retry interval, so that made-up ones can't turn this server against the provider.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Final

import httpx
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from interlock.machine.errors import IdentityProviderUnavailable, SettingsError
from interlock.server.clock import Clock
from interlock.server.outgoing.client import TooLong, read_at_most
from interlock.server.outgoing.destinations import on_this_machine, scheme_and_host

_log = structlog.get_logger("interlock.oidc")

_FETCH_S: Final = 5.0
_MAX_BYTES: Final = 256 * 1024
_HTTP_OK: Final = 200
_MS_PER_S: Final = 1000

_FITTING: Final = {
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The key type (RFC 7518, 6.1, and RFC 8037, 2) for each algorithm."""

_RSA_BITS: Final = range(2048, 8193)
"""RFC 7518, 3.3, requires 2048; above 8192, verification is too expensive."""


class ProviderKey(msgspec.Struct, frozen=True):
    """A key of the provider, for one algorithm. ``kid``: its key id, if it has one."""

    kid: str | None
    algorithm: str
    key: jwt.PyJWK


class _Unusable(Exception):
    """The provider did not answer, or the answer is not a key set."""


class JwksCachePolicy(msgspec.Struct, frozen=True):
    """When keys are fetched, in milliseconds.

    Keys are fetched again after ``fresh_ms``; if that fails, they are used until ``stale_ms`` after their fetch. Attempts
    are at least ``retry_ms`` apart.
    """

    fresh_ms: int
    stale_ms: int
    retry_ms: int


class ProviderKeys:
    """The keys of one provider.

    ``jwks_uri``: their address; if empty, the provider's discovery document supplies it (OpenID Connect Discovery 1.0, 4).

    Raises:
        SettingsError: keys may not be fetched from one of the addresses.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        issuer: str,
        jwks_uri: str,
        algorithms: Iterable[str],
        cache_policy: JwksCachePolicy,
    ) -> None:
        self._clock = clock
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._algorithms = tuple(algorithms)
        self._fresh_ms, self._stale_ms, self._retry_ms = msgspec.structs.astuple(cache_policy)
        self._local = on_this_machine(issuer)
        if not self._allowed(issuer) or (jwks_uri and not self._allowed(jwks_uri)):
            raise SettingsError("oidc_issuer and oidc_jwks_uri: https:// is needed, or http:// on loopback")
        # A proxy from the environment is for outgoing traffic, not for this machine.
        self._http = httpx.AsyncClient(timeout=_FETCH_S, follow_redirects=False, trust_env=not self._local)
        self._turn = asyncio.Lock()
        self._keys: list[ProviderKey] = []
        self._fetched_at_ms: int | None = None
        self._tried_at_ms: int | None = None
        self._failed = True

    async def find(self, kid: str | None, algorithm: str, *, other_than: jwt.PyJWK | None = None) -> jwt.PyJWK | None:
        """Return the provider's key with this ``kid`` for this algorithm; None if there is none.

        Without a ``kid``, return the only key for this algorithm; None if there are several (OpenID Connect Core 1.0,
        10.1). ``other_than``: a key that did not verify, so the provider is asked for a newer one.

        Raises:
            IdentityProviderUnavailable: the provider's current keys are unknown.
        """
        key = self._known(kid, algorithm)
        if key is None or key is other_than or self._older_than(self._fresh_ms):
            await self._refresh()
            key = self._known(kid, algorithm)
        if self._older_than(self._stale_ms) or (key is None and self._failed):
            raise IdentityProviderUnavailable(-(-self._retry_ms // _MS_PER_S))
        return key

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._http.aclose()

    def _known(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [each for each in self._keys if each.algorithm == algorithm and kid in {None, each.kid}]
        return fitting[0].key if len(fitting) == 1 or (fitting and kid is not None) else None

    def _older_than(self, limit_ms: int) -> bool:
        return self._fetched_at_ms is None or self._clock.now_ms() >= self._fetched_at_ms + limit_ms

    async def _refresh(self) -> None:
        """Fetch the keys, unless there was an attempt within the retry interval. Concurrent callers share one attempt."""
        async with self._turn:
            now_ms = self._clock.now_ms()
            if self._tried_at_ms is not None and now_ms < self._tried_at_ms + self._retry_ms:
                return
            self._tried_at_ms = now_ms
            self._failed = True
            try:
                async with asyncio.timeout(_FETCH_S):
                    uri = self._jwks_uri or await self._discover()
                    document = await self._get(uri)
                    # In a thread: a set of thousands of keys takes a while. A RuntimeError means that no thread can start.
                    keys = await asyncio.to_thread(usable_keys, document, self._algorithms)
            except (_Unusable, httpx.HTTPError, httpx.InvalidURL, TimeoutError, RuntimeError) as error:
                _log.warning("oidc.keys_unavailable", because=str(error) or type(error).__name__)
                return
            self._keys, self._fetched_at_ms, self._failed = keys, now_ms, False
            _log.info("oidc.keys_fetched", keys=sorted({each.kid or "" for each in keys}))

    async def _discover(self) -> str:
        document = await self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        uri = document.get("jwks_uri")
        # Discovery 1.0, 4.3: the issuer must match exactly, or one provider could speak for another.
        if document.get("issuer") != self._issuer or not isinstance(uri, str) or not self._allowed(uri):
            raise _Unusable("the discovery document is of another issuer, or names no address that keys may come from")
        return uri

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._http.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
            if answer.status_code != _HTTP_OK:
                raise _Unusable(f"the provider answered {answer.status_code}")
            try:
                body = await read_at_most(answer, _MAX_BYTES)
            except TooLong:
                raise _Unusable(f"the provider's answer is longer than {_MAX_BYTES} bytes") from None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise _Unusable("the provider's answer is not JSON") from None
        if not isinstance(document, dict):
            raise _Unusable("the provider's answer is not a JSON object")
        return document

    def _allowed(self, url: str) -> bool:
        """Return whether ``url`` is HTTPS, or plain HTTP on this machine if the issuer is local, so none can send us inside."""
        scheme, host = scheme_and_host(url)
        return bool(host) and (scheme == "https" or (scheme == "http" and self._local and on_this_machine(url)))


def usable_keys(document: dict[str, Any], algorithms: Iterable[str]) -> list[ProviderKey]:
    """Return the keys of a JWK Set (RFC 7517) that may verify signatures, once per algorithm.

    Keys of another use, for an algorithm not in ``algorithms``, too short or private are left out.

    Raises:
        _Unusable: it is not a JWK Set.
    """
    rows = document.get("keys")
    if not isinstance(rows, list):
        raise _Unusable("the provider's key set holds no keys")
    found = (_key(row, algorithm) for algorithm in algorithms for row in rows if isinstance(row, dict))
    return [key for key in found if key is not None]


def _key(row: dict[str, Any], algorithm: str) -> ProviderKey | None:
    # Some providers write absent members as null or an empty string.
    row = {name: value for name, value in row.items() if value not in (None, "")}
    kid, operations = row.get("kid"), row.get("key_ops", ["verify"])
    good = (
        isinstance(kid, str | None)
        and (row.get("kty"), row.get("crv")) == _FITTING[algorithm]
        and row.get("alg", algorithm) == algorithm
        and row.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and "d" not in row
    )
    if not good:
        return None
    try:
        key = jwt.PyJWK(row, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size not in _RSA_BITS:
        return None
    return ProviderKey(kid, algorithm, key)
