"""Tokens of an attacker, even one who had the server's own key for a moment."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from interlock.server.guard.keys.keyset import Keys


def encode(part: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def decode(part: str) -> Any:
    """Decode the JSON in one part of a token."""
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of ``token`` without verification."""
    claims: dict[str, Any] = decode(token.split(".")[1])
    return claims


def usual_header(keys: Keys) -> dict[str, Any]:
    """Return the header of the server's own access tokens."""
    return {"alg": "ES256", "kid": keys.signing.kid, "typ": "at+jwt"}


def signing_input(header: Any, claims: Any) -> str:
    """Return the first two parts of a token; bytes are used as they are, all else as JSON."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join(map(encode, parts))


def signed(keys: Keys, header: Any, claims: Any) -> str:
    """Return a token of any header and claims, with a valid ES256 signature by the server's own key."""
    text = signing_input(header, claims)
    algorithm = jwt.get_algorithm_by_name("ES256")
    return f"{text}.{encode(algorithm.sign(text.encode(), keys.signing.private))}"


def maced(secret: bytes, header: Any, claims: Any) -> str:
    """Return a token whose signature is an HMAC with ``secret``."""
    text = signing_input(header, claims)
    return f"{text}.{encode(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def public_forms(keys: Keys) -> dict[str, bytes]:
    """Return the public forms of the signing key, which confused libraries use as an HMAC secret."""
    public = keys.signing.public
    (jwk,) = (key for key in keys.jwks()["keys"] if key["kid"] == keys.signing.kid)
    return {
        "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "PEM without the last line feed": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip(),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "point": public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "JWK": json.dumps(jwk).encode(),
        "kid": keys.signing.kid.encode(),
        "nothing": b"",
    }
