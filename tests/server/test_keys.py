"""Keys: created once, kept private, named after themselves, and refused if anything about them is wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from interlock.machine.errors import SettingsError
from interlock.server.guard.keys.keyset import _signing_key, create_signing_key, load_keys, read_keys, stamp_of


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.asvs("13.3.1")
def test_keys_are_created_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = load_keys(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(files) == ["refresh.key", f"signing-{first.signing.kid}.pem"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(first.refresh_mac) == 32
    again = load_keys(folder)
    assert (again.signing.kid, again.refresh_mac) == (first.signing.kid, first.refresh_mac)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert load_keys(tmp_path / "others").refresh_mac != first.refresh_mac


@pytest.mark.asvs("13.3.1")
def test_the_repr_of_keys_holds_no_secret(tmp_path: Path) -> None:
    keys = load_keys(tmp_path)
    printed = repr((keys, read_keys(tmp_path)))
    assert keys.signing.kid in printed
    assert repr(keys.refresh_mac)[2:-1] not in printed


def test_kid_is_the_rfc_7638_thumbprint(tmp_path: Path) -> None:
    keys = load_keys(tmp_path)
    (jwk,) = keys.jwks()["keys"]
    numbers = keys.signing.private.public_key().public_numbers()
    encoded = [base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y)]
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{encoded[0]}","y":"{encoded[1]}"}}'
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()
    assert keys.signing.kid == thumbprint
    assert jwk == {**json.loads(canonical), "kid": thumbprint, "use": "sig", "alg": "ES256"}


def test_an_older_key_still_verifies(tmp_path: Path) -> None:
    old = load_keys(tmp_path)
    new = create_signing_key(tmp_path, old.signing.signs_from_ms + 1)
    both = load_keys(tmp_path, new.signs_from_ms)
    assert list(both.verifying) == [old.signing.kid, new.kid]
    assert {key["kid"] for key in both.jwks()["keys"]} == {old.signing.kid, new.kid}
    assert both.signing.kid == new.kid


@pytest.mark.asvs("13.3.1")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
@pytest.mark.parametrize("name", ["refresh.key", "signing-*.pem"])
def test_a_key_readable_by_others_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    load_keys(tmp_path)
    (path,) = tmp_path.glob(name)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"{path.name} .*chmod 600"):
        load_keys(tmp_path)


BAD_SIGNING_KEYS = {
    "garbage": (b"garbage", "does not hold a private key"),
    "an empty file": (b"", "does not hold a private key"),
    "an encrypted key": (
        pem_of(ec.generate_private_key(ec.SECP256R1()), b"secret"),
        "does not hold a private key",
    ),
    "a key of a weaker curve": (pem_of(ec.generate_private_key(ec.SECP224R1())), "does not hold a P-256 key"),
    "a key of another curve": (pem_of(ec.generate_private_key(ec.SECP384R1())), "does not hold a P-256 key"),
    "an RSA key": (pem_of(rsa.generate_private_key(65537, 2048)), "does not hold a P-256 key"),
    "another key": (pem_of(ec.generate_private_key(ec.SECP256R1())), "does not hold the key it is named after"),
}


@pytest.mark.asvs("11.2.3")
@pytest.mark.parametrize(("content", "message"), BAD_SIGNING_KEYS.values(), ids=BAD_SIGNING_KEYS)
def test_a_file_that_is_not_the_signing_key_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    load_keys(tmp_path)
    (path,) = tmp_path.glob("signing-*.pem")
    write(path, content)
    with pytest.raises(SettingsError, match=message) as refused:
        load_keys(tmp_path)
    assert content.decode(errors="replace")[:20] not in str(refused.value) or not content, (
        "no key material in a message"
    )


@pytest.mark.asvs("11.2.3")
@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
def test_a_key_on_another_curve_is_refused_even_under_its_own_name(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    load_keys(tmp_path)
    private = ec.generate_private_key(curve)
    write(tmp_path / f"signing-{_signing_key(private, 0).kid}.pem", pem_of(private))
    with pytest.raises(SettingsError):
        load_keys(tmp_path)


@pytest.mark.asvs("11.2.3")
@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_refresh_key_of_another_length_is_refused(tmp_path: Path, content: bytes) -> None:
    load_keys(tmp_path)
    write(tmp_path / "refresh.key", content)
    with pytest.raises(SettingsError, match=r"refresh\.key "):
        load_keys(tmp_path)


def test_an_unreadable_key_is_refused(tmp_path: Path) -> None:
    load_keys(tmp_path)
    (tmp_path / "refresh.key").unlink()
    (tmp_path / "refresh.key").mkdir(mode=0o700)
    with pytest.raises(SettingsError):
        load_keys(tmp_path)


def test_a_file_in_place_of_the_key_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(SettingsError):
        load_keys(tmp_path / "keys")


def test_a_half_written_draft_is_not_a_key(tmp_path: Path) -> None:
    (tmp_path / "refresh.key.new").write_bytes(b"half")
    assert len(load_keys(tmp_path).refresh_mac) == 32


_STATUS = os.stat_result((0o100600, 11, 5, 1, 1000, 1000, 40, 0, 0, 0))
"""Mode, inode, device, links, owner, group, size, and three times."""


@pytest.mark.parametrize(("place", "value"), [(0, 0o100604), (1, 12), (4, 0), (5, 0), (6, 41)])
def test_a_changed_file_with_the_same_times_is_noticed(place: int, value: int) -> None:
    """As after two changes within one tick of the kernel's clock."""
    changed = [*_STATUS]
    changed[place] = value
    assert stamp_of(os.stat_result(changed)) != stamp_of(_STATUS)
    assert stamp_of(os.stat_result(_STATUS)) == stamp_of(_STATUS)
