"""The keys, stored as files of mode 0600 in ``DATA/keys/`` and never in the database. Nothing else reads them.

``signing-<kid>.pem``: a P-256 private key (PKCS #8) that signs access tokens and the head of the log. ``refresh.key`` (32
random bytes, the first one) and ``refresh-<random>.key`` (JSON): MAC keys of refresh tokens.

Of each kind the key whose start time passed last signs; all of them verify. The file holds the start time (a line
``Signs-From:`` before the PEM, a member of the JSON) in milliseconds since the Unix epoch, so a copy or a restore does not
change which key signs. A PEM without it, made by hand or by an older version, signs from its modification time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from interlock.machine.errors import SettingsError
from interlock.machine.secret.commands import Add, added
from interlock.server.clock import SystemClock
from interlock.server.system.permissions import read_private, refuse_open, write_private

ALGORITHM: Final = "ES256"
JWKS_MAX_AGE_S: Final = 300
"""How long others may cache the public keys."""

KeyPurpose: TypeAlias = Literal["signing", "refresh"]

_REFRESH_KEY_BYTES: Final = 32
_NAME_BYTES: Final = 6
_FIRST_REFRESH_FILE: Final = "refresh.key"
_FILE: Final = re.compile(r"signing-.+\.pem\Z|refresh(-.+)?\.key\Z")
_SIGNS_FROM: Final = re.compile(rb"Signs-From: ([0-9]{1,16})\n")
_NS_PER_MS: Final = 1_000_000


class SigningKey(msgspec.Struct, frozen=True):
    """A key pair for access tokens. ``kid`` is the RFC 7638 thumbprint of the public key."""

    kid: str
    private: Any
    public: Any
    signs_from_ms: int = 0

    @property
    def name(self) -> str:
        """The name on the command line."""
        return self.kid

    @property
    def kind(self) -> KeyPurpose:
        """The kind of key."""
        return "signing"

    @property
    def added(self) -> Add:
        """The key as the log records it."""
        return Add("signing", self.kid, self.kid)


class RefreshKey(msgspec.Struct, frozen=True):
    """A MAC key of refresh tokens. ``name`` is its file's name without suffix."""

    name: str
    secret: bytes
    signs_from_ms: int = 0

    def __repr__(self) -> str:
        return f"RefreshKey({self.name!r})"

    @property
    def kind(self) -> KeyPurpose:
        """The kind of key."""
        return "refresh"

    @property
    def added(self) -> Add:
        """The key as the log records it."""
        return added("refresh", self.name, self.secret)


Key: TypeAlias = SigningKey | RefreshKey
FileStamp: TypeAlias = tuple[int, ...]
K = TypeVar("K", SigningKey, RefreshKey)


