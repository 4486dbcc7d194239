"""The measures of chapter 9: what a token must be to be believed."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_OURS: Final = "tests/server/test_tokens.py::"
_FORGED: Final = "tests/server/test_exchange_attacks.py::test_a_forged_token_is_refused"
_CLAIM: Final = "tests/server/test_exchange_attacks.py::test_a_claim_that_does_not_hold_is_refused"
_ATTACKS: Final = "tests/attacks/test_tokens.py::"

_STRICT_READING: Final = (
    "            header, claims = take_apart(token, _claims_decoder, typ=_TYPE, max_length=_MAX_TOKEN_LENGTH)\n"
    "        except Malformed:\n"
)
_SIGNATURE: Final = "not _es256.verify(signed.encode(), key.public, canonical_bytes(signature))\n"
_IMPORTS: Final = ("import msgspec\nfrom jwt.algorithms", "import jwt\nimport msgspec\nfrom jwt.algorithms")
_LENIENT_READING: Final = (
    '            read = jwt.decode_complete(token, options={"verify_signature": False})\n'
    '            header, claims = read["header"], msgspec.convert(read["payload"], Claims)\n'
    "        except (jwt.InvalidTokenError, msgspec.ValidationError):\n"
)

TOKENS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "nobody-looks-at-the-signature",
        "server/guard/tokens.py",
        "The claims of an access token are checked, and its signature is not.",
        "9.1.1",
        _OURS + "test_a_bad_access_token_is_refused[tampered claims]",
        "DID NOT RAISE",
        ((f"            {_SIGNATURE}            or claims.iss", "            claims.iss"),),
    ),
    Mutant(
        "a-refresh-token-without-its-mac",
        "server/guard/tokens.py",
        "A refresh token is taken for its session, whatever its MAC.",
        "9.1.1",
        _OURS + "test_a_token_with_one_character_changed_is_refused",
        "DID NOT RAISE",
        (
            (
                "        if not any(fits):\n",
                "        if not fits:\n",
            ),
        ),
    ),
    Mutant(
        "a-providers-signature-is-not-looked-at",
        "server/guard/oidc/upstream.py",
        "An ID token of which the provider has the key is believed without its signature.",
        "9.1.1",
        _FORGED + "[claims changed after they were signed]",
        "assert 200 == 401",
        ((" and _signed_with(key, token):", ":"),),
    ),
    Mutant(
        "no-algorithm-is-an-algorithm",
        "server/guard/tokens.py",
        "The library reads the header, and a token that says it is not signed needs no signature.",
        "9.1.2",
        _OURS + "test_a_bad_access_token_is_refused[alg none]",
        "DID NOT RAISE",
        (
            (_STRICT_READING, _LENIENT_READING),
            ("self._keys.verifying.get(header.kid)", 'self._keys.verifying.get(header["kid"])'),
            _IMPORTS,
            (f"            {_SIGNATURE}", f'            header["alg"] != "none"\n            and {_SIGNATURE}'),
        ),
    ),
    Mutant(
        "any-algorithm-may-be-set",
        "server/settings.py",
        "The setting takes whatever the library knows: symmetric algorithms, and none at all.",
        "9.1.2",
        "tests/server/test_settings.py::test_a_value_that_cannot_be_used_is_named",
        "DID NOT RAISE",
        (("        tuple[Algorithm, ...],\n", "        tuple[str, ...],\n"),),
    ),
    Mutant(
        "a-key-serves-any-algorithm",
        "server/guard/oidc/provider_keys.py",
        "A provider's key is used with an algorithm that it says it is not for.",
        "9.1.2",
        "tests/server/test_provider_keys.py::test_a_key_that_is_not_for_this_is_left_out_and_its_neighbours_are_not",
        "Extra items in the left set",
        (('        and row.get("alg", algorithm) == algorithm\n', ""),),
    ),
    Mutant(
        "the-providers-algorithms-are-not-looked-at",
        "server/guard/oidc/upstream.py",
        "What algorithm an ID token names is left to whoever has its key.",
        "9.1.2",
        "tests/server/test_exchange_attacks.py::"
        "test_a_token_that_could_never_be_good_is_refused_before_the_provider_is_asked",
        "provider.asked == []",
        (("if header.alg not in self._settings.upstream_algorithms:", "if not header.alg:"),),
    ),
    Mutant(
        "a-token-brings-its-key",
        "server/guard/tokens.py",
        "The library reads the header, and a key that it brings along is the key.",
        "9.1.3",
        _ATTACKS + "test_a_token_that_brings_its_key_or_says_where_to_get_it",
        "assert 200 == 401",
        (
            _IMPORTS,
            (_STRICT_READING, _LENIENT_READING),
            (
                "        key = self._keys.verifying.get(header.kid)\n",
                (
                    '        key = self._keys.verifying.get(header["kid"])\n'
                    '        if "jwk" in header:\n'
                    '            public = jwt.PyJWK(header["jwk"], ALGORITHM).key\n'
                    "            key = msgspec.structs.replace(key or self._keys.signing, public=public)\n"
                ),
            ),
        ),
    ),
    Mutant(
        "an-address-of-a-key-is-passed-over",
        "server/guard/keys/jose.py",
        "A header may say where to get a key; for now nobody asks there.",
        "9.1.3",
        _OURS + "test_a_bad_access_token_is_refused[an address of a key]",
        "DID NOT RAISE",
        (("class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):", "class Header(msgspec.Struct):"),),
    ),
    Mutant(
        "an-id-token-brings-its-key",
        "server/guard/oidc/upstream.py",
        "An ID token is checked with the key in its own header, if it has one.",
        "9.1.3",
        _FORGED + "[a key brought along]",
        "assert 200 == 401",
        (
            (" or _SENT_KEYS & header_members.keys()", ""),
            (
                "            key = await keys.find(kid, header.alg, other_than=key)\n",
                (
                    "            key = await keys.find(kid, header.alg, other_than=key)\n"
                    '            if "jwk" in (members := _members(token.partition(".")[0])):\n'
                    '                key = jwt.PyJWK(members["jwk"], header.alg)\n'
                ),
            ),
        ),
    ),
    Mutant(
        "keys-come-from-anywhere",
        "server/guard/oidc/provider_keys.py",
        "The discovery document may send the server to any address for the keys, over plain HTTP, too.",
        "9.1.3",
        "tests/server/test_provider_keys.py::test_what_is_no_key_set_leaves_the_keys_as_they_were"
        "[keys over plain HTTP from no loopback address, though it leads here]",
        "DID NOT RAISE",
        ((" or not isinstance(uri, str) or not self._allowed(uri):", " or not isinstance(uri, str):"),),
    ),
    Mutant(
        "one-provider-speaks-for-another",
        "server/guard/oidc/provider_keys.py",
        "Nobody looks whose discovery document it is.",
        "9.1.3",
        "tests/server/test_provider_keys.py::test_what_is_no_key_set_leaves_the_keys_as_they_were"
        "[discovery of another issuer]",
        "DID NOT RAISE",
        (('if document.get("issuer") != self._issuer or not isinstance', "if not isinstance"),),
    ),
    Mutant(
        "access-tokens-never-expire",
        "server/guard/tokens.py",
        "An access token is taken after its time.",
        "9.2.1",
        _OURS + "test_clocks_may_differ_by_a_minute_and_expiry_is_exact",
        "DID NOT RAISE",
        (("        if self._clock.now_ms() >= claims.exp * 1000:\n", "        if claims.exp <= 0:\n"),),
    ),
    Mutant(
        "what-was-checked-once-never-expires",
        "server/guard/tokens.py",
        "The expiry of a token is looked at along with its signature, which is remembered.",
        "9.2.1",
        _OURS + "test_it_expires_on_the_second_also_when_it_was_checked_before",
        "DID NOT RAISE",
        (
            (
                "        claims = self._verified.get(token)\n",
                "        claims = self._verified.get(token)\n        if claims is not None:\n            return claims\n",
            ),
        ),
    ),
    Mutant(
        "a-token-whose-time-has-not-come",
        "server/guard/tokens.py",
        "Nobody looks at `nbf`.",
        "9.2.1",
        _ATTACKS + "test_a_token_that_expired_a_second_ago_or_is_not_yet_or_too_long_good",
        "assert 200 == 401",
        ((" or (claims.nbf is not UNSET and claims.nbf > latest_s):", ":"),),
    ),
    Mutant(
        "the-wall-clock-judges-tokens",
        "server/guard/tokens.py",
        "Expiry is judged by the wall clock, which may have been set back, and not by the server's own.",
        "9.2.1",
        "tests/faults/test_clock.py::test_a_token_is_judged_by_the_servers_own_clock",
        'problem(await client.http.get("/api/session", headers=old), 401, "token-expired")',
        (
            ("import re\nfrom typing", "import re\nimport time\nfrom typing"),
            ("        if self._clock.now_ms() >= claims.exp * 1000:\n", "        if time.time() >= claims.exp:\n"),
        ),
    ),
    Mutant(
        "an-old-id-token-is-taken",
        "server/guard/oidc/upstream.py",
        "An ID token is taken after its time.",
        "9.2.1",
        _CLAIM + "[expired by a second]",
        "assert 200 == 401",
        (("now_s >= until_s,", "now_s >= until_s + settings.upstream_token_age_s,"),),
    ),
    Mutant(
        "what-the-key-signed-is-an-access-token",
        "server/guard/keys/jose.py",
        "Nobody looks for what a token that the server's key signed was made.",
        "9.2.2",
        _OURS + "test_a_bad_access_token_is_refused[another typ]",
        "DID NOT RAISE",
        ((" or header.typ != typ:", ":"),),
    ),
    Mutant(
        "an-access-token-of-the-providers-opens-a-session",
        "server/guard/oidc/upstream.py",
        "For a login any token that the provider signed for us is taken, whatever its header calls it.",
        "9.2.2",
        _FORGED + "[an access token]",
        "assert 200 == 401",
        (('if (header.typ or "JWT").upper() != "JWT" or _SENT_KEYS', "if _SENT_KEYS"),),
    ),
    Mutant(
        "keycloaks-access-token-opens-a-session",
        "server/guard/oidc/upstream.py",
        "The claim by which Keycloak tells its access tokens from ID tokens is not looked at.",
        "9.2.2",
        _CLAIM,
        "assert 200 == 401",
        (('    typ: Literal["ID"] | None = None\n', ""),),
    ),
    Mutant(
        "tokens-for-everybody",
        "server/guard/tokens.py",
        "The audience of an access token is not compared with the server's.",
        "9.2.3",
        _OURS + "test_a_bad_access_token_is_refused[another audience]",
        "DID NOT RAISE",
        (("            or claims.aud != self._audience\n", ""),),
    ),
    Mutant(
        "one-audience-of-ours-is-enough",
        "server/guard/oidc/upstream.py",
        "An ID token for us and for somebody else is taken.",
        "9.2.3",
        _CLAIM,
        "assert 200 == 401",
        (
            (
                "not audiences <= set(settings.upstream_audiences),",
                "audiences.isdisjoint(settings.upstream_audiences),",
            ),
        ),
    ),
    Mutant(
        "tokens-do-not-say-for-whom-they-are",
        "server/guard/tokens.py",
        "Access tokens have no audience, and this server asks for none.",
        "9.2.4",
        _OURS + "test_an_access_token_says_whose_it_is_and_any_library_can_check_it",
        'missing the "aud" claim',
        (
            ("    iss: str\n    aud: str\n    client", "    iss: str\n    client"),
            ("            aud=self._audience,\n", ""),
            ("            or claims.aud != self._audience\n", ""),
        ),
    ),
    Mutant(
        "a-head-is-called-an-access-token",
        "server/guard/keys/heads.py",
        "The head of the log, which the same key signs, has the type of access tokens.",
        "9.2.4",
        "tests/server/test_heads.py::test_anybody_with_the_jwks_can_check_it",
        "interlock-head+jwt",
        (('_TYPE: Final = "interlock-head+jwt"', '_TYPE: Final = "at+jwt"'),),
    ),
)
