"""Response headers: those of every response, the receipt, and what pages of other origins may read (CORS)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from litestar.enums import HttpMethod
from litestar.routes import HTTPRoute

from interlock.machine.ledger import Receipt

RawHeaders = list[tuple[bytes, bytes]]

SECURITY: Final[RawHeaders] = [
    # RFC 6797: browsers heed it over HTTPS only, which the proxy in front speaks (ASVS 3.4.1).
    (b"strict-transport-security", b"max-age=63072000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""Prevent plain HTTP, MIME sniffing, referrers and embedding. The connection adds them to every response."""

NO_DOCUMENT: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""Prevents framing and whatever a browser would do with a response as a document. The connection adds it unless the response
has a policy of its own, as pages have."""

NO_STORE: Final = (b"cache-control", b"no-store")

RECEIPT_HEADER: Final = "Interlock-Receipt"
"""The receipt of what a call recorded."""

_NO_CONTENT: Final = 204
_VARY: Final = (b"vary", b"Origin")
_EXPOSED: Final = b"Interlock-Receipt, Link, Retry-After, WWW-Authenticate, X-Request-Id"
_ACCEPTED: Final = b"Authorization, Content-Type, traceparent, tracestate, X-Request-Id"
"""Trace headers (W3C Trace Context) are accepted because libraries for tracing add them to each call of a page."""
_PREFLIGHT_S: Final = b"600"
_WITH_COOKIES: Final[RawHeaders] = [(b"access-control-allow-credentials", b"true")]
_WITHOUT_COOKIES: Final[RawHeaders] = []


class Completion:
    """Completes response headers: the allowed methods (Allow), and what other origins' pages may do with it (CORS).

    ``origins``: pages of these may read responses (Fetch standard, 3.3). Origins are compared whole; without any, CORS
    headers are never sent. Litestar's CORS sends methods, headers and credentials even to other origins.

    Those of ``web_view_origins``, too, but without cookies.

    ``base_path``: links to the next page of a list, and redirects, are below it.
    """

    def __init__(self, origins: Sequence[str], web_view_origins: Sequence[str], base_path: str) -> None:
        self._origins = dict.fromkeys((origin.encode() for origin in web_view_origins), _WITHOUT_COOKIES)
        self._origins |= dict.fromkeys((origin.encode() for origin in origins), _WITH_COOKIES)
        self._base_path = base_path.encode()

    def complete(self, scope: Any, status: int, headers: RawHeaders) -> RawHeaders:
        """Return ``headers`` of a response with ``status``, with the missing ones added."""
        methods = _methods(scope) if status == _NO_CONTENT and scope["method"] == HttpMethod.OPTIONS else b""
        if methods:
            headers = [*[header for header in headers if header[0] != b"allow"], (b"allow", methods)]
        if self._base_path:
            headers = [(name, self._below(name, value)) for name, value in headers]
        if self._origins:
            headers = [*headers, _VARY, *_cross_origin(scope, self._origins, methods)]
        return headers

    def _below(self, name: bytes, value: bytes) -> bytes:
        """Return the value of a header. The path of a route in Link (RFC 8288, 3) or Location is below the base path."""
        if name == b"link":
            return b"<" + self._base_path + value.removeprefix(b"<")
        return self._base_path + value if name == b"location" else value


def receipt_header(receipt: Receipt | None) -> dict[str, str]:
    """Return the headers for ``receipt``; none if nothing was recorded."""
    return {} if receipt is None else {RECEIPT_HEADER: str(receipt)}


def allowed(methods: Iterable[str]) -> bytes:
    """Return ``methods`` as the value of Allow. GET implies HEAD (RFC 9110, 9.1)."""
    return ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())})).encode()


ALLOW_GET: Final = (b"allow", allowed(("GET", "OPTIONS")))
"""For a path that is not a Litestar route, or whose OPTIONS Litestar does not answer."""


def _methods(scope: Any) -> bytes:
    """Return the methods of the path; empty if no Litestar route has it. Litestar itself names only the first handler's."""
    path, app = scope.get("path_template"), scope.get("litestar_app")
    route = next((r for r in app.routes if r.path_format == path), None) if app is not None else None
    return allowed(route.methods) if isinstance(route, HTTPRoute) else b""


def _cross_origin(scope: Any, allowed: Mapping[bytes, RawHeaders], methods: bytes) -> RawHeaders:
    """Return the CORS headers for a page of an allowed origin, with those that ``allowed`` has for it.

    ``methods``: those of the path, for a preflight.
    """
    asked = dict(scope["headers"])
    origin = asked.get(b"origin")
    if origin is None or origin not in allowed:
        return []
    headers = [
        (b"access-control-allow-origin", origin),
        *allowed[origin],
        (b"access-control-expose-headers", _EXPOSED),
    ]
    if methods and b"access-control-request-method" in asked:
        headers += [
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", _ACCEPTED),
            (b"access-control-max-age", _PREFLIGHT_S),
        ]
    return headers
