"""ID tokens and keys as real providers write them. Claims that no setting asks for never cause a refusal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from jwt.algorithms import RSAAlgorithm

from interlock.machine.errors import CredentialInvalid
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.jose import base64url
from interlock.server.guard.oidc.id_tokens import IdTokens, VerifiedIdentity
from interlock.server.settings import Settings
from tests.support.admin import admin_token
from tests.support.asynchronous import asynchronous
from tests.support.hostile import AUDIENCE, Hostile, hostile_provider
from tests.support.running import eventually, until
from tests.support.server import running_server

Written = tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]
"""One provider's header members, claims, key members, and the resulting groups."""

GROUPS: Final = "oidc_groups_claim"


def now_s() -> int:
    return int(time.time())


PROVIDERS: Final[dict[str, Callable[[], Written]]] = {
    # No `alg` in the key, certificates, its own issuer; GUIDs as groups.
    "Entra ID": lambda: (
        {"typ": "JWT", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg"},
        {
            "ver": "2.0",
            "tid": "9122040d",
            "oid": "a1",
            "nbf": now_s(),
            "rh": "0.AX",
            "uti": "x",
            "groups": ["0a1b-2c3d"],
        },
        {"use": "sig", "x5t": "nOo3", "x5c": ["MIIC"], "issuer": "https://login.example/{tenantid}/v2.0"},
        ("0a1b-2c3d",),
    ),
    "Okta": lambda: (
        {},
        {
            "ver": 1,
            "amr": ["pwd"],
            "idp": "00o1",
            "auth_time": now_s(),
            "at_hash": "x",
            "groups": ["Everyone", "staff"],
        },
        {"alg": "RS256", "e": "AQAB", "use": "sig"},
        ("Everyone", "staff"),
    ),
    "Auth0": lambda: (
        {"typ": "JWT"},
        {"https://example.org/groups": ["staff"], "updated_at": "2026-01-23T09:30:00.000Z", "sid": "x", "nonce": ""},
        {"use": "sig", "x5t": "x", "x5c": ["MIIC"], "alg": "RS256"},
        ("staff",),
    ),
    # Encryption keys beside the signing ones; groups are paths.
    "Keycloak": lambda: (
        {"typ": "JWT"},
        {"typ": "ID", "azp": AUDIENCE, "acr": 1, "auth_time": 0, "session_state": "x", "groups": ["/staff/eu"]},
        {"alg": "RS256", "use": "sig", "x5c": ["MIIC"], "x5t#S256": "x"},
        ("/staff/eu",),
    ),
    "Google": lambda: (
        {"typ": "JWT"},
        {"azp": AUDIENCE, "hd": "example.org", "email": "ada@example.org", "email_verified": "true", "at_hash": "x"},
        {"use": "sig", "alg": "RS256"},
        (),
    ),
    "Cognito": lambda: (
        {},
        {
            "token_use": "id",
            "auth_time": now_s(),
            "cognito:groups": ["staff"],
            "event_id": "x",
            "email_verified": "false",
        },
        {"alg": "RS256", "use": "sig"},
        ("staff",),
    ),
    # One group as text; login times as text; the same certificate twice in the header.
    "AD FS, in one group": lambda: (
        {"typ": "JWT", "x5t": "x"},
        {"groups": "EXAMPLE\\Domain Users", "auth_time": "2026-01-23T09:30:00.000Z", "apptype": "Confidential"},
        {"use": "sig", "alg": "RS256", "x5t": "x", "x5c": ["MIIC"]},
        ("EXAMPLE\\Domain Users",),
    ),
    "Authentik": lambda: (
        {"typ": "JWT"},
        {"acr": "goauthentik.io/providers/oauth2/default", "amr": ["pwd"], "groups": [], "sid": "x", "uid": "y"},
        {"alg": "RS256", "use": "sig", "x5c": ["MIIC"]},
        (),
    ),
    # Roles are member names; the audience lists the project's clients.
    "Zitadel": lambda: (
        {},
        {
            "aud": [AUDIENCE, "the-mobile-one"],
            "azp": AUDIENCE,
            "client_id": AUDIENCE,
            "auth_time": now_s() - 0.25,
            "urn:zitadel:iam:org:project:roles": {"staff": {"1": "example.org"}, "editor": {"1": "example.org"}},
        },
        {"use": "sig", "alg": "RS256"},
        ("editor", "staff"),
    ),
    "Dex": lambda: ({}, {"email_verified": True, "groups": ["team:a"], "azp": None}, {"use": "sig"}, ("team:a",)),
    # Ruby and Java programs write times with fractions; some write null for missing values.
    "a program that writes fractions and nulls": lambda: (
        {"typ": None},
        {
            "exp": now_s() + 300.75,
            "iat": now_s() - 0.5,
            "nbf": now_s() - 0.5,
            "auth_time": None,
            "nonce": None,
            "acr": None,
            "azp": None,
            "groups": None,
            "typ": None,
            "token_use": None,
            "events": None,
            "_claim_names": None,
        },
        {"alg": None, "use": None, "key_ops": None, "x5c": None},
        (),
    ),
    "a program that writes .NET's earliest time": lambda: ({}, {"auth_time": -62135596800, "acr": ["a"]}, {}, ()),
    "a program that writes times as text where nobody asks": lambda: ({}, {"auth_time": str(now_s())}, {}, ()),
    "a program that writes an empty text for no group": lambda: ({}, {"groups": ""}, {}, ()),
}
CLAIMS: Final = {
    "Auth0": "https://example.org/groups",
    "Cognito": "cognito:groups",
    "Zitadel": "urn:zitadel:iam:org:project:roles",
}


@pytest.fixture
def provider() -> Iterator[Hostile]:
    with hostile_provider() as hostile:
        yield hostile


async def check(provider: Hostile, token: str, nonce: str | None = None, **settings: Any) -> VerifiedIdentity:
    trusted = Settings(oidc_issuer=provider.issuer, oidc_audiences=(AUDIENCE, "the-mobile-one"), **settings)
    tokens = IdTokens(trusted, SystemClock())
    try:
        return await tokens.check(token, nonce)
    finally:
        await tokens.close()


def token_of(provider: Hostile, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Encode a token, keeping null members, which a library would omit."""
    parts = ({"alg": "RS256", **header}, {**provider.claims(), **claims})
    text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    signature = provider.keys["rsa"].sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{base64url(signature)}"


@pytest.mark.parametrize("name", PROVIDERS)
@asynchronous
async def test_id_tokens_of_real_providers_are_accepted(provider: Hostile, name: str) -> None:
    header, claims, key, groups = PROVIDERS[name]()
    row = {**RSAAlgorithm.to_jwk(provider.keys["rsa"].public_key(), as_dict=True), "kid": "rsa", **key}
    others = [
        {"kty": "RSA", "use": "enc", "kid": "enc", "alg": "RSA-OAEP"},
        {"kty": "AKP", "kid": "x", "pub": "AA"},
        {},
    ]
    provider.publish(*others, row)
    settings = {GROUPS: CLAIMS.get(name, "groups")}
    identity = await check(provider, token_of(provider, {"kid": "rsa", **header}, claims), **settings)
    assert identity.groups == groups
    assert isinstance(identity.token_until_ms, int)


@pytest.mark.parametrize("header", [{}, {"kid": None}, {"kid": ""}], ids=["left out", "null", "empty"])
@asynchronous
async def test_a_token_without_a_key_id_is_accepted_with_one_fitting_key(
    provider: Hostile, header: dict[str, Any]
) -> None:
    assert await check(provider, token_of(provider, header, {}), oidc_algorithms=("RS256", "ES256", "EdDSA"))
    provider.keys["another"] = rsa.generate_private_key(65537, 2048)
    provider.publish()
    with pytest.raises(CredentialInvalid):
        await check(provider, token_of(provider, header, {}))


@asynchronous
async def test_a_rotated_key_without_a_key_id_is_fetched(provider: Hostile) -> None:
    tokens = IdTokens(
        Settings(oidc_issuer=provider.issuer, oidc_audiences=(AUDIENCE,), oidc_retry_s=0.01), SystemClock()
    )
    await tokens.check(token_of(provider, {}, {}), None)
    provider.keys["rsa"] = rsa.generate_private_key(65537, 2048)
    provider.publish()

    async def taken() -> bool:
        try:
            return (await tokens.check(token_of(provider, {}, {}), None)).issuer == provider.issuer
        except CredentialInvalid:
            return False

    try:
        await eventually(taken)
    finally:
        await tokens.close()


@pytest.mark.parametrize(
    ("settings", "claims", "because"),
    [
        ({"oidc_auth_age_s": 600}, {"auth_time": "now"}, "auth_time is missing"),
        ({"oidc_auth_age_s": 600}, {"auth_time": -62135596800}, "the login is too old"),
        ({"oidc_auth_age_s": 600}, {"auth_time": True}, "auth_time is missing"),
        ({}, {"auth_time": 10**400}, "not valid yet"),
        ({"oidc_auth_age_s": 600}, {"auth_time": -(10**400)}, "the login is too old"),
        ({"oidc_acr": ("1",)}, {"acr": 1}, "the login is too weak"),
        ({"oidc_acr": ("1",)}, {"acr": ["1"]}, "the login is too weak"),
        ({}, {"nonce": 7}, "nonce"),
        ({}, {"groups": [None]}, "groups claim"),
    ],
)
@asynchronous
async def test_required_claims_must_have_the_standards_form(
    provider: Hostile, settings: dict[str, Any], claims: dict[str, Any], because: str
) -> None:
    with pytest.raises(CredentialInvalid, match=because):
        await check(provider, token_of(provider, {"kid": "rsa"}, claims), **settings)


@asynchronous
async def test_auth_time_keeps_its_fraction(provider: Hostile) -> None:
    identity = await check(provider, token_of(provider, {"kid": "rsa"}, {"auth_time": 1_700_000_000.25}))
    assert identity.auth_time_ms == 1_700_000_000_250
    for unknown in ("2026-01-23T09:30:00Z", True, None, [1]):
        assert (await check(provider, token_of(provider, {"kid": "rsa"}, {"auth_time": unknown}))).auth_time_ms is None


OVERAGE: Final[dict[str, dict[str, Any]]] = {
    "distributed claims": {
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://graph.example/users/1/getMemberObjects"}},
    },
    "distributed claims beside null": {"groups": None, "_claim_names": {"groups": "src1"}},
    "distributed claims beside no group": {"groups": [], "_claim_names": {"groups": "src1"}},
    "Entra ID's sign in a page's address": {"hasgroups": True},
    "Entra ID's sign, written as text": {"hasgroups": "true"},
}


def test_too_many_groups_for_a_token_leave_the_accounts_unchanged(tmp_path: Path, provider: Hostile) -> None:
    settings = {"oidc_issuer": provider.issuer, "oidc_audiences": AUDIENCE}
    with running_server(tmp_path / "data", **settings) as server:
        admin = {"Authorization": f"Bearer {admin_token(server.data)}"}

        def groups_after(**claims: Any) -> list[str]:
            token = token_of(provider, {"kid": "rsa"}, {"sub": "ada", **claims})
            body = {"id_token": token}
            tokens = httpx.post(f"{server.url}/api/auth/exchange", json=body, timeout=60).raise_for_status().json()
            own = {"Authorization": f"Bearer {tokens['access_token']}"}
            subject = httpx.get(f"{server.url}/api/session", headers=own, timeout=60).json()["subject"]
            seen = httpx.get(f"{server.url}/api/admin/accounts/{subject}", headers=admin, timeout=60)
            return list(seen.raise_for_status().json()["groups"])

        assert groups_after(**OVERAGE["distributed claims"]) == [], "nobody has said any yet"
        assert groups_after(groups=["contractor", "staff"]) == ["contractor", "staff"]
        for told in OVERAGE.values():
            assert groups_after(**told) == ["contractor", "staff"]
        until(lambda: "oidc.groups_left_out" in server.log_path.read_text())
        assert groups_after(_claim_names={"address": "src1"}) == [], "of other claims it says nothing about groups"
        assert groups_after(groups=["staff"], _claim_names={"groups": "src1"}) == ["staff"], "what is listed counts"
        for no_sign in ("false", False, "", None, 1, [True], {"true": True}):
            assert groups_after(groups=["staff"]) == ["staff"]
            assert groups_after(hasgroups=no_sign) == [], no_sign
        assert groups_after() == []