class Keys(msgspec.Struct, frozen=True):
    """All keys of this server at one moment, for signing and for verifying.

    ``verifying``: signing keys by kid, ordered by start time. ``refresh_mac``: the MAC key of new refresh tokens.
    ``refresh_macs``: all MAC keys that verify them.
    """

    signing: SigningKey
    verifying: dict[str, SigningKey]
    refresh_mac: bytes
    refresh_macs: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Keys(signing={self.signing.kid!r}, verifying={list(self.verifying)!r})"

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWK Set (RFC 7517), including keys that do not sign yet."""
        return {
            "keys": [
                {**_jwk(key.public), "kid": key.kid, "use": "sig", "alg": ALGORITHM} for key in self.verifying.values()
            ]
        }


class _StoredRefreshKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signs_from_ms: int
    key: bytes


def load_keys(folder: Path, now_ms: int | None = None) -> Keys:
    """Return the keys in ``folder`` as of ``now_ms`` (default: now). Create a missing first key of a kind.

    Raises:
        SettingsError: a key is unreadable, invalid or readable by others than its owner, or the folder is open to others.
    """
    return assemble(read_keys(folder, create=True), SystemClock().now_ms() if now_ms is None else now_ms)


def load_public_keys(folder: Path) -> dict[str, Any]:
    """Return the public halves of the signing keys in ``folder``, by kid. Create nothing.

    Raises:
        SettingsError: a key is unreadable, invalid, or readable by others than its owner.
    """
    return {key.kid: key.public for key in read_keys(folder) if isinstance(key, SigningKey)}


def read_keys(folder: Path, *, create: bool = False) -> list[Key]:
    """Return every key in ``folder``; with ``create``, make a first one of each kind that has none.

    Raises:
        SettingsError: a key is unreadable, invalid, or readable by others than its owner.
    """
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            refuse_open(folder)
        elif not folder.exists():
            return []
        keys = [read_key(path) for path in key_files(folder)]
        if create:
            now_ms = SystemClock().now_ms()
            if not of_kind(keys, SigningKey):
                keys.append(create_signing_key(folder, now_ms))
            if not of_kind(keys, RefreshKey):
                write_private(folder / _FIRST_REFRESH_FILE, secrets.token_bytes(_REFRESH_KEY_BYTES))
                keys.append(read_key(folder / _FIRST_REFRESH_FILE))
    except OSError as error:
        raise SettingsError(f"the keys in {folder} can't be used: {error.strerror}") from error
    return keys


def assemble(keys: Iterable[Key], now_ms: int) -> Keys:
    """Combine ``keys``, at least one of each kind, into the set in use at ``now_ms``."""
    keys = list(keys)
    signing, refresh = of_kind(keys, SigningKey), of_kind(keys, RefreshKey)
    return Keys(
        signing=current(signing, now_ms),
        verifying={key.kid: key for key in signing},
        refresh_mac=current(refresh, now_ms).secret,
        refresh_macs=tuple(key.secret for key in refresh),
    )


def of_kind(keys: Iterable[Key], kind: type[K]) -> list[K]:
    """Return those of ``keys`` that are of ``kind``, ordered by start time."""
    return sorted((key for key in keys if isinstance(key, kind)), key=lambda key: (key.signs_from_ms, key.name))


def current(keys: Sequence[K], now_ms: int) -> K:
    """Return the key that signs at ``now_ms``: the last one started, or the first if none has started."""
    return keys[place_of_current(keys, now_ms)]


def place_of_current(keys: Sequence[SigningKey] | Sequence[RefreshKey], now_ms: int) -> int:
    """Return the index in ``keys`` of :func:`current`."""
    begun = [place for place in range(len(keys)) if keys[place].signs_from_ms <= now_ms]
    return begun[-1] if begun else 0


def key_files(folder: Path) -> list[Path]:
    """Return the key files in ``folder``.

    Raises:
        OSError: the folder can't be listed.
    """
    return sorted(path for path in folder.iterdir() if _FILE.match(path.name))


def no_keys(folder: Path) -> SettingsError:
    """Return the error for a folder without keys: the wrong folder, or no server has run there yet."""
    return SettingsError(
        f"there are no keys in {folder}: a server makes the first ones when it starts; or name the server's folder with --data"
    )


def key_file(folder: Path, key: Key) -> Path:
    """Return the path of ``key``."""
    return folder / (f"signing-{key.kid}.pem" if isinstance(key, SigningKey) else f"{key.name}.key")


def read_key(path: Path) -> Key:
    """Read the key in the file ``path``.

    Raises:
        SettingsError: it is not a key, or readable by others than its owner.
        OSError: it can't be read.
    """
    content = read_private(path)
    if path.suffix == ".pem":
        return _read_signing_key(path, content)
    if path.name == _FIRST_REFRESH_FILE:
        stored = _StoredRefreshKey(0, content)
    else:
        try:
            stored = msgspec.json.decode(content, type=_StoredRefreshKey)
        except ValueError:
            raise SettingsError(f"{path} does not hold a refresh key") from None
    if len(stored.key) != _REFRESH_KEY_BYTES:
        raise SettingsError(f"{path} does not hold {_REFRESH_KEY_BYTES} bytes")
    return RefreshKey(path.stem, stored.key, stored.signs_from_ms)


def create_signing_key(folder: Path, signs_from_ms: int) -> SigningKey:
    """Create a key pair on disk.

    Raises:
        OSError: it can't be written.
    """
    key = _signing_key(ec.generate_private_key(ec.SECP256R1()), signs_from_ms)
    while key.kid.startswith("-"):  # a command line would read it as an option
        key = _signing_key(ec.generate_private_key(ec.SECP256R1()), signs_from_ms)
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key_file(folder, key), b"Signs-From: %d\n" % signs_from_ms + pem)
    return key


def create_refresh_key(folder: Path, signs_from_ms: int) -> RefreshKey:
    """Create a MAC key on disk.

    Raises:
        OSError: it can't be written.
    """
    name = f"refresh-{secrets.token_hex(_NAME_BYTES)}"
    key = RefreshKey(name, secrets.token_bytes(_REFRESH_KEY_BYTES), signs_from_ms)
    write_private(key_file(folder, key), msgspec.json.encode(_StoredRefreshKey(signs_from_ms, key.secret)))
    return key


def _read_signing_key(path: Path, content: bytes) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path} does not hold a private key: {type(error).__name__}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise SettingsError(f"{path} does not hold a P-256 key")
    said = _SIGNS_FROM.match(content)
    key = _signing_key(private, int(said[1]) if said else path.stat().st_mtime_ns // _NS_PER_MS)
    if path.name != f"signing-{key.kid}.pem":
        raise SettingsError(f"{path} does not hold the key it is named after")
    return key


def _signing_key(private: ec.EllipticCurvePrivateKey, signs_from_ms: int) -> SigningKey:
    public = private.public_key()
    jwk = _jwk(public)
    # RFC 7638, 3: the required members in lexical order, without white space.
    canonical = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    thumbprint = hashlib.sha256(canonical.encode()).digest()
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    return SigningKey(kid, private, public, signs_from_ms)


def _jwk(public: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(public, as_dict=True)


def stamp_of(status: os.stat_result) -> FileStamp:
    """Return a value that changes when a file is replaced, is written, or gets other permissions.

    Times alone are too coarse: on many kernels, changes within a few milliseconds share one.
    """
    who = (status.st_mode, status.st_uid, status.st_gid)
    return status.st_ino, *who, status.st_size, status.st_mtime_ns, status.st_ctime_ns
