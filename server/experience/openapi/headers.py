"""Response headers in the OpenAPI document, each described once by name."""

from __future__ import annotations

from typing import Final

from litestar.datastructures import ResponseHeader
from litestar.openapi.spec import OpenAPIHeader, OpenAPIType, Schema

from interlock.server.experience.headers import RECEIPT_HEADER


def _header(description: str, example: str, *, always: bool = False, pattern: str | None = None) -> OpenAPIHeader:
    schema = Schema(type=OpenAPIType.STRING, pattern=pattern)
    return OpenAPIHeader(schema=schema, description=description, example=example, required=always)


HEADERS: Final[dict[str, OpenAPIHeader]] = {
    RECEIPT_HEADER: _header(
        "Position and digest of the last record this call wrote, as `position.digest`; missing when it wrote none.",
        "41.9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a",
        pattern=r"^[1-9][0-9]*\.[0-9a-f]{64}$",
    ),
    "Link": _header(
        'Where the list goes on (RFC 8288), as `rel="next"`; missing when nothing more follows.',
        '</api/sessions?after=1769160600000.0dkpmrn3&limit=100>; rel="next"',
    ),
    "Set-Cookie": _header(
        "To a browser's page: the refresh token, where scripts can't read it; or that the cookie is to be forgotten.",
        "__Host-interlock=0dkp…; HttpOnly; Secure; SameSite=strict; Path=/; Max-Age=43200",
    ),
    "Cache-Control": _header("For how long the keys may be kept.", "public, max-age=300"),
    "Retry-After": _header("Seconds to wait before the next try.", "1"),
    "WWW-Authenticate": _header(
        "The credential that the call takes, and what is wrong with the one that came.",
        'Bearer realm="interlock"',
        always=True,
    ),
    "X-Request-Id": _header(
        "The request's id in the server's log; missing where the connection refused it unread.",
        "req_RSlSMZTaSVS48rx2XknO9g",
    ),
}
"""Every header that a client may want to read."""

OF_EVERY_ANSWER: Final = ("X-Request-Id",)
OF_STATUS: Final = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}


def may_send(*names: str) -> list[ResponseHeader]:
    """Return ``response_headers`` for a handler whose responses may have the headers ``names``."""
    return [ResponseHeader(name=name, documentation_only=True) for name in names]
