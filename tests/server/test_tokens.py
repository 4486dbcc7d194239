"""Tokens: only what this server signed for this session in its current state is accepted; refusals are alike."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.errors import CredentialInvalid, CredentialRefused, TokenExpired
from interlock.machine.session.commands import Authenticate, Refresh
from interlock.machine.session.session import Session
from interlock.server.guard.keys.keyset import Keys, load_keys
from interlock.server.guard.tokens import Tokens
from tests.support.clock import HandClock
from tests.support.forging import decode, encode, maced, public_forms, signed, signing_input, usual_header
from tests.support.steps import NOW_MS, Story

LIFETIME_S = 300
SID = "0" * 36


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return load_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def tokens(keys: Keys) -> Tokens:
    return Tokens(keys, HandClock(), issuer="interlock", audience="interlock", lifetime_s=LIFETIME_S)


def session_of(*, subject: str | None = "ada") -> Session:
    story = Story(SID)
    story.begin(subject)
    return story.session


def good(keys: Keys, **claims: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    now_s = NOW_MS // 1000
    usual = {"sid": SID, "sub": "ada", "epoch": 1, "iss": "interlock", "aud": "interlock", "iat": now_s, "jti": "x"}
    usual["client_id"] = "interlock"
    return usual_header(keys), {**usual, "exp": now_s + LIFETIME_S, **claims}


@pytest.mark.asvs("9.2.4")
def test_an_access_token_can_be_verified_by_any_library(tokens: Tokens, keys: Keys) -> None:
    token = tokens.access_token(session_of())
    claims = tokens.check_access_token(token)
    assert (claims.sid, claims.sub, claims.epoch) == (SID, "ada", 1)
    assert claims.exp - claims.iat == LIFETIME_S
    (jwk,) = keys.jwks()["keys"]
    options: jwt.types.Options = {"verify_exp": False, "verify_iat": False}  # the clock here is in the year 2027
    elsewhere = jwt.decode(token, jwt.PyJWK(jwk), algorithms=["ES256"], audience="interlock", options=options)
    assert elsewhere == msgspec.to_builtins(claims)
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": jwk["kid"], "typ": "at+jwt"}


@pytest.mark.asvs("7.2.2")
def test_two_access_tokens_are_never_the_same(tokens: Tokens) -> None:
    # Not the texts: signatures of the same claims differ each time.
    one, other = (tokens.check_access_token(tokens.access_token(session_of())) for _ in range(2))
    assert one.jti != other.jti


def test_an_anonymous_session_has_a_subject_of_its_own(tokens: Tokens) -> None:
    claims = tokens.check_access_token(tokens.access_token(session_of(subject=None)))
    assert claims.sub == f"anonymous:{SID}"


@pytest.mark.asvs("9.2.1")
def test_an_access_token_expires_on_the_second_even_if_cached(keys: Keys) -> None:
    clock = HandClock()
    tokens = Tokens(keys, clock, issuer="interlock", audience="interlock", lifetime_s=LIFETIME_S)
    token = tokens.access_token(session_of())
    clock.time_ms += LIFETIME_S * 1000 - 1
    tokens.check_access_token(token)
    clock.time_ms += 1
    for _ in range(2):
        with pytest.raises(TokenExpired):
            tokens.check_access_token(token)


def test_the_cache_of_verified_tokens_is_bounded(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.server.guard.tokens._CACHE_LIMIT", 3)
    made = [tokens.access_token(session_of()) for _ in range(5)]
    for token in made * 2:
        assert tokens.check_access_token(token).sid == SID
    assert len(tokens._verified) == 3


def test_a_correctly_hand_signed_token_is_accepted(tokens: Tokens, keys: Keys) -> None:
    """So that each bad one below is refused for its own reason."""
    assert tokens.check_access_token(signed(keys, *good(keys))).epoch == 1


def _header(**changes: Any) -> Callable[[Keys], str]:
    def make(keys: Keys) -> str:
        header, claims = good(keys)
        return signed(keys, {k: v for k, v in {**header, **changes}.items() if v is not None}, claims)

    return make


def _claims(**changes: Any) -> Callable[[Keys], str]:
    def make(keys: Keys) -> str:
        header, claims = good(keys)
        return signed(keys, header, {k: v for k, v in {**claims, **changes}.items() if v is not None})

    return make


def _tampered(keys: Keys) -> str:
    header, payload, signature = signed(keys, *good(keys)).split(".")
    return f"{header}.{encode(json.dumps({**decode(payload), 'sub': 'root'}).encode())}.{signature}"


def _non_canonical(keys: Keys) -> str:
    """Write the same bytes another way: with the last character's unused bits set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = signed(keys, *good(keys))
    assert len(token.rpartition(".")[2]) % 4 == 2
    other = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    last = [base64.urlsafe_b64decode(t.rpartition(".")[2] + "==") for t in (token, other)]
    assert last[0] == last[1]
    return other


