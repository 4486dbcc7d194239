"""IP addresses as text: their canonical spelling, and the part that rate limits use."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

UNKNOWN: Final = "unknown"
"""The address of a peer without one, such as one that has gone."""

_V6_PREFIX: Final = 64

_LONGEST: Final = 100
"""Characters of an address with its decoration. Longer text is not an address, and not cached."""

_REMEMBERED: Final = 4096
"""Size of the cache of parsed addresses: behind a proxy each request has the same two or three."""


def limit_key(address: str) -> str:
    """Return the rate limit key of ``address``. An IPv6 client can use its whole /64, so that is its key (RFC 6177)."""
    if ":" not in address:
        return address
    return str(IPv6Network((address, _V6_PREFIX), strict=False))


def canonical(text: str) -> str | None:
    """Return the address in ``text`` without port, brackets and zone, or None. IPv4-mapped IPv6 becomes IPv4."""
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
