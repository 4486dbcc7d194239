"""Internet addresses as text: one spelling for each, and what of it is counted."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

UNKNOWN: Final = "unknown"
"""The address of a peer that has none, such as one on a Unix socket."""

_V6_PREFIX: Final = 64

_LONGEST: Final = 100
"""Characters of an address with everything around it. What is longer is none, and need not be remembered."""

_REMEMBERED: Final = 4096
"""So many addresses are remembered as parsed: behind a proxy each request has the same two or three."""


def limit_key(address: str) -> str:
    """What ``address`` is limited by: an IPv6 client by its /64, of which it can use any address it likes (RFC 6177)."""
    if ":" not in address:
        return address
    return str(IPv6Network((address, _V6_PREFIX), strict=False))


def canonical(text: str) -> str | None:
    """``text`` as an address, without port, brackets and zone; an IPv4 address mapped into IPv6 is the IPv4 one."""
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=_REMEMBERED)
def _parsed(text: str) -> str | None:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)
