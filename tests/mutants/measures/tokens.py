"""Removed measures for requirements of ASVS chapters 9, 10 and 11."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, in_text, replace
from tests.mutants.mutant import Mutant

TOKENS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "The claims of an access token are checked, and its signature is not.",
        "9.1.1",
        "test_a_bad_access_token_is_refused[tampered claims]",
        at("tokens:Tokens._verify", drop("not _es256.verify(signed.encode(), key.public, canonical_bytes(signature))")),
    ),
    Mutant(
        "A refresh token is taken for its session, whatever its MAC.",
        "9.1.1",
        "test_a_token_with_one_character_changed_is_refused",
        at("tokens:Tokens.check_refresh_token", replace("any(fits)", "fits")),
    ),
    Mutant(
        "An access token is taken whatever algorithm its header names.",
        "9.1.2",
        "test_a_bad_access_token_is_refused[alg none with a signature]",
        at("jose:take_apart", drop("header.alg != ALGORITHM")),
    ),
    Mutant(
        "A provider's key is used with an algorithm that it says it is not for.",
        "9.1.2",
        "test_only_unsuitable_keys_are_left_out_of_a_key_set",
        at("provider_keys:_key", drop("row.get('alg', algorithm) == algorithm")),
    ),
    Mutant(
        "An ID token is checked with the key in its own header, if it has one.",
        "9.1.3",
        "test_a_forged_id_token_is_refused[a key brought along]",
        at("id_tokens:IdTokens.check", drop("_SENT_KEYS & header_members.keys()"))
        + at(
            "id_tokens:IdTokens._check_signature",
            replace(
                "if key is not None and _signed_with(key, token):\n    ...",
                """
                if 'jwk' in (members := _members(token.partition('.')[0])):
                    key = jwt.PyJWK(members['jwk'], header.alg)
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "The discovery document may send the server to any address for the keys, over plain HTTP, too.",
        "9.1.3",
        "test_an_invalid_key_set_does_not_change_the_keys[keys over plain HTTP from no loopback address]",
        at("provider_keys:ProviderKeys._discover", drop("not self._allowed(uri)")),
    ),
    Mutant(
        "The expiry of a token is looked at along with its signature, which is remembered.",
        "9.2.1",
        "test_an_access_token_expires_on_the_second_even_if_cached",
        at(
            "tokens:Tokens.check_access_token",
            replace("if claims is None:\n    ...", "if claims is not None:\n    return claims\n..."),
        ),
    ),
    Mutant(
        "Expiry is judged by the wall clock, which may have been set back, and not by the server's own.",
        "9.2.1",
        "test_tokens_expire_by_the_servers_own_clock",
        at(
            "tokens:Tokens.check_access_token",
            replace("self._clock.now_ms() >= claims.exp * 1000", "__import__('time').time() >= claims.exp"),
        ),
    ),
    Mutant(
        "Nobody looks for what a token that the server's key signed was made.",
        "9.2.2",
        "test_a_bad_access_token_is_refused[another typ]",
        at("jose:take_apart", replace("header.alg != ALGORITHM or header.typ != typ", "header.alg != ALGORITHM")),
    ),
    Mutant(
        "The claim by which Keycloak tells its access tokens from ID tokens is not looked at.",
        "9.2.2",
        "test_an_id_token_with_a_wrong_claim_is_refused",
        at("id_tokens:Claims", drop("typ: ... = None")),
    ),
    Mutant(
        "An ID token for us and for somebody else is taken.",
        "9.2.3",
        "test_an_id_token_with_a_wrong_claim_is_refused",
        at(
            "id_tokens:IdTokens._check_claims",
            replace("not audiences <= set(settings.oidc_audiences)", "audiences.isdisjoint(settings.oidc_audiences)"),
        ),
    ),
    Mutant(
        "The head of the log, which the same key signs, has the type of access tokens.",
        "9.2.4",
        "test_a_head_can_be_verified_with_the_jwks",
        at("heads:_TYPE", replace("'interlock-head+jwt'", "'at+jwt'")),
    ),
    Mutant(
        "The nginx of the guide hands on every cookie to the pages for everybody, which the application makes.",
        "10.1.1",
        "test_the_application_gets_its_own_cookies_and_no_token[nginx]",
        at(
            "docs/how-to/behind-nginx.md",
            in_text(
                'X-Session-State ""; proxy_set_header Authorization ""; proxy_set_header Cookie $other_cookies;',
                'X-Session-State ""; proxy_set_header Authorization "";',
            ),
        ),
    ),
    Mutant(
        "The Caddy of the guide takes the cookie away only where it is the first.",
        "10.1.1",
        "test_the_application_gets_its_own_cookies_and_no_token[caddy]",
        at("docs/how-to/behind-caddy.md", in_text("()__Host-interlock=", "^()__Host-interlock=")),
    ),
    Mutant(
        "Any token of the provider is exchanged, an access token, too.",
        "10.3.1",
        "test_an_id_token_with_a_wrong_claim_is_refused[an access token of Cognito's]",
        at("id_tokens:Claims", drop("token_use: ... = None")),
    ),
    Mutant(
        "Where the session is in memory the forward-auth call does not compare the token's subject with it.",
        "10.3.2",
        "test_claims_that_differ_from_the_session_are_refused",
        at("forward_auth:ForwardAuth.cached_decision", drop("claims.sub != subject_of(session)")),
    ),
    Mutant(
        "An account is found by the subject alone, whichever provider speaks of it.",
        "10.3.3",
        "test_the_same_subject_at_another_issuer_is_another_account",
        at(
            "accounts:_OF_IDENTITY",
            in_text("(issuer, subject) = (?, ?)", "? <> '' AND subject = ?"),
        ),
    ),
    Mutant(
        "A token that does not say when its owner logged in is taken for one of just now.",
        "10.3.4",
        "test_an_id_token_with_a_wrong_claim_is_refused[a login nobody knows when]",
        at(
            "id_tokens:IdTokens._check_claims",
            replace(
                "auth_time_s is None or now_s > auth_time_s + settings.oidc_auth_age_s",
                "now_s > (auth_time_s or now_s) + settings.oidc_auth_age_s",
            ),
        ),
    ),
    Mutant(
        "A refresh token that was exchanged before is refused, and the session goes on.",
        "10.4.5",
        "test_a_refresh_token_is_exchanged_repeated_and_detected_as_reuse",
        at("sessions:Sessions.refresh", replace("epoch != session.epoch", "session.subject")),
    ),
    Mutant(
        "A refresh moves the absolute deadline, and with it the end of the refresh tokens.",
        "10.4.8",
        "test_refresh_tokens_end_with_the_session_however_often_exchanged",
        at(
            "session:_refreshed",
            replace(
                "refresh_tokens=...", "**..., absolute_deadline_ms=step.at_ms + session.policy.absolute_timeout_ms"
            ),
        ),
    ),
    Mutant(
        "Of their sessions people find, and may end, the one that they are asking with.",
        "10.4.9",
        "test_a_recent_login_can_end_other_sessions",
        at(
            "sessions:_own_session",
            replace(
                "session.subject is not None and session.subject == own.subject", "session.session_id == own.session_id"
            ),
        ),
    ),
    Mutant(
        "A client may show another client's secret.",
        "10.4.10",
        "test_only_registered_clients_may_introspect_and_revoke",
        at(
            "oauth:authenticate_client",
            replace("client is None or client.name != name", "client is None"),
        ),
    ),
    Mutant(
        "A new key signs before everybody has had the time that the guide promises to fetch it.",
        "11.1.1",
        "test_the_overlap_of_keys_in_the_guide_matches_the_code",
        at("rotation:ANNOUNCED_MS", replace("2 * JWKS_MAX_AGE_S", "JWKS_MAX_AGE_S")),
    ),
    Mutant(
        "With a new MAC key everybody is logged out: refresh tokens of the old one are not taken.",
        "11.2.2",
        "test_refresh_tokens_outlive_the_rotation_of_their_key",
        at("keyset:assemble", replace("tuple((key.secret for key in refresh))", "(current(refresh, now_ms).secret,)")),
    ),
    Mutant(
        "What a key signed that is gone is remembered as good.",
        "11.2.2",
        "test_a_compromised_keys_tokens_are_void_at_once",
        at("tokens:Tokens.use", drop("self._verified.clear()")),
    ),
    Mutant(
        "A password's hash stays as it was made, whatever is set since.",
        "11.2.2",
        "test_a_login_replaces_a_hash_with_older_parameters",
        at(
            "hashing:Passwords.is_outdated",
            replace("self._hasher.check_needs_rehash(password_hash)", "not password_hash"),
        ),
    ),
    Mutant(
        "Device cookies are made and checked with the keys that there were at the start, whatever becomes of them.",
        "11.2.2",
        "test_a_device_is_known_while_its_cookies_key_is_kept",
        at("wiring:_assemble", replace("lambda: ring.keys", "lambda keys=ring.keys: keys")),
    ),
    Mutant(
        "A provider's RSA key of 1024 bits is taken.",
        "11.2.3",
        "test_only_unsuitable_keys_are_left_out_of_a_key_set",
        at("provider_keys:_RSA_BITS", replace("2048", "1024")),
    ),
    Mutant(
        "Passwords are hashed with one pass, whatever is set.",
        "11.4.2",
        "test_hashes_are_argon2id_with_the_set_parameters_and_their_own_salt",
        at("hashing:Passwords.__init__", replace("iterations", "1")),
    ),
    Mutant(
        "Session ids are drawn from a generator that whoever has seen a few of them can go on with.",
        "11.5.1",
        "test_unguessable_values_have_128_bits_from_no_seedable_generator[session id]",
        at("ids:new_session_id", replace("secrets.token_bytes", "__import__('random').randbytes")),
    ),
    Mutant(
        "What tells devices apart is drawn from a generator that can be wound back.",
        "11.5.1",
        "test_unguessable_values_have_128_bits_from_no_seedable_generator[device cookie]",
        at("devices:Devices.issue", replace("secrets.token_bytes", "__import__('random').randbytes")),
    ),
)
