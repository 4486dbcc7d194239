"""Attacks on the exchange, over a real server: provider and key are honest, the token is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from jwt.algorithms import RSAAlgorithm

from interlock.machine.errors import CredentialInvalid, SettingsError
from interlock.server.clock import SystemClock
from interlock.server.guard.oidc.id_tokens import IdTokens
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, new_email
from tests.support.hostile import AUDIENCE, DISCOVERY, KEYS, Hostile, hostile_provider
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

SETTINGS: dict[str, Any] = {
    "oidc_audiences": f"{AUDIENCE},the-mobile-one",
    "oidc_algorithms": "RS256,ES256,EdDSA",
    "oidc_auth_age_s": 600,
    "oidc_acr": "gold,silver",
    "oidc_retry_s": 3600,
}


@pytest.fixture(scope="module")
def gate(provider: Hostile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("attacked") / "data"
    with running_server(folder, oidc_issuer=provider.issuer, **SETTINGS) as process:
        yield process


def good(provider: Hostile, **claims: Any) -> dict[str, Any]:
    """Return valid claims, changed by ``claims``.

    Times are relative to now: a test may run long after its file was imported.
    """
    made = {name: value() if callable(value) else value for name, value in claims.items()}
    return provider.claims(**{"auth_time": int(time.time()), "acr": "silver", **made})


def after_s(seconds: float) -> Callable[[], float]:
    """A time this long after now, evaluated on use."""
    return lambda: int(time.time()) + seconds


def signed(
    provider: Hostile,
    claims: dict[str, Any],
    headers: dict[str, Any] | None = None,
    kid: str = "rsa",
    alg: str = "RS256",
) -> str:
    return jwt.encode(claims, provider.keys[kid], algorithm=alg, headers={"kid": kid, **(headers or {})})


def exchange(gate: ServerProcess, token: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{gate.url}/api/auth/exchange", json={"id_token": token, **more}, timeout=60)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw_token(provider: Hostile, header: bytes, payload: bytes) -> str:
    """Return a token with a valid signature over any content."""
    text = f"{b64(header)}.{b64(payload)}"
    signature = provider.keys["rsa"].sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{b64(signature)}"


def assert_refused(gate: ServerProcess, token: str) -> str:
    """Check that the token is refused and nothing changed. Return the logged reason."""
    before = stored(gate.data)
    answer = exchange(gate, token)
    assert answer.status_code == 401, answer.text
    assert answer.json()["type"] == "urn:interlock:problem:credential-invalid"
    assert stored(gate.data) == before
    return str(answer.json()["detail"])


GOOD: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "for a list with us alone": {"aud": [AUDIENCE]},
    "for two of ours": {"aud": [AUDIENCE, "the-mobile-one"], "azp": "the-mobile-one"},
    "another strength that is asked for": {"acr": "gold"},
    "a clock that is ahead": {"iat": after_s(30), "nbf": after_s(30)},
    "said to be an ID token": {"typ": "ID", "token_use": "id"},
    "claims nobody knows": {"https://example.org/claim": {"a": [None, 1.5]}},
    "many groups": {"groups": [f"group {n}" for n in range(200)]},
}


@pytest.mark.parametrize("changed", GOOD.values(), ids=GOOD)
def test_a_valid_id_token_is_accepted(gate: ServerProcess, provider: Hostile, changed: dict[str, Any]) -> None:
    assert exchange(gate, signed(provider, good(provider, **changed))).status_code == 200


@pytest.mark.asvs("11.2.2")
@pytest.mark.parametrize(("kid", "alg"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")])
def test_each_allowed_algorithm_is_accepted(gate: ServerProcess, provider: Hostile, kid: str, alg: str) -> None:
    assert exchange(gate, signed(provider, good(provider), kid=kid, alg=alg)).status_code == 200


# Each with a word of its refusal, so that no other reason passes.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"iss": "https://another.example"}, "wrong issuer"),
    "an issuer with another slash": ({"iss": "http://127.0.0.1/"}, "wrong issuer"),
    "no issuer": ({"iss": None}, "missing"),
    "an issuer that is a list": ({"iss": ["x"]}, "wrong type"),
    "another audience": ({"aud": "somebody-else"}, "wrong audience"),
    "ours and a foreign audience": ({"aud": [AUDIENCE, "somebody-else"]}, "wrong audience"),
    "no audience": ({"aud": None}, "missing"),
    "an empty list of audiences": ({"aud": []}, "wrong type"),
    "issued to another client": ({"azp": "somebody-else"}, "another client"),
    "expired by a second": ({"exp": after_s(-1)}, "expired"),
    "issued long ago": ({"iat": after_s(-3600)}, "too long ago"),
    "no expiry": ({"exp": None}, "missing"),
    "no time of issue": ({"iat": None}, "missing"),
    "an expiry that is text": ({"exp": lambda: str(int(time.time()) + 300)}, "wrong type"),
    "an expiry that is true": ({"exp": True}, "wrong type"),
    "an expiry without end": ({"exp": 1e300}, "wrong type"),
    "an expiry before all time": ({"exp": -1}, "wrong type"),
    "not valid yet": ({"nbf": after_s(3600)}, "not valid yet"),
    "issued in the future": ({"iat": after_s(3600)}, "not valid yet"),
    "a login in the future": ({"auth_time": after_s(3600)}, "not valid yet"),
    "a login long ago": ({"auth_time": after_s(-86_400)}, "login is too old"),
    "a login nobody knows when": ({"auth_time": None}, "auth_time is missing"),
    "a weaker login": ({"acr": "bronze"}, "too weak"),
    "a login of unknown strength": ({"acr": None}, "too weak"),
    "a nonce that was not given": ({"nonce": "n-1"}, "nonce"),
    "no subject": ({"sub": None}, "missing"),
    "an empty subject": ({"sub": ""}, "wrong type"),
    "a subject too long": ({"sub": "x" * 256}, "wrong type"),
    "a subject with a line end": ({"sub": "ada\n"}, "wrong type"),
    "a subject that is no text": ({"sub": "\ud800"}, "wrong type"),
    "a subject that is a number": ({"sub": 7}, "wrong type"),
    "an access token of Keycloak's": ({"typ": "Bearer"}, "wrong type"),
    "an access token of Cognito's": ({"token_use": "access"}, "wrong type"),
    "a logout token": ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "another kind"),
    "groups that are a number": ({"groups": 7}, "groups"),
    "groups that are text with a comma": ({"groups": "x,admins"}, "groups"),
    "groups that are members, one with a comma": ({"groups": {"x,admins": {}}}, "groups"),
    "groups that are null": ({"groups": [None]}, "groups"),
    "a group with a comma": ({"groups": ["x,admins"]}, "groups"),
    "a group with a line end": ({"groups": ["x\r\nRemote-User: root"]}, "groups"),
    "a group without a name": ({"groups": [""]}, "groups"),
    "a group too long": ({"groups": ["x" * 2049]}, "groups"),
    "too many groups": ({"groups": [f"group {n}" for n in range(256)]}, "groups"),
}


@pytest.mark.asvs("9.2.1", "9.2.2", "9.2.3", "10.3.1", "10.3.4", "7.6.1")
@pytest.mark.parametrize(("changed", "because"), BAD.values(), ids=BAD)
def test_an_id_token_with_a_wrong_claim_is_refused(
    gate: ServerProcess, provider: Hostile, changed: dict[str, Any], because: str
) -> None:
    claims = {name: value for name, value in good(provider, **changed).items() if value is not None}
    token = raw_token(provider, json.dumps(HEADER).encode(), json.dumps(claims).encode())
    assert because in assert_refused(gate, token)


def _with_header(provider: Hostile, header: dict[str, Any]) -> str:
    return raw_token(provider, json.dumps(header).encode(), json.dumps(good(provider)).encode())


def _with_payload(provider: Hostile, payload: bytes) -> str:
    return raw_token(provider, json.dumps(HEADER).encode(), payload)


def _mac(provider: Hostile, key: bytes) -> str:
    """Confuse the algorithm: a MAC whose key is public."""
    text = f"{b64(json.dumps({**HEADER, 'alg': 'HS256'}).encode())}.{b64(json.dumps(good(provider)).encode())}"
    return f"{text}.{b64(hmac.digest(key, text.encode(), hashlib.sha256))}"


def _public(provider: Hostile, encoding: serialization.Encoding) -> bytes:
    key: bytes = (
        provider.keys["rsa"].public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return key


def _by_a_stranger(provider: Hostile, **headers: Any) -> str:
    """Sign with an attacker's key, which the token embeds or links to."""
    key = rsa.generate_private_key(65537, 2048)
    brought = {"jwk": RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)} if headers.pop("bring", False) else {}
    return jwt.encode(good(provider), key, algorithm="RS256", headers={"kid": "rsa", **brought, **headers})


