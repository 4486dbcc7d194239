"""The measures of chapters 3 and 14: what browsers are owed, and what secrets are."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_COOKIES: Final = "tests/server/test_cookies.py::"
_EVERY_COOKIE: Final = _COOKIES + "test_every_cookie_is_for_this_host_over_tls_and_for_no_script_and_no_other_site"
_IN_A_COOKIE: Final = _COOKIES + "test_the_refresh_token_is_in_a_cookie_that_scripts_cannot_read_and_nowhere_else"
_FOREIGN_PAGE: Final = _COOKIES + "test_a_foreign_page_is_refused_and_changes_nothing"
_HEADERS: Final = "tests/server/test_headers.py::"
_CAREFUL: Final = _HEADERS + "test_every_answer_tells_a_browser_to_be_careful"
_FORWARD_AUTH: Final = "tests/server/test_forward_auth.py::"
_ANSWERS: Final = "server/experience/answers.py"
_SENT: Final = "server/experience/middleware/headers.py"
_CREDENTIALS: Final = "server/experience/credentials.py"
_ORIGINS: Final = "server/experience/origins.py"
_GATE: Final = "server/experience/endpoints/forward_auth.py"
_DEVICE: Final = "server/experience/admission.py"
_EXCHANGE: Final = "server/experience/transport/exchange.py"

WEB: Final[tuple[Mutant, ...]] = (
    Mutant(
        "the-session-cookie-goes-without-tls",
        _ANSWERS,
        "The session's cookie is not Secure.",
        "3.3.1",
        _EVERY_COOKIE,
        'assert morsel["secure"]',
        (("secure=True, httponly=True", "secure=False, httponly=True"),),
    ),
    Mutant(
        "the-device-cookie-goes-without-tls",
        _DEVICE,
        "The cookie of a known device is not Secure.",
        "3.3.1",
        _EVERY_COOKIE,
        'assert morsel["secure"]',
        (("        secure=True,\n", ""),),
    ),
    Mutant(
        "links-of-other-sites-carry-the-session-cookie",
        _ANSWERS,
        "The session's cookie is SameSite=lax, so that links of other sites carry it.",
        "3.3.2",
        _EVERY_COOKIE,
        "assert 'lax' == 'strict'",
        (('samesite="strict"', 'samesite="lax"'),),
    ),
    Mutant(
        "links-of-other-sites-carry-the-device-cookie",
        _DEVICE,
        "The cookie of a known device is SameSite=lax.",
        "3.3.2",
        _EVERY_COOKIE,
        "assert 'lax' == 'strict'",
        (('        samesite="strict",\n', '        samesite="lax",\n'),),
    ),
    Mutant(
        "the-session-cookie-is-for-all-hosts-of-a-domain",
        _ANSWERS,
        "The session's cookie has a Domain, so that sibling hosts get it, too.",
        "3.3.3",
        _EVERY_COOKIE,
        '== ("/", "")',
        (('path="/", secure=True', 'path="/", domain="example.org", secure=True'),),
    ),
    Mutant(
        "the-device-cookie-has-a-plain-name",
        _DEVICE,
        "The name of a known device's cookie lets sibling hosts plant one.",
        "3.3.3",
        _EVERY_COOKIE,
        "'interlock-device'",
        (('"__Host-interlock-device"', '"interlock-device"'),),
    ),
    Mutant(
        "a-planted-cookie-counts",
        _CREDENTIALS,
        "What Python takes for white space before a cookie's name is none of the name, so sibling hosts plant one.",
        "3.3.3",
        _COOKIES + "test_all_that_ask_for_the_cookie_mean_the_only_one_of_its_exact_name",
        "assert [200, 200, 204] == [401, 401, 401]",
        (('pair.strip(b" \\t")', 'pair.strip(b" \\t\\x85\\xa0")'),),
    ),
    Mutant(
        "scripts-read-the-session-cookie",
        _ANSWERS,
        "The session's cookie is not HttpOnly.",
        "3.3.4",
        _EVERY_COOKIE,
        'assert morsel["httponly"]',
        (("httponly=True", "httponly=False"),),
    ),
    Mutant(
        "pages-find-the-refresh-token-in-the-body",
        _ANSWERS,
        "A page gets its refresh token in the answer's body, besides the cookie.",
        "3.3.4",
        _IN_A_COOKIE,
        'assert "refresh_token" not in answer.json()',
        (("refresh_token=UNSET if in_cookie else refresh_token,", "refresh_token=refresh_token,"),),
    ),
    Mutant(
        "a-device-cookie-of-four-thousand-bytes",
        "server/guard/throttling/devices.py",
        "A known device's cookie holds 4,096 random bytes, more than browsers keep.",
        "3.3.5",
        _EVERY_COOKIE,
        "<= 4096",
        (("_NONCE_BYTES: Final = 16\n", "_NONCE_BYTES: Final = 4096\n"),),
    ),
    Mutant(
        "https-is-remembered-for-a-day",
        _SENT,
        "Strict-Transport-Security holds for one day.",
        "3.4.1",
        _CAREFUL,
        "assert int(hsts[1]) >= 365 * 86_400",
        (("max-age=63072000", "max-age=86400"),),
    ),
    Mutant(
        "https-is-remembered-for-one-host",
        _SENT,
        "Strict-Transport-Security leaves subdomains out.",
        "3.4.1",
        _CAREFUL,
        "assert hsts, where",
        (("max-age=63072000; includeSubDomains", "max-age=63072000"),),
    ),
    Mutant(
        "what-is-no-http-is-answered-without-headers",
        _EXCHANGE,
        "An answer that ends the connection, as every one to what is no HTTP does, has none of the headers for browsers.",
        "3.4.1",
        _CAREFUL,
        "assert hsts, where",
        (("block, _SECURITY, no_store", 'block, _SECURITY if self._keep_alive else b"", no_store'),),
    ),
    Mutant(
        "any-origin-reads-answers",
        _SENT,
        "Access-Control-Allow-Origin is whatever Origin the request names.",
        "3.4.2",
        _HEADERS + "test_a_page_of_another_origin_may_read_nothing[https://evil.example]",
        'name.startswith("access-control-")',
        (("    if origin is None or origin not in allowed:\n", "    if origin is None:\n"),),
    ),
    Mutant(
        "origins-that-begin-alike-read-answers",
        _SENT,
        "An origin is allowed if it begins like one that is.",
        "3.4.2",
        _HEADERS + "test_a_page_of_another_origin_may_read_nothing[https://app.example.evil.example]",
        'name.startswith("access-control-")',
        (("origin not in allowed:", "not any(origin.startswith(each) for each in allowed):"),),
    ),
    Mutant(
        "browsers-guess-types",
        _SENT,
        "No answer says nosniff.",
        "3.4.4",
        _CAREFUL,
        "x-content-type-options, once",
        (('    (b"x-content-type-options", b"nosniff"),\n', ""),),
    ),
    Mutant(
        "a-handshake-that-is-none-is-answered-without-headers",
        _EXCHANGE,
        "A WebSocket handshake is refused without the headers for browsers.",
        "3.4.4",
        _CAREFUL,
        "AssertionError: 403 ",
        (("block, _SECURITY, no_store", 'block, b"" if self.request.offers_upgrade else _SECURITY, no_store'),),
    ),
    Mutant(
        "addresses-go-to-third-parties",
        _SENT,
        "Browsers tell other sites the whole address that they came from.",
        "3.4.5",
        _CAREFUL,
        "referrer-policy, once",
        (('b"no-referrer"', 'b"unsafe-url"'),),
    ),
    Mutant(
        "anybody-frames-answers",
        _SENT,
        "The Content-Security-Policy says default-src alone, which framing does not heed.",
        "3.4.6",
        _CAREFUL,
        "content-security-policy, once",
        (("default-src 'none'; frame-ancestors 'none'", "default-src 'none'"),),
    ),
    Mutant(
        "nobody-asks-which-page-calls",
        "server/experience/calls.py",
        "Calls that use the cookie don't look at the Origin.",
        "3.5.1",
        _FOREIGN_PAGE + "[https://evil.example-/api/auth/logout]",
        "== 403",
        (("    refuse_foreign(Use.CALL, connection.scope, services.settings.origins)\n", ""),),
    ),
    Mutant(
        "the-exchange-does-not-ask-which-page-calls",
        "server/experience/endpoints/exchange.py",
        "The exchange of an ID token, added later, forgets to look at the Origin.",
        "3.5.1",
        _FOREIGN_PAGE + "[https://evil.example-/api/auth/exchange]",
        "== 403",
        (("guards=[own_page, admitted(", "guards=[admitted("),),
    ),
    Mutant(
        "a-page-without-an-origin-is-no-page",
        _ORIGINS,
        "Without an Origin nobody looks at Sec-Fetch-Site.",
        "3.5.1",
        _COOKIES + "test_a_page_without_an_origin_is_told_by_its_site",
        "== 403",
        (("        return None if site is None else _ELSEWHERE\n", "        return None\n"),),
    ),
    Mutant(
        "forward-auth-does-not-ask-which-page-calls",
        _GATE,
        "The gate takes the cookie with the Origin of any page.",
        "3.5.1",
        _FORWARD_AUTH + "test_the_origin_of_the_page_decides",
        "assert (answer.status_code == 200) == passes",
        (("        refuse_foreign(Use.APPLICATION, scope, self._services.settings.origins)\n", ""),),
    ),
    Mutant(
        "any-body-is-json",
        "server/experience/middleware/requests.py",
        "A body is read as JSON whatever its Content-Type, so that other sites' forms can send one.",
        "3.5.2",
        "tests/server/test_bad_requests.py::test_a_body_that_does_not_say_it_is_json",
        "assert 201 == 415",
        (
            (
                (
                    '        if len(self.headers.get("content-type", "")) > _CONTENT_TYPE'
                    ' or self.content_type[0] != "application/json":\n'
                    '            raise RequestRefused(415, "send Content-Type: application/json")\n'
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "a-link-logs-out",
        "server/experience/endpoints/auth.py",
        "A GET logs out, too, for a link on the page.",
        "3.5.3",
        "tests/server/test_bad_requests.py::test_a_wrong_method_is_told_the_right_ones[/api/auth/logout]",
        "{'GET', 'POST'} == {'POST'}",
        (
            ("from litestar import Request, Response, post\n", "from litestar import Request, Response, get, post\n"),
            (
                "login, refresh, logout, change_password]\n",
                (
                    "login, refresh, logout, change_password]\n\n\n"
                    '@get("/api/auth/logout", status_code=204)\n'
                    "async def leave(request: Request[Any, Any, Any]) -> Response[None]:\n"
                    '    """Log out by a link."""\n'
                    "    return await logout.fn(request)\n\n\n"
                    "HANDLERS.append(leave)\n"
                ),
            ),
        ),
    ),
    Mutant(
        "anybody-embeds-answers",
        _SENT,
        "Cross-Origin-Resource-Policy lets every site embed answers.",
        "3.5.8",
        _CAREFUL,
        "cross-origin-resource-policy, once",
        (('(b"cross-origin-resource-policy", b"same-origin")', '(b"cross-origin-resource-policy", b"cross-origin")'),),
    ),
    Mutant(
        "the-gate-lets-embeddings-through",
        _ORIGINS,
        "The gate takes every read with the cookie for a visit, also a frame's and a picture's.",
        "3.5.8",
        _FORWARD_AUTH + "test_without_an_origin_the_site_decides",
        "assert (answer.status_code == 200) == passes",
        (("    return None if site is None or visit else _ELSEWHERE\n", "    return None\n"),),
    ),
    Mutant(
        "a-token-in-the-address-counts",
        _CREDENTIALS,
        "Without Authorization the access token is taken from the query, as RFC 6750 once allowed.",
        "14.2.1",
        _HEADERS + "test_a_token_in_the_address_opens_nothing",
        "assert 200 == 401",
        (
            (
                "from typing import Any, Final, TypeVar\n",
                "from typing import Any, Final, TypeVar\nfrom urllib.parse import parse_qs\n",
            ),
            (
                '    for key, value in scope["headers"]:\n        if key == b"authorization":\n',
                (
                    '    if named := parse_qs(scope["query_string"].decode("latin-1")).get("access_token"):\n'
                    "        return named[0]\n"
                    '    for key, value in scope["headers"]:\n        if key == b"authorization":\n'
                ),
            ),
        ),
    ),
    Mutant(
        "a-ticket-in-the-address-is-passed-over",
        "server/experience/middleware/queries.py",
        "What stands in the address of the WebSocket, such as a ticket, is passed over.",
        "14.2.1",
        "tests/server/test_bad_sockets.py::test_a_token_in_the_address_is_no_credential",
        "DID NOT RAISE",
        (
            (
                '    if not query or scope["method"] == "OPTIONS":\n',
                '    if not query or scope["method"] == "OPTIONS" or scope["path_template"] == "/api/connect":\n',
            ),
        ),
    ),
    Mutant(
        "what-no-call-takes-may-be-in-the-address",
        "server/experience/middleware/queries.py",
        "A query parameter that no call takes, such as a refresh token, is passed over.",
        "14.2.1",
        _HEADERS + "test_a_token_in_the_address_opens_nothing",
        "assert 401 == 400",
        (("    if not taken.keys() >= set(names):\n", "    if taken and not taken.keys() >= set(names):\n"),),
    ),
    Mutant(
        "a-logout-leaves-the-cookie",
        "server/experience/endpoints/auth.py",
        "A logout does not remove the cookie.",
        "14.3.1",
        _COOKIES + "test_logout_by_cookie_ends_the_session_and_clears_the_cookie",
        "KeyError: '__Host-interlock'",
        (("        answer.cookies += jar.clearing_cookies(found)\n", "        pass\n"),),
    ),
    Mutant(
        "a-logout-leaves-what-pages-kept",
        "server/experience/endpoints/auth.py",
        "A logout does not have the browser clear what the origin's pages kept.",
        "14.3.1",
        _HEADERS + "test_logout_clears_what_pages_of_the_origin_kept",
        "clear-site-data",
        (('        answer.headers["clear-site-data"] = \'"cache", "storage"\'\n', "        pass\n"),),
    ),
    Mutant(
        "browsers-and-proxies-keep-answers",
        _EXCHANGE,
        "Answers say nothing about caches.",
        "14.3.2",
        _HEADERS + "test_nothing_is_kept_in_a_cache_but_the_public_keys",
        '["public, max-age=300" if keys else "no-store"]',
        (("_NO_STORE: Final = header_block([NO_STORE])\n", '_NO_STORE: Final = b""\n'),),
    ),
    Mutant(
        "what-the-gate-says-is-kept",
        _GATE,
        "What the gate says of somebody may be kept for a minute.",
        "14.3.2",
        _HEADERS + "test_nothing_is_kept_in_a_cache_but_the_public_keys",
        '["public, max-age=300" if keys else "no-store"]',
        (
            (
                '        (b"content-length", b"0"),\n    ]\n',
                '        (b"content-length", b"0"),\n        (b"cache-control", b"private, max-age=60"),\n    ]\n',
            ),
        ),
    ),
)
