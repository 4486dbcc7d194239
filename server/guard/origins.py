"""Which pages may use the browser's cookie: one rule for the API, the WebSocket handshake and forward-auth.

Browsers add Origin and Sec-Fetch-Site, which no script can set or remove. Pages of other sites can't add ``X-Forwarded-*``
either: that requires a CORS preflight, which is refused.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

_ORIGIN: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#@,\s]+)")
_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?")
_SECURE_OF: Final = {b"wss": b"https", b"ws": b"http"}
"""A page's origin has the scheme of the page, but some proxies and programs send the socket's."""
_PORTS: Final = {b"https": 443, b"http": 80}
_MAX_PORT: Final = 65_535
_PLAIN: Final = frozenset({b"http", b"ws", b""})

_REMEMBERED: Final = 256
"""Size of the cache of origins and hosts: forward-auth sees the same few in every request."""

_NULL: Final = b"null"
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_OTHER_SITES: Final = frozenset({b"same-site", b"cross-site"})
_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""RFC 9110, 9.2.1, without TRACE, which no browser sends."""

_FOREIGN: Final = "the page's origin is neither the server's own nor in the setting `origins`"
_ELSEWHERE: Final = "another site's page may not use this"
_UNKNOWN: Final = "it can't be told which page asks for this"


class Use(enum.Enum):
    """What a request uses the cookie for."""

    CALL = enum.auto()
    """An API call that may read or set the cookie. Host names the server."""
    HANDSHAKE = enum.auto()
    """A WebSocket handshake with Interlock. Not every browser sends a correct Sec-Fetch-Site with it."""
    APPLICATION = enum.auto()
    """A request for an application behind forward-auth. The proxy's X-Forwarded-Host names the application."""


class Origin(NamedTuple):
    """An origin (RFC 6454, 4). Two are equal if all three members are. ``port``: None if the scheme has no default."""

    scheme: bytes
    host: bytes
    port: int | None


@lru_cache(maxsize=_REMEMBERED)
def parse_origin(text: bytes) -> Origin | None:
    """Parse an origin. Return None for ``null``, a list, or anything else."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme = match[1].lower()
    return _origin(_SECURE_OF.get(scheme, scheme), match[2])


@lru_cache(maxsize=16)
def parse_origins(texts: tuple[str, ...]) -> frozenset[Origin]:
    """Return the origins in the setting ``origins``."""
    return frozenset(filter(None, [parse_origin(text.encode()) for text in texts]))


def why_refused(use: Use, headers: Sequence[tuple[bytes, bytes]], allowed: Collection[Origin]) -> str | None:
    """Return why a request with ``headers`` (names in lower case) may not use the cookie, or None if it may.

    ``allowed``: origins besides the server's own. The page's Origin decides; without one, its Sec-Fetch-Site.
    """
    sent = dict(headers)
    if len(sent) != len(headers):
        # RFC 9110, 5.3: a repeated field is a list, and neither of these is one.
        sent = {name: b", ".join(value for key, value in headers if key == name) for name in sent}
    origin, site = sent.get(b"origin"), sent.get(b"sec-fetch-site")
    if origin is None:
        return _why_without_origin(use, site, sent)
    if origin == _NULL:
        # Referrer-Policy: no-referrer also hides the origin of a page's own posts. A sandboxed frame is cross-site.
        return None if site == b"same-origin" else _FOREIGN
    page = parse_origin(origin)
    if page in allowed:
        return None
    if site in _OTHER_SITES and use is not Use.HANDSHAKE and sent.get(b"sec-fetch-mode") != b"websocket":
        # Sec-Fetch-Site is more reliable than a comparison with a scheme that no hop may have reported.
        return _ELSEWHERE
    return None if page is not None and _is_own(page, use, sent) else _FOREIGN


def _why_without_origin(use: Use, site: bytes | None, sent: dict[bytes, bytes]) -> str | None:
    if site in _OWN_SITES:
        return None
    if use is not Use.APPLICATION:
        # Neither header: a program, not a page.
        return None if site is None else _ELSEWHERE
    if sent.get(b"x-forwarded-method") not in _SAFE:
        return _UNKNOWN if site is None else _ELSEWHERE
    visit = sent.get(b"sec-fetch-mode") == b"navigate" and sent.get(b"sec-fetch-dest") == b"document"
    return None if site is None or visit else _ELSEWHERE


def _is_own(page: Origin, use: Use, sent: dict[bytes, bytes]) -> bool:
    """Return whether ``page`` is the server's (or application's) own. If one hop uses HTTPS, a page without TLS is not."""
    host = sent.get(b"x-forwarded-host" if use is Use.APPLICATION else b"host", b"")
    if page.scheme != b"https":
        proto = sent.get(b"x-forwarded-proto", b"").lower()
        if page.scheme != b"http" or not _PLAIN.issuperset(each.strip() for each in proto.split(b",")):
            return False
    # The first entry of a list is the host that the client asked for.
    return _origin(page.scheme, host.partition(b",")[0].strip()) == page


@lru_cache(maxsize=_REMEMBERED)
def _origin(scheme: bytes, authority: bytes) -> Origin | None:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    port = int(match[2]) if match[2] else _PORTS.get(scheme)
    return None if port is not None and port > _MAX_PORT else Origin(scheme, match[1].lower(), port)