def _part(token: str, which: int, change: Callable[[str], str]) -> str:
    parts = token.split(".")
    parts[which] = change(parts[which])
    return ".".join(parts)


def _spare_bit(part: str) -> str:
    """Write the same bytes another way: the last character of a 256-byte signature has four spare bits."""
    return part[:-1] + ALPHABET[ALPHABET.index(part[-1]) + 1]


HEADER = {"alg": "RS256", "kid": "rsa", "typ": "JWT"}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CLAIM = b'{"iss":"x",'

FORGED: dict[str, Callable[[Hostile], str]] = {
    "no algorithm": lambda p: _with_header(p, {**HEADER, "alg": "none"}),
    "no algorithm and no signature": lambda p: _part(_with_header(p, {**HEADER, "alg": "none"}), 2, lambda _: ""),
    "a MAC with the public key as PEM": lambda p: _mac(p, _public(p, serialization.Encoding.PEM)),
    "a MAC with the public key as DER": lambda p: _mac(p, _public(p, serialization.Encoding.DER)),
    "a MAC with the key set": lambda p: _mac(p, p.answers[KEYS][2]),
    "a MAC with nothing": lambda p: _mac(p, b""),
    "an algorithm that is not allowed, of a good key": lambda p: signed(p, good(p), alg="RS512"),
    "another algorithm that is not allowed": lambda p: signed(p, good(p), alg="PS256"),
    "another key's name": lambda p: signed(p, good(p), {"kid": "ec"}),
    "another algorithm's name": lambda p: _with_header(p, {**HEADER, "alg": "EdDSA"}),
    "another algorithm's name, of a key that has it": lambda p: _with_header(
        p, {**HEADER, "alg": "ES256", "kid": "ec"}
    ),
    "an algorithm in small letters": lambda p: _with_header(p, {**HEADER, "alg": "rs256"}),
    "a list of algorithms": lambda p: _with_header(p, {**HEADER, "alg": ["RS256"]}),
    "no kid, and a stranger's key": lambda p: _by_a_stranger(p, kid=""),
    "no kid, and a key for another algorithm": lambda p: _with_header(p, {"alg": "EdDSA", "typ": "JWT"}),
    "a kid that is a path": lambda p: _with_header(p, {**HEADER, "kid": "../../../../dev/null"}),
    "a kid that is an address": lambda p: _with_header(p, {**HEADER, "kid": f"{p.issuer}/evil"}),
    "a kid that is SQL": lambda p: _with_header(p, {**HEADER, "kid": "' UNION SELECT 'key"}),
    "a kid that is a list": lambda p: _with_header(p, {**HEADER, "kid": ["rsa"]}),
    "a stranger's key under a known name": _by_a_stranger,
    "a key brought along": lambda p: _by_a_stranger(p, bring=True),
    "a key at an address": lambda p: _by_a_stranger(p, jku=f"{p.issuer}/evil"),
    "a good key, and one brought along": lambda p: signed(p, good(p), {"jwk": {"kty": "oct", "k": "AA"}}),
    "a good key, and one at an address": lambda p: signed(p, good(p), {"jku": f"{p.issuer}{KEYS}"}),
    "a good key, and a certificate at an address": lambda p: signed(p, good(p), {"x5u": f"{p.issuer}/evil"}),
    "a good key, and a certificate": lambda p: signed(p, good(p), {"x5c": ["AA"]}),
    "an extension that has to be understood": lambda p: _with_header(p, {**HEADER, "crit": ["exp"]}),
    "a payload that is not encoded": lambda p: _with_header(p, {**HEADER, "b64": False}),
    "an access token": lambda p: signed(p, good(p), {"typ": "at+jwt"}),
    "a logout token": lambda p: signed(p, good(p), {"typ": "logout+jwt"}),
    "a type that is a number": lambda p: _with_header(p, {**HEADER, "typ": 1}),
    "a header that is a list": lambda p: raw_token(p, b"[]", json.dumps(good(p)).encode()),
    "a header that names a thing twice": lambda p: raw_token(
        p, b'{"alg":"RS256","kid":"x","kid":"rsa"}', json.dumps(good(p)).encode()
    ),
    "claims that name a thing twice": lambda p: _with_payload(p, CLAIM + json.dumps(good(p)).encode()[1:]),
    "claims that name a thing twice deep inside": lambda p: _with_payload(
        p, b'{"a":{"b":1,"b":2},' + json.dumps(good(p)).encode()[1:]
    ),
    "claims that are not JSON": lambda p: _with_payload(p, b"{"),
    "claims that are not a JSON object": lambda p: _with_payload(p, b"7"),
    "claims that hold what JSON has not": lambda p: _with_payload(p, b'{"a":NaN,' + json.dumps(good(p)).encode()[1:]),
    "claims that are not text": lambda p: _with_payload(p, b"\xff" + json.dumps(good(p)).encode()),
    "claims nested for ever": lambda p: _with_payload(p, b'{"a":' + b"[" * 9_000),
    "a number without end": lambda p: _with_payload(p, b'{"exp":' + b"9" * 6_000 + b"}"),
    "claims changed after they were signed": lambda p: _part(
        signed(p, good(p)), 1, lambda _: b64(json.dumps(good(p)).encode())
    ),
    "a signature of another token": lambda p: _part(
        signed(p, good(p)), 2, lambda _: signed(p, good(p)).rpartition(".")[2]
    ),
    "a signature cut short": lambda p: _part(signed(p, good(p)), 2, lambda part: part[:-4]),
    "a signature written another way": lambda p: _part(signed(p, good(p)), 2, _spare_bit),
    "a signature with its padding": lambda p: signed(p, good(p)) + "==",
    "a signature one character too long": lambda p: _part(signed(p, good(p)), 2, lambda part: part + "AAA"),
    "a line end behind it": lambda p: signed(p, good(p)) + "\n",
    "a fourth part": lambda p: signed(p, good(p)) + ".AA",
    "encrypted": lambda _: "AA.AA.AA.AA.AA",
    "nothing": lambda _: "",
    "not ASCII": lambda p: "é" + signed(p, good(p)),
    "an older way to encode": lambda p: signed(p, good(p)).replace("-", "+").replace("_", "/") + "/",
}


