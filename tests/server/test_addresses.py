"""Client addresses: forwarded ones count only from trusted proxies, and only the parts that those wrote."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from interlock.machine.errors import SettingsError
from interlock.server.guard.throttling.addresses import Addresses
from interlock.server.system.addresses import limit_key

TRUSTED = ("10.0.0.0/8", "2001:db8:f::1")
PEER = "10.0.0.1"


def headers(*lines: str, name: bytes = b"x-forwarded-for") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((name, line.encode("latin-1")) for line in lines)]


@pytest.mark.asvs("4.1.3")
@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("192.0.2.7", (), "192.0.2.7"),
        ("192.0.2.7", ("198.51.100.1",), "192.0.2.7"),
        (PEER, (), PEER),
        (PEER, ("198.51.100.1",), "198.51.100.1"),
        (PEER, ("203.0.113.9, 198.51.100.1",), "198.51.100.1"),
        (PEER, ("198.51.100.1, 10.1.1.1",), "198.51.100.1"),
        (PEER, ("203.0.113.9", "198.51.100.1, 10.1.1.1"), "198.51.100.1"),
        (PEER, ("10.2.2.2, 10.1.1.1",), "10.2.2.2"),
        (PEER, ("198.51.100.1, nonsense",), PEER),
        (PEER, ("nonsense, 10.1.1.1",), "10.1.1.1"),
        (PEER, (f"198.51.100.1, fe80::1%{'x' * 100}",), PEER),
        (PEER, ("",), PEER),
        (PEER, ("198.51.100.1:4711",), "198.51.100.1"),
        (PEER, ("[2001:db8::7]:4711",), "2001:db8::7"),
        (PEER, ("2001:0DB8:0::7",), "2001:db8::7"),
        (PEER, ("fe80::1%eth0",), "fe80::1"),
        ("::ffff:10.0.0.1", ("::ffff:198.51.100.1",), "198.51.100.1"),
        ("2001:db8:f::1", ("198.51.100.1",), "198.51.100.1"),
        ("2001:db8:f::2", ("198.51.100.1",), "2001:db8:f::2"),
        (None, ("198.51.100.1",), "unknown"),
        ("", (), "unknown"),
    ],
)
def test_the_last_untrusted_hop_is_the_client(peer: str | None, lines: tuple[str, ...], client: str) -> None:
    assert Addresses(TRUSTED, "x-forwarded-for").client(peer, headers(*lines)) == client


@pytest.mark.parametrize(
    ("line", "client"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ("for=203.0.113.9, for=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
        ('by=10.0.0.1; For="[2001:db8::7]:4711"', "2001:db8::7"),
        ("for=_hidden", PEER),
        ("for=unknown", PEER),
        ("proto=https", PEER),
    ],
)
def test_the_client_is_found_in_an_rfc_7239_header(line: str, client: str) -> None:
    addresses = Addresses(TRUSTED, "forwarded")
    assert addresses.client(PEER, headers(line, name=b"forwarded")) == client
    assert addresses.client(PEER, headers("192.0.2.66")) == PEER, "the other header is the client's own"


def test_without_trusted_proxies_forwarding_headers_are_ignored() -> None:
    assert Addresses((), "x-forwarded-for").client("127.0.0.1", headers("198.51.100.1")) == "127.0.0.1"


def test_an_invalid_proxy_network_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"trusted_proxies: example\.org"):
        Addresses(("10.0.0.0/8", "example.org"), "x-forwarded-for")


def test_an_ipv6_client_is_limited_by_its_64_network() -> None:
    assert limit_key("2001:db8:1:2:3:4:5:6") == limit_key("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert limit_key("2001:db8:1:3::") != limit_key("2001:db8:1:2::")
    assert limit_key("192.0.2.7") == "192.0.2.7"
    assert limit_key("unknown") == "unknown"


def test_each_untrusted_forwarding_peer_is_logged_once() -> None:
    """A stranger who sends the header first does not hide an untrusted proxy."""
    addresses = Addresses((), "x-forwarded-for")
    peers = ["192.0.2.66", "10.0.0.1"]
    with capture_logs() as logs:
        for peer in peers * 3:
            addresses.client(peer, headers("198.51.100.1"))
        addresses.client("10.0.0.2", headers())
    assert [(line["event"], line["address"]) for line in logs] == [("proxy.untrusted", peer) for peer in peers]


def test_the_memory_of_untrusted_peers_is_bounded() -> None:
    addresses = Addresses((), "x-forwarded-for")
    with capture_logs() as logs:
        for number in range(5000):
            addresses.client(f"2001:db8::{number:x}", headers("198.51.100.1"))
        addresses.client("10.0.0.1", headers("198.51.100.1"))
    assert logs[-1]["address"] == "10.0.0.1"
    assert len(addresses._untrusted) == 1024
