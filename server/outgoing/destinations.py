"""Where requests may be sent, so that nobody can make this server call into a private network (SSRF, OWASP API7:2023)."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import httpx

from interlock.machine.errors import SettingsError

_Address: TypeAlias = IPv4Address | IPv6Address

_NAT64: Final = IPv6Network("64:ff9b::/96")
_READABLE: Final = re.compile(r"[!-~]+\Z")
_LONGEST_URL: Final = 2048
_PLAIN_HTTP: Final = "plain HTTP is allowed to the networks in outgoing_networks only"


class DestinationRefused(Exception):
    """A request may not be sent there. The message says why."""


class Destinations:
    """Requests may go to public addresses by HTTPS, and to those in ``networks`` by HTTPS or plain HTTP.

    A name is resolved for each request, and the address that was checked is the one that is connected to: a name that
    resolves differently the next moment opens nothing.

    Raises:
        SettingsError: one of ``networks`` is none.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        try:
            self._networks: list[IPv4Network | IPv6Network] = [ipaddress.ip_network(each) for each in networks]
        except ValueError as error:
            raise SettingsError(f"outgoing_networks: {error}") from None

    def check(self, url: str) -> None:
        """Check what is known of ``url`` without its host's addresses.

        Raises:
            DestinationRefused: no request may be sent there, whatever its host resolves to.
        """
        scheme, host = scheme_and_host(url)
        try:
            self._first_allowed(scheme, [ipaddress.ip_address(host)])
        except ValueError:  # a name
            if scheme == "http" and not self._networks:
                raise DestinationRefused(_PLAIN_HTTP) from None

    async def resolve(self, url: httpx.URL) -> str:
        """Return the address to connect to for ``url``.

        Raises:
            DestinationRefused: it resolves to none that may be used, or the scheme is not allowed there.
            OSError: it can't be resolved.
        """
        loop = asyncio.get_running_loop()
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await loop.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise DestinationRefused("the host is not a name: a part of it is empty or too long") from None
        addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        return self._first_allowed(url.scheme, addresses)

    def _first_allowed(self, scheme: str, addresses: list[_Address]) -> str:
        for address in addresses:
            if self._allows(scheme, address):
                return str(address)
        if any(self._allows("https", address) for address in addresses):
            raise DestinationRefused(_PLAIN_HTTP)
        raise DestinationRefused("it resolves to no public address, and to none in outgoing_networks")

    def _allows(self, scheme: str, address: _Address) -> bool:
        if any(address in network for network in self._networks if network.version == address.version):
            return scheme in {"https", "http"}
        return scheme == "https" and all(map(_is_public, _meant(address)))


def _is_public(address: _Address) -> bool:
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _meant(address: _Address) -> list[_Address]:
    """Return ``address``, and the IPv4 address that it leads to, if it is one of a transition mechanism."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        # Reserved by itself, and as good as the IPv4 address: names resolve to it where there is only IPv6 (RFC 6147).
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address, *(each for each in (address.sixtofour, *(address.teredo or ())) if each is not None)]


def checked_url(text: str) -> str:
    """Return ``text``, an address that requests can be sent to.

    Raises:
        SettingsError: it is not an http or https URL, or contains a password or a fragment.
    """
    try:
        url = httpx.URL(text if _READABLE.match(text) else "")
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in {"https", "http"} or not url.host or url.userinfo or url.fragment:
        raise SettingsError("the URL must be https://… or http://…, without a password, a # or a space")
    if len(text) > _LONGEST_URL:
        raise SettingsError(f"the URL is longer than {_LONGEST_URL} characters")
    return text


def scheme_and_host(url: str) -> tuple[str, str]:
    """Return the scheme and the host of ``url``; empty if it can't be read."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "", ""
    return parts.scheme, host


def on_this_machine(url: str) -> bool:
    """Return whether ``url`` names this machine."""
    _, host = scheme_and_host(url)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