@pytest.mark.asvs("9.1.1", "9.1.2", "9.1.3", "9.2.2")
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_id_token_is_refused(gate: ServerProcess, provider: Hostile, forge: Callable[[Hostile], str]) -> None:
    provider.asked.clear()
    assert_refused(gate, forge(provider))
    assert set(provider.asked) <= {DISCOVERY, KEYS}, "no address in a token is ever asked"


def test_made_up_key_ids_cause_few_requests_to_the_provider(gate: ServerProcess, provider: Hostile) -> None:
    exchange(gate, signed(provider, good(provider)))
    provider.asked.clear()
    with httpx.Client(base_url=gate.url, timeout=60) as http:
        for number in range(100):
            token = signed(provider, good(provider), {"kid": f"made-up-{number}"})
            assert http.post("/api/auth/exchange", json={"id_token": token}).status_code == 401
    assert provider.asked == []


def test_a_second_valid_signature_does_not_make_a_second_token(gate: ServerProcess, provider: Hostile) -> None:
    """From an ECDSA signature (r, s) anybody can derive another valid one: (r, n - s)."""
    token = signed(provider, good(provider), kid="ec", alg="ES256")
    assert exchange(gate, token).status_code == 200
    text, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    r, s = raw[:32], int.from_bytes(raw[32:], "big")
    twin = b64(r + (P256_ORDER - s).to_bytes(32, "big"))
    provider.keys["ec"].public_key().verify(
        utils.encode_dss_signature(int.from_bytes(r, "big"), P256_ORDER - s), text.encode(), ec.ECDSA(hashes.SHA256())
    )
    assert assert_refused(gate, f"{text}.{twin}") == "the ID token was already exchanged"


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.asvs("10.3.3")
def test_an_email_address_in_an_id_token_opens_no_account(gate: ServerProcess, provider: Hostile) -> None:
    """An account is found by issuer and subject only: setting an address at the provider gives no access."""
    email = new_email()
    body = {"email": email, "password": PASSWORD}
    local = httpx.post(f"{gate.url}/api/auth/register", json=body).raise_for_status().json()["subject"]
    claims = good(provider, email=email, email_verified=True, preferred_username=email)
    found: set[str] = set()
    for sub in ("one", "one", local, email):
        tokens = exchange(gate, signed(provider, {**claims, "sub": sub, "jti": str(len(found))})).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        found.add(httpx.get(f"{gate.url}/api/session", headers=bearer).json()["subject"])
        change = {"current_password": PASSWORD, "new_password": "another long password"}
        answer = httpx.post(f"{gate.url}/api/auth/password", json=change, headers=bearer)
        assert answer.json()["type"].rpartition(":")[2] == "password-wrong", "there is none to change"
    assert len(found) == 3, "one address, and as many people as subjects"
    assert local not in found
    assert httpx.post(f"{gate.url}/api/auth/login", json=body).status_code == 200


