"""The keys, as files of mode 0600 in ``DATA/keys/``. Nothing else reads them, and they never enter the database.

``signing-<kid>.pem``: a P-256 private key (PKCS #8) that signs access tokens and the head of the log; ``refresh.key``: 32
random bytes, the MAC key of refresh tokens.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from machine.errors import SettingsError

ALGORITHM: Final = "ES256"
_REFRESH_KEY_BYTES: Final = 32


class SigningKey(msgspec.Struct, frozen=True):
    """A key pair for access tokens. ``kid`` is the RFC 7638 thumbprint of the public key."""

    kid: str
    private: Any
    public: Any


class Keys(msgspec.Struct, frozen=True):
    """All keys of this server: the one that signs, those that verify by kid, and the refresh tokens' MAC key."""

    signing: SigningKey
    verifying: dict[str, SigningKey]
    refresh_mac: bytes

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517)."""
        return {
            "keys": [
                {**_jwk(key.public), "kid": key.kid, "use": "sig", "alg": ALGORITHM} for key in self.verifying.values()
            ]
        }


def load_keys(folder: Path) -> Keys:
    """The keys in ``folder``; what is missing is created, once.

    Raises:
        SettingsError: a key can't be read, is not a key, or others than its owner may read it, or the folder is open to
            others.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_open(folder)
        # The newest signs; the others still verify.
        signing_files = sorted(folder.glob("signing-*.pem"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        keys = [_read_signing_key(path) for path in signing_files] or [_create_signing_key(folder)]
        refresh_file = folder / "refresh.key"
        if not refresh_file.exists():
            write_once(refresh_file, secrets.token_bytes(_REFRESH_KEY_BYTES))
        refresh_mac = read_private(refresh_file)
    except OSError as error:
        raise SettingsError(f"the keys in {folder} can't be used: {error.strerror}") from error
    if len(refresh_mac) != _REFRESH_KEY_BYTES:
        raise SettingsError(f"{refresh_file} does not hold {_REFRESH_KEY_BYTES} bytes")
    return Keys(keys[-1], {key.kid: key for key in keys}, refresh_mac)


def load_public_keys(folder: Path) -> dict[str, Any]:
    """The public halves of the signing keys in ``folder``, by kid. Nothing is created: for whoever only looks.

    Raises:
        SettingsError: a key can't be read, is not a key, or others than its owner may read it.
    """
    try:
        keys = [_read_signing_key(path) for path in sorted(folder.glob("signing-*.pem"))]
    except OSError as error:
        raise SettingsError(f"the keys in {folder} can't be used: {error.strerror}") from error
    return {key.kid: key.public for key in keys}


def _create_signing_key(folder: Path) -> SigningKey:
    key = _signing_key(ec.generate_private_key(ec.SECP256R1()))
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_once(folder / f"signing-{key.kid}.pem", pem)
    return key


def _read_signing_key(path: Path) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path} does not hold a private key: {type(error).__name__}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise SettingsError(f"{path} does not hold a P-256 key")
    key = _signing_key(private)
    if path.name != f"signing-{key.kid}.pem":
        raise SettingsError(f"{path} does not hold the key it is named after")
    return key


def _signing_key(private: ec.EllipticCurvePrivateKey) -> SigningKey:
    public = private.public_key()
    jwk = _jwk(public)
    # RFC 7638, 3: the required members, in lexical order, without white space.
    canonical = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    thumbprint = hashlib.sha256(canonical.encode()).digest()
    return SigningKey(base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode(), private, public)


def _jwk(public: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(public, as_dict=True)


def _refuse_open(folder: Path) -> None:
    """Whoever may write to the folder can exchange the keys, and whoever may list it learns who has secrets.

    Raises:
        SettingsError: others than its owner may.
    """
    if folder.stat().st_mode & 0o077:
        raise SettingsError(f"{folder} is open to others; make it private: chmod 700 {folder}")


def read_private(path: Path) -> bytes:
    """The content of ``path``.

    Raises:
        SettingsError: others than its owner may read it.
        OSError: it can't be read.
    """
    if path.stat().st_mode & 0o077:
        raise SettingsError(f"{path} may be read by others; make it private: chmod 600 {path}")
    return path.read_bytes()


def write_once(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600, complete or not at all, and on disk before it is used."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
