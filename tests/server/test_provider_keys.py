"""The provider's keys: when they are fetched, what is refused, and how few requests an attacker can cause."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from interlock.machine.errors import IdentityProviderUnavailable, SettingsError
from interlock.server.clock import SystemClock
from interlock.server.guard.oidc import provider_keys
from interlock.server.guard.oidc.provider_keys import JwksCachePolicy, ProviderKey, ProviderKeys, usable_keys
from tests.support.asynchronous import asynchronous
from tests.support.clock import HandClock
from tests.support.hostile import DISCOVERY, KEYS, Hostile, hostile_provider
from tests.support.running import eventually

CACHE_POLICY = JwksCachePolicy(fresh_ms=600_000, stale_ms=3_600_000, retry_ms=10_000)
RSA = rsa.generate_private_key(65537, 2048)


@pytest.fixture
def provider() -> Iterator[Hostile]:
    with hostile_provider() as hostile:
        yield hostile


@asynccontextmanager
async def keys_of(provider: Hostile, clock: Any, jwks_uri: str = "") -> AsyncIterator[ProviderKeys]:
    keys = ProviderKeys(
        clock, issuer=provider.issuer, jwks_uri=jwks_uri, algorithms=("RS256", "ES256"), cache_policy=CACHE_POLICY
    )
    yield keys
    await keys.close()


@asynchronous
async def test_provider_keys_are_fetched_once_and_cached(provider: Hostile) -> None:
    async with keys_of(provider, clock := HandClock()) as keys:
        assert provider.asked == [], "a server starts without its provider"
        for _ in range(5):
            assert isinstance(await keys.find("rsa", "RS256"), jwt.PyJWK)
            assert isinstance(await keys.find("ec", "ES256"), jwt.PyJWK)
            clock.time_ms += 60_000
        assert provider.asked == [DISCOVERY, KEYS]
        clock.time_ms += 300_000
        await keys.find("rsa", "RS256")
        assert provider.asked == [DISCOVERY, KEYS] * 2, "after a while they are fetched anew"


@asynchronous
async def test_a_configured_jwks_uri_needs_no_discovery(provider: Hostile) -> None:
    async with keys_of(provider, HandClock(), provider.issuer + KEYS) as keys:
        assert await keys.find("rsa", "RS256") is not None
        assert provider.asked == [KEYS]


@pytest.mark.asvs("2.4.1")
@asynchronous
async def test_made_up_key_ids_cause_at_most_one_fetch_per_interval(provider: Hostile) -> None:
    async with keys_of(provider, clock := HandClock()) as keys:
        for _ in range(3):
            found = await asyncio.gather(*(keys.find(f"made-up-{n}", "RS256") for n in range(50)))
            assert found == [None] * 50
        assert provider.asked == [DISCOVERY, KEYS]
        clock.time_ms += 9_999
        assert await keys.find("made-up", "RS256") is None
        assert provider.asked == [DISCOVERY, KEYS]
        clock.time_ms += 1
        await asyncio.gather(*(keys.find(f"made-up-{n}", "RS256") for n in range(50)))
        assert provider.asked == [DISCOVERY, KEYS] * 2


@asynchronous
async def test_a_new_provider_key_is_found_and_a_withdrawn_one_dropped(provider: Hostile) -> None:
    async with keys_of(provider, clock := HandClock()) as keys:
        assert await keys.find("new", "ES256") is None
        provider.keys = {"new": provider.keys["ec"]}
        provider.publish()
        clock.time_ms += 10_000
        assert await keys.find("new", "ES256") is not None
        assert await keys.find("rsa", "RS256") is None


@pytest.mark.asvs("16.5.2")
@asynchronous
async def test_an_unreachable_providers_keys_are_used_for_a_limited_time(provider: Hostile) -> None:
    async with keys_of(provider, clock := HandClock()) as keys:
        assert await keys.find("rsa", "RS256") is not None
        provider.serve(KEYS, b"", 500)
        for _ in range(35):
            clock.time_ms += 100_000
            assert await keys.find("rsa", "RS256") is not None
            with pytest.raises(IdentityProviderUnavailable) as unavailable:
                await keys.find("unknown", "RS256")
            assert unavailable.value.retry_after_s == 10
        clock.time_ms += 99_999
        assert await keys.find("rsa", "RS256") is not None
        clock.time_ms += 1
        with pytest.raises(IdentityProviderUnavailable):
            await keys.find("rsa", "RS256")
        provider.publish()
        clock.time_ms += 10_000
        assert await keys.find("rsa", "RS256") is not None


ELSEWHERE = "http://127.0.0.1:1/keys"
SPOILED: dict[str, Callable[[Hostile], None]] = {
    "no discovery": lambda p: p.serve(DISCOVERY, b"", 404),
    "discovery of another issuer": lambda p: p.publish(issuer="https://another.example"),
    "discovery with another slash": lambda p: p.publish(issuer=p.issuer + "/"),
    "keys over plain HTTP from elsewhere": lambda p: p.publish(jwks_uri="http://198.51.100.7/keys"),
    "keys over plain HTTP from no loopback address": lambda p: p.publish(
        jwks_uri=p.issuer.replace("127.0.0.1", "0.0.0.0") + KEYS  # noqa: S104  # an address to request, not to listen on
    ),
    "keys in a file": lambda p: p.publish(jwks_uri="file:///etc/passwd"),
    "keys at no address": lambda p: p.publish(jwks_uri="https://["),
    "keys at nothing that is text": lambda p: p.serve(DISCOVERY, {"issuer": p.issuer, "jwks_uri": 1}),
    "discovery redirects": lambda p: p.move(DISCOVERY),
    "keys redirect": lambda p: p.move(KEYS),
    "garbage": lambda p: p.serve(KEYS, b"\xff\xfe{]"),
    "nested for ever": lambda p: p.serve(KEYS, b"[" * 200_000),
    "a list": lambda p: p.serve(KEYS, b"[]"),
    "no keys": lambda p: p.serve(KEYS, b'{"keys": {}}'),
    "huge": lambda p: p.serve(KEYS, b'{"keys": [' + b" " * 300_000 + b"]}"),
    "huge and not whole": lambda p: p.serve(KEYS, b" " * 300_000, 200, {"content-length": "10000000000"}),
    "compressed": lambda p: p.serve(KEYS, gzip.compress(p.answers[KEYS][2]), 200, {"content-encoding": "gzip"}),
    "nobody listens": lambda p: p.publish(jwks_uri=ELSEWHERE),
    "slow": lambda p: p.drip(0.05),
}


@pytest.mark.asvs("9.1.3")
@pytest.mark.parametrize("how", SPOILED)
@asynchronous
async def test_an_invalid_key_set_does_not_change_the_keys(
    provider: Hostile, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keys_of(provider, clock := HandClock()) as keys:
        assert await keys.find("rsa", "RS256") is not None
        SPOILED[how](provider)
        clock.time_ms += 600_000
        with monkeypatch.context() as patched:
            if how == "slow":
                patched.setattr(provider_keys, "_FETCH_S", 0.2)
            with pytest.raises(IdentityProviderUnavailable):
                await keys.find("unknown", "RS256")
        assert await keys.find("rsa", "RS256") is not None
        provider.drip(0)


@asynchronous
async def test_a_cancelled_caller_does_not_block_the_key_fetch(provider: Hostile) -> None:
    provider.drip(0.02)
    async with keys_of(provider, SystemClock()) as keys:
        gone = asyncio.create_task(keys.find("rsa", "RS256"))
        await eventually(lambda: provider.asked)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(IdentityProviderUnavailable):
            await keys.find("rsa", "RS256")


def _rsa(**changed: Any) -> dict[str, Any]:
    row = {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "1", **changed}
    return {name: value for name, value in row.items() if value is not None}


def _curve(curve: ec.EllipticCurve) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True), "kid": "1"}


def _bits(bits: int) -> dict[str, Any]:
    key = rsa.generate_private_key(65537, bits)
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "1"}


@pytest.mark.asvs("9.1.2", "11.2.3")
@pytest.mark.parametrize(
    "row",
    [
        "not an object",
        {},
        _rsa(kid=7),
        _rsa(kid=["1"]),
        _rsa(use="enc"),
        _rsa(key_ops=["sign"]),
        _rsa(key_ops="verify"),
        _rsa(alg="RS512"),
        _rsa(alg="HS256"),
        _rsa(n="!"),
        _rsa(n=None),
        _rsa(n=7),
        {**RSAAlgorithm.to_jwk(RSA, as_dict=True), "kid": "1", "key_ops": ["verify"]},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "1"},
        _curve(ec.SECP384R1()),
        _bits(1024),
    ],
)
def test_only_unsuitable_keys_are_left_out_of_a_key_set(row: Any) -> None:
    good = _rsa(kid="good")
    assert names(usable_keys({"keys": [row, good]}, ("RS256", "ES256"))) == [("good", "RS256")]


@asynchronous
async def test_of_two_keys_with_one_key_id_the_first_is_used(provider: Hostile) -> None:
    first, second = _bits(2048), _rsa()
    provider.publish(first, second)
    async with keys_of(provider, HandClock()) as keys:
        found = await keys.find("1", "RS256")
    assert found is not None
    assert found.key.public_numbers() == jwt.PyJWK(first).key.public_numbers()


def test_a_key_without_alg_is_used_with_fitting_allowed_algorithms() -> None:
    assert names(usable_keys({"keys": [_rsa()]}, ["RS256", "PS256", "ES256", "EdDSA"])) == [
        ("1", "RS256"),
        ("1", "PS256"),
    ]


NOTHING: Any = object()


@pytest.mark.parametrize("member", ["kid", "alg", "use", "key_ops", "crv"])
@pytest.mark.parametrize("written", [NOTHING, "", None], ids=["left out", "empty", "null"])
def test_optional_members_of_a_key_may_be_absent_empty_or_null(member: str, written: Any) -> None:
    row = _rsa(alg="RS256", use="sig", key_ops=["verify"]) | {member: written}
    row = {name: value for name, value in row.items() if value is not NOTHING}
    kid = None if member == "kid" else "1"
    assert names(usable_keys({"keys": [row], "extra": [1]}, ["RS256"])) == [(kid, "RS256")]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([_rsa()], True),
        ([_rsa(kid=None)], True),
        ([_rsa(kid=None), _curve(ec.SECP256R1())], True),
        ([_rsa(), _rsa(kid="2", use="enc")], True),
        ([_rsa(), {"kty": "of-next-year", "kid": "2"}], True),
        ([_rsa(), _bits(2048)], False),
        ([_rsa(kid=None), _bits(2048) | {"kid": ""}], False),
        ([_curve(ec.SECP256R1())], False),
    ],
)
@asynchronous
async def test_without_a_key_id_only_a_single_fitting_key_is_used(
    provider: Hostile, rows: list[Any], *, found: bool
) -> None:
    provider.publish(*rows)
    async with keys_of(provider, HandClock()) as keys:
        assert (await keys.find(None, "RS256") is not None) is found
        assert await keys.find("somebody's", "RS256") is None, "a key without a name has none"


@asynchronous
async def test_without_a_key_id_a_new_key_is_found_as_soon_as_with_one(provider: Hostile) -> None:
    provider.publish(_rsa(kid=None))
    async with keys_of(provider, clock := HandClock()) as keys:
        old = await keys.find(None, "RS256")
        assert await keys.find(None, "RS256", other_than=old) is old
        assert provider.asked == [DISCOVERY, KEYS], "only once in a while, however many signatures are forged"
        provider.publish(_bits(2048) | {"kid": None})
        clock.time_ms += 10_000
        new = await keys.find(None, "RS256", other_than=old)
        assert old is not None
        assert new is not None
        assert new.key.public_numbers() != old.key.public_numbers()


def names(keys: list[ProviderKey]) -> list[tuple[str | None, str]]:
    return [(key.kid, key.algorithm) for key in keys]


@pytest.mark.parametrize("issuer", ["http://id.example", "ftp://id.example", "id.example", "https://", "https://["])
def test_keys_are_fetched_over_https_or_from_this_machine_only(issuer: str) -> None:
    with pytest.raises(SettingsError, match="https://"):
        ProviderKeys(HandClock(), issuer=issuer, jwks_uri="", algorithms=["RS256"], cache_policy=CACHE_POLICY)
    with pytest.raises(SettingsError, match="https://"):
        ProviderKeys(
            HandClock(),
            issuer="https://id.example",
            jwks_uri="http://127.0.0.1/keys",
            algorithms=["RS256"],
            cache_policy=CACHE_POLICY,
        )


@asynchronous
async def test_a_large_key_set_does_not_block_other_requests(
    provider: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    others_go_on = threading.Event()

    def slow(document: dict[str, Any], algorithms: Iterable[str]) -> list[ProviderKey]:
        loop.call_soon_threadsafe(others_go_on.set)
        assert others_go_on.wait(30), "the event loop reads the key set itself"
        return usable_keys(document, algorithms)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(provider_keys, "usable_keys", slow)
    async with keys_of(provider, HandClock()) as keys:
        assert await keys.find("rsa", "RS256") is not None
