"""Removed measures for requirements of ASVS chapters 3, 4 and 14."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, in_text, replace
from tests.mutants.mutant import Mutant

WEB: Final[tuple[Mutant, ...]] = (
    Mutant(
        "The cookie of a known device is not Secure.",
        "3.3.1",
        "test_every_cookie_is_host_only_secure_http_only_and_same_site",
        at("cookies:_cookie", drop("secure=True")),
    ),
    Mutant(
        "The cookie of a known device is SameSite=lax.",
        "3.3.2",
        "test_every_cookie_is_host_only_secure_http_only_and_same_site",
        at("cookies:_cookie", replace("'strict'", "'lax'")),
    ),
    Mutant(
        "What Python takes for white space before a cookie's name is none of the name, so sibling hosts plant one.",
        "3.3.3",
        "test_every_endpoint_reads_only_a_unique_cookie_of_the_exact_name",
        at("credentials:cookie_named", replace("b' \\t'", "b' \\t\\x85\\xa0'")),
    ),
    Mutant(
        "A page gets its refresh token in the answer's body, besides the cookie.",
        "3.3.4",
        "test_a_pages_refresh_token_is_only_in_an_http_only_cookie",
        at("cookies:token_response", replace("UNSET if shown.by_page else refresh_token", "refresh_token")),
    ),
    Mutant(
        "A known device's cookie holds 4,096 random bytes, more than browsers keep.",
        "3.3.5",
        "test_every_cookie_is_host_only_secure_http_only_and_same_site",
        at("devices:_NONCE_BYTES", replace("16", "4096")),
    ),
    Mutant(
        "An answer that ends the connection, as every one to what is no HTTP does, has none of the headers for browsers.",
        "3.4.1",
        "test_every_response_has_the_security_headers",
        at("exchange:Exchange._head_of", replace("security", "security if self._keep_alive else b''")),
    ),
    Mutant(
        "An origin is allowed if it begins like one that is.",
        "3.4.2",
        "test_a_page_of_another_origin_may_read_nothing[https://app.example.evil.example]",
        at(
            "headers:_cross_origin",
            replace("origin not in allowed", "not any((origin.startswith(each) for each in allowed))"),
        ),
    ),
    Mutant(
        "A WebSocket handshake is refused without the headers for browsers.",
        "3.4.4",
        "test_every_response_has_the_security_headers",
        at("exchange:Exchange._head_of", replace("security", "b'' if self.request.offers_upgrade else security")),
    ),
    Mutant(
        "Browsers tell other sites the whole address that they came from.",
        "3.4.5",
        "test_every_response_has_the_security_headers",
        at("headers:SECURITY", replace("b'no-referrer'", "b'unsafe-url'")),
    ),
    Mutant(
        "The Content-Security-Policy says default-src alone, which framing does not heed.",
        "3.4.6",
        "test_every_response_has_the_security_headers",
        at("headers:NO_DOCUMENT", in_text("; frame-ancestors 'none'", "")),
    ),
    Mutant(
        "The exchange of an ID token, added later, forgets to look at the Origin.",
        "3.5.1",
        "test_a_foreign_page_is_refused_and_changes_nothing[https://evil.example-/api/auth/exchange]",
        at("exchange:exchange_id_token", drop("own_page")),
    ),
    Mutant(
        "Without an Origin nobody looks at Sec-Fetch-Site.",
        "3.5.1",
        "test_a_page_without_origin_is_judged_by_sec_fetch_site",
        at("origins:_why_without_origin", replace("None if site is None else _ELSEWHERE", "None")),
    ),
    Mutant(
        "A body is read as JSON whatever its Content-Type, so that other sites' forms can send one.",
        "3.5.2",
        "test_a_body_not_declared_as_json_is_refused",
        at("requests:JsonRequest.json", drop("if len(...) > _CONTENT_TYPE or ...:\n    ...")),
    ),
    Mutant(
        "A GET logs out, too, for a link on the page.",
        "3.5.3",
        "test_a_wrong_method_gets_405_with_the_allowed_ones[/api/auth/logout]",
        at(
            "auth:HANDLERS",
            replace("[register, ...]", "[*..., leave]"),
            replace(
                "HANDLERS: ... = ...",
                """
                @__import__('litestar').get('/api/auth/logout', status_code=204, include_in_schema=False)
                async def leave(request: Request[Any, Any, Any]) -> Response[None]:
                    return await logout.fn(request)
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "The gate takes every read with the cookie for a visit, also a frame's and a picture's.",
        "3.5.8",
        "test_forward_auth_without_an_origin_judges_by_the_site",
        at("origins:_why_without_origin", replace("None if site is None or visit else _ELSEWHERE", "None")),
    ),
    Mutant(
        "The answer that is given below the application has a body and no Content-Type.",
        "4.1.1",
        "test_a_body_has_its_content_type_and_text_its_charset",
        at(
            "http:_respond",
            replace(
                "exchange.respond(problem.status, *problem_content(problem))",
                "headers, body = problem_content(problem)\nexchange.respond(problem.status, headers[1:], body)",
            ),
        ),
    ),
    Mutant(
        "Whatever came to the proxy without TLS is redirected to HTTPS, so that no program notices its mistake.",
        "4.1.2",
        "test_no_http_request_is_redirected",
        at(
            "instrumentation:InstrumentedApp.__call__",
            replace(
                "services = self.services",
                """
                if header(scope, b'x-forwarded-proto') == 'http':
                    await send({'type': 'http.response.start', 'status': 308, 'headers': [(b'location', b'https://app.example/')]})
                    await send({'type': 'http.response.body', 'body': b''})
                    return
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "The forwarded addresses are read from the left, where the client writes what it likes.",
        "4.1.3",
        "test_the_last_untrusted_hop_is_the_client",
        at(
            "addresses:Addresses.client",
            replace(
                "reversed(line.rsplit(',', _HOPS)[-_HOPS:] if line else [])",
                "line.rsplit(',', _HOPS)[-_HOPS:] if line else []",
            ),
        ),
    ),
    Mutant(
        "The connection takes the peer's address from X-Forwarded-For, as other servers do by default.",
        "4.1.3",
        "test_a_header_of_an_untrusted_proxy_does_not_change_the_limit",
        at(
            "exchange:Exchange.scope",
            replace(
                "client[:2] if client else None",
                "next(((v.decode(), 0) for k, v in request.headers if k == b'x-forwarded-for'), client)",
            ),
        ),
    ),
    Mutant(
        "nginx does not say which method is asked about, so that the client's own word reaches the gate.",
        "4.1.3",
        "test_the_cookie_passes_for_the_applications_own_pages_only[nginx]",
        at("docs/how-to/behind-nginx.md", in_text("proxy_set_header X-Forwarded-Method $request_method;", "")),
    ),
    Mutant(
        "Caddy takes Remote-User away and leaves Remote_User, which application servers take for the same.",
        "4.1.3",
        "test_a_public_path_receives_no_identity[caddy]",
        at("docs/how-to/behind-caddy.md", in_text("request_header -Remote*", "request_header -Remote-*")),
    ),
    Mutant(
        "All sessions of an account end with a GET, too, for a link in the administrators' tool.",
        "4.1.4",
        "test_a_wrong_method_gets_405_with_the_allowed_ones[/api/admin/accounts/{account_id}/sessions]",
        at(
            "administration.accounts:HANDLERS",
            replace("[list_accounts, ...]", "[*..., end_by_link]"),
            replace(
                "HANDLERS: ... = ...",
                """
                @get('/accounts/{account_id:str}/sessions', guards=[administrator], include_in_schema=False)
                async def end_by_link(request: Request[Any, Any, Any], account_id: FromPath[str]) -> Response[EndedResponse]:
                    return await end_account_sessions.fn(request, account_id)
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "The parser is told to be lenient with requests that have both a length and chunks.",
        "4.2.1",
        "test_a_request_with_an_ambiguous_end_is_refused",
        at(
            "reader:RequestReader.__init__",
            replace("self._reset()", "self._parser.set_dangerous_leniencies(lenient_chunked_length=True)\n..."),
        ),
    ),
    Mutant(
        "Caddy serves the application without TLS as well.",
        "4.4.1",
        "test_the_guides_listen_for_nothing_but_tls",
        at("docs/how-to/behind-caddy.md", in_text("app.example.org {", "http://app.example.org, app.example.org {")),
    ),
    Mutant(
        "The gate takes every Origin for the application's own.",
        "4.4.2",
        "test_the_applications_websocket_is_closed_to_other_sites[nginx]",
        at(
            "origins:why_refused",
            replace("None if page is not None and _is_own(page, use, sent) else _FOREIGN", "None"),
        ),
    ),
    Mutant(
        "Of a ticket the 32 bytes are stored that it is made of.",
        "4.4.3",
        "test_a_stored_ticket_hash_is_not_a_ticket",
        at(
            "tickets:_hash",
            replace("hashlib.sha256(...).digest()", "__import__('base64').urlsafe_b64decode(ticket + '=')"),
        ),
    ),
    Mutant(
        "A ticket that was bought before a login opens a socket after it.",
        "4.4.3",
        "test_a_ticket_bought_before_a_login_is_superseded",
        at("authenticator:Authenticator.by_ticket", replace("taken.epoch", "None")),
    ),
    Mutant(
        "A ticket is sold for the cookie alone.",
        "4.4.4",
        "test_only_a_logged_in_users_access_token_buys_a_ticket",
        at(
            "sessions:create_ticket",
            replace(
                "found = await authenticate_caller(services, request.scope)",
                """
                from interlock.server.experience.credentials import bearer, cookie
                if bearer(request.scope) is None and (held := cookie(request.scope)) is not None:
                    session, _ = await services.authenticator.by_refresh_token(held)
                    bought = await services.tickets.issue(session, session.deadline_ms, services.keys.signing.kid)
                    return Response(TicketResponse(bought, 30), status_code=201)
                ...
                """,
            ),
        ),
    ),
    Mutant(
        "What stands in the address of the WebSocket, such as a ticket, is passed over.",
        "14.2.1",
        "test_a_token_in_the_websockets_url_is_no_credential",
        at(
            "queries:_check_query",
            replace(
                "scope['method'] == 'OPTIONS'",
                "(scope['method'] == 'OPTIONS' or scope['path_template'] == '/api/connect')",
            ),
        ),
    ),
    Mutant(
        "A query parameter that no call takes, such as a refresh token, is passed over.",
        "14.2.1",
        "test_a_token_in_the_url_opens_nothing",
        at("queries:_check_query", replace("not taken.keys() >= set(names)", "... and taken")),
    ),
    Mutant(
        "A logout does not have the browser clear what the origin's pages kept.",
        "14.3.1",
        "test_logout_clears_the_origins_cache_and_storage",
        at("auth:logout", drop("answer.headers.update(cookies.clearing_stored(services))")),
    ),
    Mutant(
        "What the gate says of somebody may be kept for a minute.",
        "14.3.2",
        "test_only_the_public_keys_may_be_cached",
        at(
            "forward_auth:_headers",
            replace("_LENGTH", "(b'cache-control', b'private, max-age=60')"),
        ),
    ),
)
