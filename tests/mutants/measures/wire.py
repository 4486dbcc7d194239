"""The measures of chapter 4: what the wire is owed, over HTTP and over WebSocket."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_FRONTS: Final = "tests/attacks/test_fronts.py::"
_HEADERS: Final = "tests/server/test_headers.py::"
_TICKETS: Final = "tests/server/test_tickets.py::"
_METHODS: Final = (
    "tests/server/test_web_measures.py::test_any_other_method_is_refused_on_what_is_for_administrators_and_software"
)
_PROBLEMS: Final = "server/experience/problems.py"
_READER: Final = "server/experience/transport/reader.py"
_CONNECT: Final = "server/experience/endpoints/connect.py"
_ADDRESSES: Final = "server/guard/throttling/addresses.py"
_TICKET: Final = "server/guard/tickets.py"
_BUY: Final = "server/experience/endpoints/sessions.py"
_NGINX: Final = "docs/how-to/behind-nginx.md"

WIRE: Final[tuple[Mutant, ...]] = (
    Mutant(
        "problems-are-plain-json",
        _PROBLEMS,
        "Problem details say that they are application/json.",
        "4.1.1",
        _HEADERS + "test_a_body_says_what_it_is_and_text_in_which_encoding",
        "assert 'application/json' == 'application/problem+json'",
        (('MEDIA_TYPE: Final = "application/problem+json"', 'MEDIA_TYPE: Final = "application/json"'),),
    ),
    Mutant(
        "what-is-no-http-is-answered-with-an-untyped-body",
        "server/experience/transport/http.py",
        "The answer that is given below the application has a body and no Content-Type.",
        "4.1.1",
        _HEADERS + "test_a_body_says_what_it_is_and_text_in_which_encoding",
        "KeyError: 'content-type'",
        (
            (
                "    exchange.respond(problem.status, *problem_content(problem))\n",
                "    headers, body = problem_content(problem)\n    exchange.respond(problem.status, headers[1:], body)\n",
            ),
        ),
    ),
    Mutant(
        "programs-are-redirected-to-https",
        "server/experience/middleware/observed.py",
        "Whatever came to the proxy without TLS is redirected to HTTPS, so that no program notices its mistake.",
        "4.1.2",
        "tests/server/test_small_measures.py::test_nothing_is_redirected",
        "assert not answer.is_redirect",
        (
            (
                "        services = self.services\n        request_id",
                (
                    '        if scope["type"] == "http" and header(scope, b"x-forwarded-proto") == "http":\n'
                    '            where = b"https://" + (header(scope, b"host") or "").encode() + scope["raw_path"]\n'
                    '            start = {"type": "http.response.start", "status": 308, "headers": [(b"location", where)]}\n'
                    "            await send(start)\n"
                    '            await send({"type": "http.response.body", "body": b""})\n'
                    "            return\n"
                    "        services = self.services\n        request_id"
                ),
            ),
        ),
    ),
    Mutant(
        "anybody-says-whose-address-it-is",
        _ADDRESSES,
        "The forwarded address is believed of everybody once a proxy is trusted.",
        "4.1.3",
        "tests/server/test_addresses.py::test_the_last_hop_that_is_no_trusted_proxy_is_the_client",
        "== '192.0.2.7'",
        (
            (
                "        if not self._trusted or not self.trusts(client):\n",
                "        if not self._trusted:\n",
            ),
        ),
    ),
    Mutant(
        "the-first-forwarded-address-is-the-clients",
        _ADDRESSES,
        "The forwarded addresses are read from the left, where the client writes what it likes.",
        "4.1.3",
        "tests/server/test_addresses.py::test_the_last_hop_that_is_no_trusted_proxy_is_the_client",
        "== '198.51.100.1'",
        (('reversed(line.rsplit(",", _HOPS)', '(line.rsplit(",", _HOPS)'),),
    ),
    Mutant(
        "the-connection-believes-forwarded-addresses",
        "server/experience/transport/exchange.py",
        "The connection takes the peer's address from X-Forwarded-For, as other servers do by default.",
        "4.1.3",
        "tests/server/test_traffic.py::test_one_that_is_no_proxy_of_ours_is_not_believed",
        "== [False, False, True]",
        (
            (
                '            "client": client[:2] if client else None,\n',
                (
                    '            "client": next(\n'
                    '                ((v.decode(), 0) for k, v in request.headers if k == b"x-forwarded-for"),\n'
                    "                client,\n"
                    "            ),\n"
                ),
            ),
        ),
    ),
    Mutant(
        "anybody-names-a-request",
        "server/experience/middleware/observed.py",
        "X-Request-Id is taken from whoever sends one.",
        "4.1.3",
        "tests/server/test_security_log.py::test_every_answer_has_an_id_of_its_own_and_lines_with_it",
        "'mine'",
        (("    if services.settings.trust_ids:\n", "    if scope:\n"),),
    ),
    Mutant(
        "nginx-hands-on-a-made-up-identity",
        _NGINX,
        "The public part behind nginx gets the Remote-User that the client sent.",
        "4.1.3",
        _FRONTS + "test_on_a_path_for_everybody_nobody_has_an_identity[nginx]",
        "'remote-user': ['root'",
        (('        proxy_set_header Remote-User "";\n', ""),),
    ),
    Mutant(
        "nginx-hands-on-a-made-up-method",
        _NGINX,
        "nginx does not say which method is asked about, so that the client's own word reaches the gate.",
        "4.1.3",
        _FRONTS + "test_the_cookie_passes_for_the_applications_own_pages_only[nginx]",
        "assert 200 == 403",
        (("        proxy_set_header X-Forwarded-Method $request_method;\n", ""),),
    ),
    Mutant(
        "caddy-hands-on-an-identity-with-an-underscore",
        "docs/how-to/behind-caddy.md",
        "Caddy takes Remote-User away and leaves Remote_User, which application servers take for the same.",
        "4.1.3",
        _FRONTS + "test_on_a_path_for_everybody_nobody_has_an_identity[caddy]",
        "'remote-email': ['root'",
        (("\t\trequest_header -Remote*\n", "\t\trequest_header -Remote-*\n"),),
    ),
    Mutant(
        "the-gate-answers-any-method",
        "server/experience/endpoints/forward_auth.py",
        "The gate answers whatever method it is asked with.",
        "4.1.4",
        "tests/server/test_forward_auth.py::test_only_get_and_head_are_answered",
        "assert (200, None) == (405, 'GET, HEAD, OPTIONS')",
        (('        if scope["method"] != "GET":\n', '        if scope["method"] == "TRACE":\n'),),
    ),
    Mutant(
        "administrators-end-sessions-by-a-link",
        "server/experience/endpoints/admin.py",
        "All sessions of an account end with a GET, too, for a link in the administrators' tool.",
        "4.1.4",
        _METHODS + "[/api/admin/accounts/{account_id}/sessions]",
        "GET is answered 401",
        (
            (
                "from litestar import Request, Response, delete, get, post, put\n",
                "from litestar import Request, Response, delete, get, post, put, route\n",
            ),
            (
                '@delete(\n    "/api/admin/accounts/{account_id:str}/sessions",\n',
                '@route(\n    "/api/admin/accounts/{account_id:str}/sessions",\n    http_method=["DELETE", "GET"],\n',
            ),
        ),
    ),
    Mutant(
        "a-length-and-chunks-are-read",
        _READER,
        "The parser is told to be lenient with requests that have both a length and chunks.",
        "4.2.1",
        "tests/attacks/test_smuggling.py::test_a_request_with_two_ends_is_none",
        'said.startswith(b"HTTP/1.1 400 ")',
        (
            (
                "        self._parser = httptools.HttpRequestParser(self)\n        self._reset()\n",
                (
                    "        self._parser = httptools.HttpRequestParser(self)\n"
                    "        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)\n"
                    "        self._reset()\n"
                ),
            ),
        ),
    ),
    Mutant(
        "codings-that-are-almost-chunked-are-read",
        _READER,
        "Transfer-Encodings that nobody knows are read as if they were none.",
        "4.2.1",
        "tests/attacks/test_smuggling.py::test_a_request_with_two_ends_is_none",
        'said.startswith(b"HTTP/1.1 400 ")',
        (
            (
                "        self._parser = httptools.HttpRequestParser(self)\n        self._reset()\n",
                (
                    "        self._parser = httptools.HttpRequestParser(self)\n"
                    "        self._parser.set_dangerous_leniencies(lenient_transfer_encoding=True)\n"
                    "        self._reset()\n"
                ),
            ),
            (
                "        if coding and (len(coding) > 1",
                "        if False and (len(coding) > 1",
            ),
        ),
    ),
    Mutant(
        "websockets-past-the-proxy",
        "server/settings.py",
        "Unless told otherwise the server listens on every address, also where no proxy ends TLS.",
        "4.4.1",
        "tests/server/test_web_measures.py::test_unless_told_otherwise_it_listens_for_the_proxy_on_the_same_host_alone",
        "DID NOT RAISE",
        (
            (
                '_doc("Address to listen on; 0.0.0.0 or :: for every one.")] = "127.0.0.1"',
                '_doc("Address to listen on; 0.0.0.0 or :: for every one.")] = "0.0.0.0"',
            ),
        ),
    ),
    Mutant(
        "nginx-without-tls",
        _NGINX,
        "The port of nginx speaks no TLS.",
        "4.4.1",
        _FRONTS + "test_without_tls_no_websocket_opens[nginx]",
        "DID NOT RAISE",
        (("    listen 443 ssl;\n", "    listen 443;\n"),),
    ),
    Mutant(
        "caddy-without-tls-too",
        "docs/how-to/behind-caddy.md",
        "Caddy serves the application without TLS as well.",
        "4.4.1",
        _FRONTS + "test_the_guides_listen_for_nothing_but_tls",
        "http://app.example.org",
        (("\napp.example.org {\n", "\nhttp://app.example.org, app.example.org {\n"),),
    ),
    Mutant(
        "any-page-opens-a-websocket",
        _CONNECT,
        "The handshake does not look at the Origin.",
        "4.4.2",
        "tests/server/test_bad_sockets.py::test_a_foreign_origin_is_refused_before_the_upgrade",
        "DID NOT RAISE",
        (("    refuse_foreign(Use.HANDSHAKE, scope, services.settings.origins)\n", ""),),
    ),
    Mutant(
        "any-page-opens-the-applications-websocket",
        "server/experience/origins.py",
        "The gate takes every Origin for the application's own.",
        "4.4.2",
        _FRONTS + "test_the_applications_websocket_is_closed_to_other_sites[nginx]",
        "DID NOT RAISE",
        (("    return None if page is not None and _is_own(page, use, sent) else _FOREIGN\n", "    return None\n"),),
    ),
    Mutant(
        "a-ticket-is-not-used-up",
        "server/surface/tickets.py",
        "A ticket is read and not deleted, so that it opens as many sockets as somebody likes.",
        "4.4.3",
        "tests/server/test_bad_sockets.py::test_a_ticket_opens_one_socket",
        "DID NOT RAISE",
        (
            (
                '"DELETE FROM tickets WHERE ticket_hash = ? RETURNING *"',
                '"SELECT * FROM tickets WHERE ticket_hash = ?"',
            ),
        ),
    ),
    Mutant(
        "a-ticket-of-64-bits",
        _TICKET,
        "A ticket has 64 random bits.",
        "4.4.3",
        _TICKETS + "test_a_ticket_has_256_bits_and_half_a_minute",
        "== {32}",
        (("secrets.token_urlsafe(32)", "secrets.token_urlsafe(8)"),),
    ),
    Mutant(
        "a-ticket-for-a-day",
        "server/settings.py",
        "Unless told otherwise a ticket lives for a day.",
        "4.4.3",
        _TICKETS + "test_a_ticket_has_256_bits_and_half_a_minute",
        "== {30}",
        (('_doc("Life of a WebSocket ticket.")] = 30.0', '_doc("Life of a WebSocket ticket.")] = 86_400.0'),),
    ),
    Mutant(
        "a-ticket-that-never-expires",
        "server/guard/tickets.py",
        "Nobody looks at when a ticket expires.",
        "4.4.3",
        _TICKETS + "test_a_ticket_that_has_waited_too_long_opens_nothing",
        "DID NOT RAISE",
        (
            (
                "        if taken is not None and self._clock.now_ms() < taken.expires_at_ms:\n",
                "        if taken is not None:\n",
            ),
        ),
    ),
    Mutant(
        "tickets-lie-on-disk",
        _TICKET,
        "Of a ticket the 32 bytes are stored that it is made of.",
        "4.4.3",
        _TICKETS + "test_what_is_on_disk_is_no_ticket",
        'assert base64.urlsafe_b64decode(f"{ticket}=") not in on_disk',
        (
            ("import hashlib\n", "import base64\n"),
            (
                '    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()\n',
                '    return base64.urlsafe_b64decode(ticket + "=")\n',
            ),
        ),
    ),
    Mutant(
        "a-ticket-outlives-a-login",
        "server/experience/credentials.py",
        "A ticket that was bought before a login opens a socket after it.",
        "4.4.3",
        "tests/server/test_bad_sockets.py::test_a_ticket_bought_before_a_login_is_superseded",
        "DID NOT RAISE",
        (
            (
                (
                    "        if taken.epoch != session.epoch:\n"
                    '            raise TokenExpired("the ticket was superseded by a later login")\n'
                ),
                "",
            ),
        ),
    ),
    Mutant(
        "anybody-buys-a-ticket",
        _BUY,
        "An anonymous session buys tickets.",
        "4.4.4",
        _TICKETS + "test_only_the_access_token_of_somebody_who_is_logged_in_buys_a_ticket",
        "assert 201 == 403",
        (
            ("    if session.subject is None or token is None:\n", "    if token is None:\n"),
            (
                'admit_account(services, request.scope, "ticket", session.subject)\n',
                'admit_account(services, request.scope, "ticket", session.subject or session.session_id)\n',
            ),
        ),
    ),
    Mutant(
        "a-cookie-buys-a-ticket",
        _BUY,
        "A ticket is sold for the cookie alone.",
        "4.4.4",
        _TICKETS + "test_only_the_access_token_of_somebody_who_is_logged_in_buys_a_ticket",
        "assert 201 == 401",
        (
            (
                "from interlock.server.experience.credentials import bearer, caller, prove_access_token\n",
                (
                    "from interlock.server.experience.credentials import bearer, caller, cookie, prove_access_token\n"
                    "from interlock.server.experience.credentials import prove_refresh_token\n"
                ),
            ),
            (
                "    token = bearer(request.scope)\n",
                (
                    "    token = bearer(request.scope)\n"
                    "    held = cookie(request.scope)\n"
                    "    if token is None and held is not None:\n"
                    "        session, _ = await prove_refresh_token(services, held)\n"
                    "        ticket = await services.tickets.issue(session, session.deadline_ms, services.keys.signing.kid)\n"
                    "        return Response(TicketAnswer(ticket, 30), status_code=201)\n"
                ),
            ),
        ),
    ),
)
