"""Headers that go with every answer, and what pages of other origins may read (CORS)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from litestar.enums import HttpMethod
from litestar.types import Message, Scope

RawHeaders = list[tuple[bytes, bytes]]

SECURITY: Final[RawHeaders] = [
    # RFC 6797: browsers heed it over HTTPS only, which the proxy in front speaks (ASVS 3.4.1).
    (b"strict-transport-security", b"max-age=63072000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
"""What keeps a browser from plain HTTP, guessing, telling, framing, embedding and asking for its owner's devices."""

NO_STORE: Final = (b"cache-control", b"no-store")

_NO_CONTENT: Final = 204
_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start"})
_VARY: Final = (b"vary", b"Origin")
_EXPOSED: Final = b"Interlock-Receipt, Link, Retry-After, WWW-Authenticate"
_ACCEPTED: Final = b"Authorization, Content-Type"
_PREFLIGHT_S: Final = b"600"


def hook(origins: Sequence[str]) -> Callable[[Message, Scope], Awaitable[None]]:
    """Litestar's ``before_send`` hook that completes the headers of every answer, also of a refused WebSocket handshake.

    ``origins``: pages of these may read answers (Fetch standard, 3.3). An origin is compared whole; without any, no answer
    says a word of CORS. Litestar's own CORS names methods, headers and credentials also to origins that are not allowed.
    """
    allowed = frozenset(origin.encode() for origin in origins)

    async def complete(message: Message, scope: Scope) -> None:
        if message["type"] in _STARTS:
            _complete(message, scope, allowed)

    return complete


def _complete(start: Any, scope: Any, allowed: frozenset[bytes]) -> None:
    headers: RawHeaders = [*start.get("headers", ()), *SECURITY]
    if not any(name == b"cache-control" for name, _ in headers):
        headers.append(NO_STORE)
    methods = b""
    if start["status"] == _NO_CONTENT and scope["method"] == HttpMethod.OPTIONS:
        # Litestar answers with the methods of whichever handler of the path it met first.
        route = next(r for r in scope["litestar_app"].routes if r.path_format == scope["path_template"])
        methods = ", ".join(sorted(route.methods)).encode()
        headers = [(name, value) for name, value in headers if name != b"allow"]
        headers.append((b"allow", methods))
    if allowed:
        headers.append(_VARY)
        headers += _cross_origin(scope, allowed, methods)
    start["headers"] = headers


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
