"""Headers of answers: those that go with every one, the receipt, and what pages of other origins may read (CORS)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""What keeps a browser from plain HTTP, guessing, telling, framing and embedding. The connection adds it to every answer."""

NO_STORE: Final = (b"cache-control", b"no-store")

RECEIPT_HEADER: Final = "Interlock-Receipt"
"""Gives the receipt of what a call recorded."""

_NO_CONTENT: Final = 204
_VARY: Final = (b"vary", b"Origin")
_EXPOSED: Final = b"Interlock-Receipt, Link, Retry-After, WWW-Authenticate"
_ACCEPTED: Final = b"Authorization, Content-Type"
_PREFLIGHT_S: Final = b"600"


class Completion:
    """Completes the headers of an answer: the methods of its path (Allow), and what other origins' pages may do with it (CORS).

    ``origins``: pages of these may read answers (Fetch standard, 3.3). An origin is compared whole; without any, no answer
    says a word of CORS. Litestar's own CORS names methods, headers and credentials also to origins that are not allowed.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def complete(self, scope: Any, status: int, headers: RawHeaders) -> RawHeaders:
        """``headers`` of an answer with ``status``, and what is missing in them."""
        methods = _methods(scope) if status == _NO_CONTENT and scope["method"] == HttpMethod.OPTIONS else b""
        if methods:
            headers = [*[header for header in headers if header[0] != b"allow"], (b"allow", methods)]
        if self._origins:
            headers = [*headers, _VARY, *_cross_origin(scope, self._origins, methods)]
        return headers


def receipt_header(receipt: Receipt | None) -> dict[str, str]:
    """The headers that give ``receipt``: none when nothing was recorded."""
    return {} if receipt is None else {RECEIPT_HEADER: str(receipt)}


def allowed(methods: Iterable[str]) -> bytes:
    """``methods`` as an Allow header says them: where there is GET, there is HEAD (RFC 9110, 9.1)."""
    return ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())})).encode()


ALLOW_GET: Final = (b"allow", allowed(("GET", "OPTIONS")))
"""Of a path that is no route of Litestar's, or one that it does not answer OPTIONS for."""


def _methods(scope: Any) -> bytes:
    """The methods of the path; empty if no route of Litestar's answers it. Of several handlers Litestar names the first's."""
    path, app = scope.get("path_template"), scope.get("litestar_app")
    route = next((r for r in app.routes if r.path_format == path), None) if app is not None else None
    return allowed(route.methods) if isinstance(route, HTTPRoute) else b""


def _cross_origin(scope: Any, allowed: frozenset[bytes], methods: bytes) -> RawHeaders:
    """What a page of an allowed origin may do with the answer; ``methods`` are those of the path, in answer to OPTIONS."""
    asked = dict(scope["headers"])
    origin = asked.get(b"origin")
    if origin is None or origin not in allowed:
        return []
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", _EXPOSED),
    ]
    if methods and b"access-control-request-method" in asked:
        headers += [
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", _ACCEPTED),
            (b"access-control-max-age", _PREFLIGHT_S),
        ]
    return headers