@pytest.mark.asvs("16.2.5")
def test_no_id_token_is_in_log_database_or_trace(tmp_path: Path, provider: Hostile) -> None:
    data = tmp_path / "data"
    with running_server(data, oidc_issuer=provider.issuer, log_level="debug", **SETTINGS) as gate:
        tokens = [signed(provider, good(provider)), _by_a_stranger(provider), "canary.canary.canary"]
        answers = [exchange(gate, token, nonce=nonce) for token in tokens for nonce in (None, "canary-nonce")]
        answers.append(exchange(gate, tokens[0]))
        gate.stop()
        files = [gate.log_path, gate.trace, *(path for path in data.iterdir() if path.is_file())]
        haystack = b"".join(path.read_bytes() for path in files) + b"".join(a.content for a in answers)
        for secret in ("canary", *(part for token in tokens[:2] for part in token.split(".")[1:])):
            assert secret.encode() not in haystack


@pytest.mark.parametrize(
    "settings",
    [
        {"oidc_issuer": "https://id.example"},
        {"oidc_issuer": "https://id.example", "oidc_audiences": ("x",), "oidc_algorithms": ()},
        {"oidc_issuer": "http://id.example", "oidc_audiences": ("x",)},
    ],
)
@asynchronous
async def test_insecure_provider_settings_prevent_the_start(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="oidc_issuer"):
        async with open_services(Settings(data=str(tmp_path), cheap_passwords_for_tests=True, **settings)):
            pass


@pytest.mark.asvs("9.1.2")
@asynchronous
async def test_an_impossible_token_is_refused_without_asking_the_provider() -> None:
    with hostile_provider() as provider:
        tokens = IdTokens(Settings(oidc_issuer=provider.issuer, oidc_audiences=(AUDIENCE,)), SystemClock())
        for token in (
            signed(provider, good(provider), alg="RS512"),
            signed(provider, good(provider), kid="ec", alg="ES256"),
            signed(provider, good(provider, aud="somebody-else")),
            _mac(provider, b"key"),
        ):
            with pytest.raises(CredentialInvalid):
                await tokens.check(token, None)
        assert provider.asked == []
        assert (await tokens.check(signed(provider, good(provider)), None)).issuer == provider.issuer
        await tokens.close()
