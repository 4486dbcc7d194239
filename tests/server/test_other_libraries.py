"""Access tokens verified by other programs: libraries of several languages, by the rules of RFC 9068."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from authlib.oauth2.rfc9068.claims import JWTAccessTokenClaims
from joserfc.jwk import KeySet

from tests.support.client import PASSWORD, new_email
from tests.support.server import ServerProcess, running_server

ISSUER: Final = "https://sessions.example.org"
AUDIENCE: Final = "https://app.example.org"
REQUIRED: Final = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")
"""RFC 9068, 2.2."""

VERIFY: Final = Path(__file__).parents[1] / "javascript" / "verify.mjs"


@pytest.fixture(scope="module", params=[(ISSUER, AUDIENCE), ("interlock", "interlock")], ids=["addresses", "names"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    issuer, audience = request.param
    with running_server(tmp_path_factory.mktemp("libraries") / "data", issuer=issuer, audience=audience) as process:
        yield process


@pytest.fixture(params=["anonymous", "logged in"])
def token(request: pytest.FixtureRequest, server: ServerProcess) -> str:
    if request.param == "anonymous":
        answer = httpx.post(f"{server.url}/api/session", timeout=60)
    else:
        body = {"email": new_email(), "password": PASSWORD}
        httpx.post(f"{server.url}/api/auth/register", json=body, timeout=60).raise_for_status()
        answer = httpx.post(f"{server.url}/api/auth/login", json=body, timeout=60)
    return str(answer.raise_for_status().json()["access_token"])


def read_by_us(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_an_access_token_has_the_claims_that_rfc_9068_requires(server: ServerProcess, token: str) -> None:
    claims = read_by_us(token)
    settings = server._settings
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    assert all(claims[name] for name in REQUIRED)
    assert (claims["iss"], claims["aud"]) == (settings["issuer"], settings["audience"])
    assert claims["client_id"] == settings["audience"], "the application that the token was made for"
    assert "scope" not in claims, "nobody asked for one (RFC 9068, 2.2.3)"


def test_pyjwt_accepts_access_tokens(server: ServerProcess, token: str) -> None:
    settings = server._settings
    key = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience=settings["audience"],
        issuer=settings["issuer"],
        leeway=5,
        options={"require": list(REQUIRED)},
    )
    assert claims == read_by_us(token)


def test_authlib_accepts_access_tokens(server: ServerProcess, token: str) -> None:
    settings = server._settings

    class Validator(JWTBearerTokenValidator):  # type: ignore[misc]  # the library has no types
        def get_jwks(self) -> Any:
            return KeySet.import_key_set(httpx.get(f"{server.url}/.well-known/jwks.json", timeout=60).json())

    found = Validator(issuer=settings["issuer"], resource_server=settings["audience"]).authenticate_token(token)
    assert isinstance(found, JWTAccessTokenClaims)
    found.validate()
    assert dict(found) == read_by_us(token)


def test_jose_and_oauth4webapi_accept_access_tokens(server: ServerProcess, token: str) -> None:
    settings = server._settings
    command = ["node", str(VERIFY), server.url, token, settings["issuer"], settings["audience"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["header"]["typ"] == "at+jwt"
    assert said["jose"] == said["oauth4webapi"] == read_by_us(token)
