"""Where a login page may send a browser: to a path of this server's origin, or to an origin that the settings list.

Anything else would let a link to the login page lead to another site (an open redirect, CWE-601).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from interlock.server.guard.origins import parse_origin, parse_origins

HOME: Final = "/"

_PLAIN: Final = re.compile(r"[!-\[\]-~]{1,2048}")
"""Printable ASCII without the backslash, which browsers read as a slash. They skip tabs and line breaks within a URL."""

_ABSOLUTE: Final = re.compile(r"(https?://([^/?#]*))(.*)")


def asked_for(query: bytes) -> str | None:
    """Return the value of ``next`` in ``query``, which begins with it; "" for an empty query, and None for any other.

    The value is all of the rest, unchanged: a proxy puts the URI there as it came, with its own query. A value that does not
    begin like one is percent-encoded.
    """
    if not query:
        return ""
    name, _, value = query.decode("latin-1").partition("=")
    if name != "next":
        return None
    return value if value.startswith(("/", "http://", "https://")) else unquote(value)


def next_page(wanted: str, host: str, allowed: tuple[str, ...]) -> str:
    """Return ``wanted`` if a browser may be sent there, otherwise the path of the front page.

    ``host`` is the host that the browser asked, and ``allowed`` are the origins in the settings.
    """
    if not _PLAIN.fullmatch(wanted):
        return HOME
    match = _ABSOLUTE.fullmatch(wanted)
    if match is not None:
        origin, authority, rest = match.groups()
        if authority.lower() == host.lower():
            wanted = f"/{rest}" if rest[:1] != "/" else rest
        else:
            return wanted if parse_origin(origin.encode()) in parse_origins(allowed) else HOME
    # "//" begins a host, not a path.
    return wanted if wanted[0] == "/" and wanted[1:2] != "/" else HOME