def _deep(keys: Keys) -> str:
    header, _ = good(keys)
    return signed(keys, header, b'{"sid":"x","more":' + b"[" * 1200)


_ALGORITHMS = ("None", "NONE", "nOnE", "", "HS256", "RS256", "PS256", "EdDSA", "es256", "ES256K", "ES256 ")
_KIDS = (
    "/dev/null",
    "../keys/refresh.key",
    "refresh",
    "' OR '1'='1",
    "| cat /etc/passwd",
    "http://127.0.0.1:1/key",
    "*",
    "",
)
_NOT_OURS = ("", "interlock ", "Interlock", ["another", "interlock"], 1, True)

BAD: dict[str, Callable[[Keys], str]] = {
    "alg none": lambda keys: f"{signing_input({**usual_header(keys), 'alg': 'none'}, good(keys)[1])}.",
    "alg none with a signature": _header(alg="none"),
    "HS256 with the public key": lambda keys: maced(
        public_forms(keys)["PEM"], {**usual_header(keys), "alg": "HS256"}, good(keys)[1]
    ),
    "another alg": _header(alg="ES384"),
    "an unknown kid": _header(kid="unknown"),
    "a path as kid": _header(kid="../../etc/passwd"),
    "no kid": _header(kid=None),
    "another typ": _header(typ="JWT"),
    "no typ": _header(typ=None),
    "a key of its own": _header(jwk={"kty": "EC"}),
    "an address of a key": _header(jku="https://example.org/keys"),
    "an address of a certificate": _header(x5u="https://example.org/keys"),
    "a certificate": _header(x5c=["MIIB"]),
    "crit": _header(crit=["b64"]),
    "a header member nobody knows": _header(cty="JWT"),
    "alg as a list": _header(alg=["ES256"]),
    "kid as a number": _header(kid=1),
    "a head's typ": _header(typ="interlock-head+jwt"),
    "typ in capitals": _header(typ="AT+JWT"),
    "another issuer": _claims(iss="other"),
    "no issuer": _claims(iss=None),
    "another audience": _claims(aud="other"),
    "audiences": _claims(aud=["interlock"]),
    "no expiry": _claims(exp=None),
    "an expiry as text": _claims(exp=str(NOW_MS)),
    "a fraction as expiry": _claims(exp=1e300),
    "an expiry that is true": _claims(exp=True),
    "a fraction of a second": _claims(exp=NOW_MS / 1000 + 60.5),
    "issued too far in the future": _claims(iat=NOW_MS // 1000 + 61, exp=NOW_MS // 1000 + 120),
    "not to be used yet": _claims(nbf=NOW_MS // 1000 + 61),
    "a time not before as text": _claims(nbf="0"),
    "a subject as a number": _claims(sub=1),
    "a jti as a number": _claims(jti=1),
    "an epoch that is true": _claims(epoch=True),
    "no session": _claims(sid=None),
    "no epoch": _claims(epoch=None),
    "an epoch as text": _claims(epoch="1"),
    "no subject": _claims(sub=None),
    "no jti": _claims(jti=None),
    "no client": _claims(client_id=None),
    "no time of issue": _claims(iat=None),
    "tampered claims": _tampered,
    "not canonical": _non_canonical,
    "deeply nested": _deep,
    "a trailing =": lambda keys: signed(keys, *good(keys)) + "=",
    "a trailing line feed": lambda keys: signed(keys, *good(keys)) + "\n",
    "white space": lambda keys: " " + signed(keys, *good(keys)),
    "a cut signature": lambda keys: signed(keys, *good(keys))[:-4],
    "no signature": lambda keys: signed(keys, *good(keys)).rpartition(".")[0] + ".",
    "four parts": lambda keys: signed(keys, *good(keys)) + ".x",
    "claims that are a list": lambda keys: signed(keys, good(keys)[0], b"[]"),
    "claims that are no JSON": lambda keys: signed(keys, good(keys)[0], b"\xff"),
    "too long": _claims(more="x" * 2048),
    "nothing": lambda _keys: "",
    **{f"alg {name!r}": _header(alg=name) for name in _ALGORITHMS},
    **{f"kid {name!r}": _header(kid=name) for name in _KIDS},
    **{f"typ {name!r}": _header(typ=name) for name in ("jwt", "application/at+jwt", "", ["at+jwt"])},
    **{f"{name} {value!r}": _claims(**{name: value}) for name in ("iss", "aud") for value in _NOT_OURS},
    **{f"exp {exp}": _claims(exp=json.loads(exp)) for exp in ("1e99", "-1.0", "[1]", '"60"')},
}


@pytest.mark.asvs("9.1.1", "9.1.2", "9.1.3", "9.2.2", "9.2.3", "10.3.1")
@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_a_bad_access_token_is_refused(tokens: Tokens, keys: Keys, make: Callable[[Keys], str]) -> None:
    token = make(keys)
    for _ in range(2):
        with pytest.raises(CredentialInvalid) as refused:
            tokens.check_access_token(token)
    assert not token or token not in str(refused.value)


@pytest.mark.parametrize("member", ["exp", "sub", "epoch", "alg", "kid", "typ", "more"])
def test_a_token_with_a_duplicate_member_is_refused(tokens: Tokens, keys: Keys, member: str) -> None:
    parts: list[Any] = []
    for part in good(keys):
        full = {"more": {"a": 1}, **part} if member == "more" and "sub" in part else part
        text = json.dumps(full)
        if member in full:
            text = f'{text[:-1]}, "{member}": {json.dumps(full[member])}}}'
        parts.append(text.encode())
    with pytest.raises(CredentialInvalid):
        tokens.check_access_token(signed(keys, *parts))
    inside = json.dumps(good(keys)[1])[:-1] + ', "more": {"a": 1, "a": 1}}'
    with pytest.raises(CredentialInvalid):
        tokens.check_access_token(signed(keys, good(keys)[0], inside.encode()))


@pytest.mark.asvs("9.2.1")
def test_clocks_may_differ_by_a_minute_and_expiry_is_exact(tokens: Tokens, keys: Keys) -> None:
    now_s = NOW_MS // 1000
    at_the_edge = {"iat": now_s + 60, "nbf": now_s + 60, "exp": now_s + 61}
    assert tokens.check_access_token(signed(keys, *good(keys, **at_the_edge))).nbf == now_s + 60
    for exp in (now_s, now_s - 1):
        with pytest.raises(TokenExpired):
            tokens.check_access_token(signed(keys, *good(keys, iat=now_s - 60, exp=exp)))


@pytest.mark.asvs("9.2.1")
def test_a_token_with_too_long_a_lifetime_is_refused(tokens: Tokens, keys: Keys) -> None:
    """An attacker who had the key for a moment can't make one that never expires."""
    for exp in (NOW_MS // 1000 + LIFETIME_S + 1, int("9" * 400)):
        with pytest.raises(TokenExpired):
            tokens.check_access_token(signed(keys, *good(keys, exp=exp)))


def test_unknown_claims_are_ignored(tokens: Tokens, keys: Keys) -> None:
    """As in RFC 7519, 4: this server's key vouches for them."""
    assert tokens.check_access_token(signed(keys, *good(keys, scope="all"))).sub == "ada"


@pytest.mark.asvs("9.1.1", "9.1.3")
def test_another_servers_token_is_refused(tokens: Tokens, tmp_path: Path) -> None:
    other = Tokens(load_keys(tmp_path), HandClock(), issuer="interlock", audience="interlock", lifetime_s=LIFETIME_S)
    with pytest.raises(CredentialInvalid):
        tokens.check_access_token(other.access_token(session_of()))


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_refused_as_a_token(keys: Keys, text: str) -> None:
    tokens = Tokens(keys, HandClock(), issuer="interlock", audience="interlock", lifetime_s=LIFETIME_S)
    with pytest.raises(CredentialRefused):
        tokens.check_access_token(text)
    with pytest.raises(CredentialRefused):
        tokens.check_refresh_token(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["alg", "kid", "typ", "sid", "sub", "epoch", "iss", "aud", "exp", "iat", "jti", "crit", "nbf"])


@given(in_header=st.dictionaries(FIELDS, JSON, max_size=2), in_claims=st.dictionaries(FIELDS, JSON, max_size=2))
def test_signed_headers_and_claims_are_refused_or_read_exactly(
    keys: Keys, in_header: dict[str, Any], in_claims: dict[str, Any]
) -> None:
    tokens = Tokens(keys, HandClock(), issuer="interlock", audience="interlock", lifetime_s=LIFETIME_S)
    header, claims = good(keys)
    token = signed(keys, {**header, **in_header}, {**claims, **in_claims})
    try:
        read = tokens.check_access_token(token)
    except CredentialRefused:
        return
    assert {**header, **in_header} == header
    known = {*claims, "nbf"}
    assert msgspec.to_builtins(read) == {k: v for k, v in {**claims, **in_claims}.items() if k in known}


@pytest.mark.asvs("9.1.1")
@given(place=st.integers(0, 10_000), character=st.characters(max_codepoint=0x7F))
def test_a_token_with_one_character_changed_is_refused(keys: Keys, place: int, character: str) -> None:
    tokens = Tokens(keys, HandClock(), issuer="interlock", audience="interlock", lifetime_s=LIFETIME_S)
    session = session_of()
    access, refresh = tokens.access_token(session), tokens.refresh_token(session)
    for token, check in ((access, tokens.check_access_token), (refresh, lambda t: check_refresh(tokens, t, session))):
        index = place % len(token)
        if token[index] == character:
            continue
        with pytest.raises(CredentialRefused):
            check(token[:index] + character + token[index + 1 :])


def check_refresh(tokens: Tokens, token: str, session: Session) -> int:
    """Return the rotation of ``token``, which must belong to ``session`` and its epoch."""
    parsed = tokens.check_refresh_token(token)
    assert (parsed.session_id, parsed.epoch) == (session.session_id, session.epoch)
    return parsed.rotation


@pytest.mark.asvs("7.2.4")
def test_a_refresh_token_is_a_function_of_session_epoch_and_rotation(tokens: Tokens, tmp_path: Path) -> None:
    story = Story(SID)
    story.begin()
    anonymous = tokens.refresh_token(story.session)
    assert check_refresh(tokens, anonymous, story.session) == 0
    assert anonymous.startswith(f"{SID}.0.0.")
    assert tokens.refresh_token(story.session) == anonymous, "nothing is drawn and nothing is stored"

    story.tell(Authenticate("ada", "password"))
    first = tokens.refresh_token(story.session)
    assert tokens.check_refresh_token(anonymous).epoch < story.session.epoch
    with pytest.raises(CredentialInvalid):
        tokens.check_refresh_token(anonymous.replace(".0.0.", ".1.0."))

    story.tell(Refresh(1, 0))
    assert check_refresh(tokens, tokens.refresh_token(story.session), story.session) == 1
    assert check_refresh(tokens, first, story.session) == 0, "what an old rotation means, the runtime judges"
    with pytest.raises(CredentialInvalid):
        tokens.check_refresh_token(first.replace(".1.0.", ".1.1."))
    with pytest.raises(CredentialInvalid):
        tokens.check_refresh_token(first.replace(SID, "1" * 36))

    elsewhere = Tokens(load_keys(tmp_path), HandClock(), issuer="interlock", audience="interlock", lifetime_s=1)
    with pytest.raises(CredentialInvalid):
        check_refresh(elsewhere, first, story.session)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t + "=",
        lambda t: t + "\n",
        lambda t: t.upper(),
        lambda t: t.replace(".0.", ".00."),
        lambda t: t.replace(".0.", ".-0."),
        lambda t: t.replace(".0.", ".\u0660."),
        lambda t: t.replace(".0.", "." + "9" * 17 + "."),
        lambda t: t[:-1],
        lambda t: t[1:],
        lambda t: t.rpartition(".")[0],
    ],
)
def test_a_refresh_token_has_exactly_one_encoding(tokens: Tokens, change: Callable[[str], str]) -> None:
    token = tokens.refresh_token(session_of())
    with pytest.raises(CredentialInvalid):
        check_refresh(tokens, change(token), session_of())
