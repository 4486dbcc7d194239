"""The signed head as text: how it is verified, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest

from interlock.machine.errors import HeadRefused, SettingsError
from interlock.machine.ledger import Receipt
from interlock.machine.session.session import Session
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.heads import Head, check_head, read_head, sign_head
from interlock.server.guard.keys.keyset import Keys, load_keys, load_public_keys
from interlock.server.guard.tokens import Tokens

RECEIPT = Receipt(812, "ab" * 32)
NOW_MS = 1_769_160_600_123


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keys(folder: Path) -> Keys:
    return load_keys(folder)


def public(keys: Keys) -> dict[str, Any]:
    return {kid: key.public for kid, key in keys.verifying.items()}


def signed(keys: Keys, payload: dict[str, object], **headers: object) -> str:
    """Sign any content with the server's own key."""
    header = {"kid": keys.signing.kid, "typ": "interlock-head+jwt", **headers}
    return jwt.encode(payload, keys.signing.private, "ES256", header)


def test_a_signed_head_is_verified_and_read(keys: Keys, folder: Path) -> None:
    text = sign_head(RECEIPT, keys.signing, NOW_MS, final=False)
    head = Head(812, "ab" * 32, NOW_MS // 1000)
    assert check_head(text, load_public_keys(folder)) == read_head(text) == head
    assert head.receipt == RECEIPT


@pytest.mark.asvs("9.2.4")
def test_a_head_can_be_verified_with_the_jwks(keys: Keys) -> None:
    text = sign_head(RECEIPT, keys.signing, NOW_MS, final=False)
    header = jwt.get_unverified_header(text)
    assert header == {"alg": "ES256", "kid": keys.signing.kid, "typ": "interlock-head+jwt"}
    (jwk,) = jwt.PyJWKSet.from_dict(keys.jwks()).keys
    assert jwt.decode(text, jwk, ["ES256"], options={"verify_iat": False}) == {
        "position": 812,
        "digest": "ab" * 32,
        "iat": NOW_MS // 1000,
        "final": False,
    }


def test_a_head_by_an_unknown_key_is_refused(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(HeadRefused):
        check_head(sign_head(RECEIPT, load_keys(tmp_path).signing, NOW_MS, final=False), public(keys))


def test_a_head_by_another_key_under_a_known_key_id_is_refused(keys: Keys, tmp_path: Path) -> None:
    text = jwt.encode(
        {"position": 812, "digest": "ab" * 32, "iat": 1},
        load_keys(tmp_path).signing.private,
        "ES256",
        {"kid": keys.signing.kid, "typ": "interlock-head+jwt"},
    )
    with pytest.raises(HeadRefused):
        check_head(text, public(keys))


def test_a_head_with_a_changed_payload_is_refused(keys: Keys) -> None:
    header, _, signature = sign_head(RECEIPT, keys.signing, NOW_MS, final=False).split(".")
    _, payload, _ = sign_head(Receipt(811, "ab" * 32), keys.signing, NOW_MS, final=False).split(".")
    with pytest.raises(HeadRefused):
        check_head(f"{header}.{payload}.{signature}", public(keys))


GOOD = {"position": 812, "digest": "ab" * 32, "iat": 1}


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        ({}, {}),
        ({**GOOD, "position": 0}, {}),
        ({**GOOD, "position": "812"}, {}),
        ({**GOOD, "digest": "AB" * 32}, {}),
        ({**GOOD, "digest": "ab"}, {}),
        ({**GOOD, "more": 1}, {}),
        (GOOD, {"typ": "at+jwt"}),
        (GOOD, {"typ": "JWT"}),
        (GOOD, {"jku": "https://example.org"}),
        (GOOD, {"kid": "x" * 2000}),
    ],
)
def test_a_signed_text_that_is_no_head_is_refused(
    keys: Keys, payload: dict[str, object], headers: dict[str, object]
) -> None:
    text = signed(keys, payload, **headers)
    for read in (read_head, lambda text: check_head(text, public(keys))):
        with pytest.raises(HeadRefused):
            read(text)


def test_an_access_token_is_no_head(keys: Keys) -> None:
    tokens = Tokens(keys, SystemClock(), issuer="interlock", audience="interlock", lifetime_s=60)
    with pytest.raises(HeadRefused):
        check_head(tokens.access_token(Session("s")), public(keys))


def test_a_head_has_exactly_one_encoding(keys: Keys) -> None:
    """The same bytes in other letters, and a member twice with the same value: readers could differ."""
    text = sign_head(RECEIPT, keys.signing, NOW_MS, final=False)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    twice = jwt.api_jws.PyJWS().encode(
        b'{"position":812,"position":812,"digest":"%s","iat":1}' % (b"ab" * 32),
        keys.signing.private,
        "ES256",
        {"kid": keys.signing.kid, "typ": "interlock-head+jwt"},
    )
    for each in (other, twice):
        with pytest.raises(HeadRefused):
            check_head(each, public(keys))


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_head_with_another_algorithm_is_refused(keys: Keys, algorithm: str) -> None:
    text = jwt.encode(
        GOOD,
        "" if algorithm == "none" else "s" * 32,
        algorithm,
        {"kid": keys.signing.kid, "typ": "interlock-head+jwt"},
    )
    with pytest.raises(HeadRefused):
        check_head(text, public(keys))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "..", "{}", "é.é.é"])
def test_garbage_is_refused_as_a_head(text: str) -> None:
    with pytest.raises(HeadRefused):
        read_head(text)


def test_loading_public_keys_creates_none(tmp_path: Path) -> None:
    assert load_public_keys(tmp_path / "keys") == {}
    assert not (tmp_path / "keys").exists()
    (tmp_path / "signing-x.pem").mkdir(mode=0o700)
    with pytest.raises(SettingsError):
        load_public_keys(tmp_path)
