"""Which pages may make a browser use its cookie: one rule for the API, the WebSocket handshake and forward-auth.

Browsers add Origin and Sec-Fetch-Site to what pages send, and no script can set or remove them. Other sites' pages can't add
``X-Forwarded-*`` either: that takes a CORS preflight, which is refused.
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
"""A WebSocket's page is told by the scheme of a page, though some proxies and programs write the socket's."""
_PORTS: Final = {b"https": 443, b"http": 80}
_MAX_PORT: Final = 65_535
_PLAIN: Final = frozenset({b"http", b"ws", b""})

_REMEMBERED: Final = 256
"""Origins and hosts that are remembered: forward-auth sees the same few at every request."""

_NULL: Final = b"null"
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_OTHER_SITES: Final = frozenset({b"same-site", b"cross-site"})
_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""RFC 9110, 9.2.1, without TRACE, which no browser sends."""

_FOREIGN: Final = "the page's origin is neither the server's own nor in the setting `origins`"
_ELSEWHERE: Final = "another site's page may not use this"
_UNKNOWN: Final = "it can't be told which page asks for this"


class Use(enum.Enum):
    """What a request wants with the cookie."""

    CALL = enum.auto()
    """A call of the API that may use or set it. Host names the server."""
    HANDSHAKE = enum.auto()
    """A WebSocket handshake with Interlock. Not every browser tells the site of one rightly."""
    APPLICATION = enum.auto()
    """A request for an application behind forward-auth. The proxy's X-Forwarded-Host names the application."""


class Origin(NamedTuple):
    """An origin (RFC 6454, 4): two are the same when all three are. ``port`` is None where the scheme has no default."""

    scheme: bytes
    host: bytes
    port: int | None


@lru_cache(maxsize=_REMEMBERED)
def parse_origin(text: bytes) -> Origin | None:
    """The origin that ``text`` names; None if it is ``null``, a list, or no origin at all."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme = match[1].lower()
    return _origin(_SECURE_OF.get(scheme, scheme), match[2])


@lru_cache(maxsize=16)
def parse_origins(texts: tuple[str, ...]) -> frozenset[Origin]:
    """The origins in the setting of that name."""
    return frozenset(filter(None, [parse_origin(text.encode()) for text in texts]))


def why_refused(use: Use, headers: Sequence[tuple[bytes, bytes]], allowed: Collection[Origin]) -> str | None:
    """Why a request with ``headers`` (names in lower case) may not use the cookie, or None if it may.

    ``allowed``: origins besides the own one. A page that names its origin is judged by that, and one that does not by its site.
    """
    sent = dict(headers)
    if len(sent) != len(headers):
        # RFC 9110, 5.3: what is there twice is a list, which neither an origin nor a site is.
        sent = {name: b", ".join(value for key, value in headers if key == name) for name in sent}
    origin, site = sent.get(b"origin"), sent.get(b"sec-fetch-site")
    if origin is None:
        return _why_without_origin(use, site, sent)
    if origin == _NULL:
        # Referrer-Policy: no-referrer hides the origin of a page's own posts, too. A sandboxed frame is cross-site.
        return None if site == b"same-origin" else _FOREIGN
    page = parse_origin(origin)
    if page in allowed:
        return None
    if site in _OTHER_SITES and use is not Use.HANDSHAKE and sent.get(b"sec-fetch-mode") != b"websocket":
        # The browser knows better than a comparison with a scheme that nobody may have told.
        return _ELSEWHERE
    return None if page is not None and _is_own(page, use, sent) else _FOREIGN


def _why_without_origin(use: Use, site: bytes | None, sent: dict[bytes, bytes]) -> str | None:
    if site in _OWN_SITES:
        return None
    if use is not Use.APPLICATION:
        # With neither header it is a program, and no page.
        return None if site is None else _ELSEWHERE
    if sent.get(b"x-forwarded-method") not in _SAFE:
        return _UNKNOWN if site is None else _ELSEWHERE
    visit = sent.get(b"sec-fetch-mode") == b"navigate" and sent.get(b"sec-fetch-dest") == b"document"
    return None if site is None or visit else _ELSEWHERE


def _is_own(page: Origin, use: Use, sent: dict[bytes, bytes]) -> bool:
    """Whether ``page`` is the server's (or the application's) own. Where one hop speaks HTTPS, a page without TLS is not."""
    host = sent.get(b"x-forwarded-host" if use is Use.APPLICATION else b"host", b"")
    if page.scheme != b"https":
        proto = sent.get(b"x-forwarded-proto", b"").lower()
        if page.scheme != b"http" or not _PLAIN.issuperset(each.strip() for each in proto.split(b",")):
            return False
    # Of a list, the first is the one that the client asked for.
    return _origin(page.scheme, host.partition(b",")[0].strip()) == page


@lru_cache(maxsize=_REMEMBERED)
def _origin(scheme: bytes, authority: bytes) -> Origin | None:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    port = int(match[2]) if match[2] else _PORTS.get(scheme)
    return None if port is not None and port > _MAX_PORT else Origin(scheme, match[1].lower(), port)
