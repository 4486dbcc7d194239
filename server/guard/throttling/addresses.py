"""The client's address, from the connection or from a trusted proxy's header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

import structlog

from interlock.machine.errors import SettingsError
from interlock.server.system.addresses import UNKNOWN, canonical
from interlock.server.system.newest import keep_newest

_log = structlog.get_logger("interlock.security")

_FORWARDED_FOR: Final = re.compile(r"(?:^|;)\s*for=(\"[^\"]*\"|[^;\s\"]*)\s*(?=;|$)", re.IGNORECASE)

_HOPS: Final = 32
"""How many hops are read: no client is behind more trusted proxies."""

_REMEMBERED: Final = 4096
"""Size of the cache of exempt and counted addresses."""

_UNTRUSTED: Final = 1024
"""How many untrusted peers that send the header are remembered. A forgotten peer is logged again."""


class Addresses:
    """Finds client addresses. ``trusted``: the proxies (addresses or CIDR networks) whose header is believed.

    ``header`` is the one header that the proxies write, in lower case: ``x-forwarded-for`` or ``forwarded`` (RFC 7239).
    Only one, because a proxy passes on any other as the client sent it (ASVS 4.1.3).

    ``exempt``: networks whose clients are exempt from rate limits.

    Raises:
        SettingsError: an entry of ``trusted`` or ``exempt`` is not a network.
    """

    def __init__(self, trusted: Sequence[str], header: str, exempt: Sequence[str] = ()) -> None:
        self._header = header.encode()
        # Peers already warned about, the latest last.
        self._untrusted: dict[str, None] = {}
        self._trusted = _networks("trusted_proxies", trusted)
        exempt_networks = _networks("rate_limit_exempt", exempt)
        self._is_exempt = lru_cache(maxsize=_REMEMBERED)(lambda address: _among(address, exempt_networks))

    def client(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the client's address: ``peer``, or, behind trusted proxies, the last hop that is not one of them.

        The header is read from the right: each proxy appends the address it saw, so everything left of the first untrusted
        hop was written by that hop and may be forged.
        """
        client = canonical(peer or "") or UNKNOWN
        if not self._trusted or not self.trusts(client):
            if client not in self._untrusted:
                self._warn(client, headers)
            return client
        line = b",".join([value for name, value in headers if name == self._header]).decode("latin-1")
        for hop in reversed(line.rsplit(",", _HOPS)[-_HOPS:] if line else []):
            found = canonical(_forwarded_for(hop) if self._header == b"forwarded" else hop)
            if found is None:
                break
            client = found
            if not self.trusts(client):
                break
        return client

    def _warn(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Log that ``peer`` sends the header and is not trusted: if it is a proxy, all clients share its address.

        Each peer is logged once, or a stranger could suppress the proxy's line.
        """
        if self._header in [name for name, _ in headers]:
            keep_newest(self._untrusted, peer, None, _UNTRUSTED)
            _log.warning("proxy.untrusted", address=peer, header=self._header.decode())

    def trusts(self, address: str) -> bool:
        """Return whether ``address`` is a trusted proxy's."""
        return _among(address, self._trusted)

    def counts(self, address: str) -> bool:
        """Return whether requests from ``address`` count against the rate limits."""
        return not self._is_exempt(address)


def _networks(setting: str, texts: Sequence[str]) -> list[IPv4Network | IPv6Network]:
    networks: list[IPv4Network | IPv6Network] = []
    for text in texts:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            raise SettingsError(f"{setting}: {text} is not an IP address or network") from None
    return networks


def _among(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    if not networks or address == UNKNOWN:
        return False
    parsed = ip_address(address)
    return any(parsed in network for network in networks)


def _forwarded_for(element: str) -> str:
    match = _FORWARDED_FOR.search(element.strip())
    return match[1] if match else ""
