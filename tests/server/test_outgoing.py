"""Outgoing requests: where they may go, what is verified, and what is bounded."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from interlock.machine.errors import SettingsError
from interlock.server.outgoing import client as client_module
from interlock.server.outgoing.client import OutgoingClient, Unreachable
from interlock.server.outgoing.destinations import DestinationRefused, Destinations
from interlock.server.outgoing.signatures import new_signing_secret, signed_headers
from tests.support.asynchronous import asynchronous
from tests.support.steps import NOW_MS

LOOPBACK = ["127.0.0.0/8"]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return what names resolve to; a test changes it."""
    known: dict[str, list[str]] = {}

    async def resolve(_loop: object, host: str, port: int, **_: Any) -> list[Any]:
        found = known.get(host, [host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    return known


PRIVATE = (
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104  # it is refused
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:10.1.2.3",
    "64:ff9b::a01:203",
    "2002:a01:203::1",
    "64:ff9b:1::a01:203",
    "fec0::1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "240.0.0.1",
)


@pytest.mark.parametrize("address", PRIVATE)
@asynchronous
async def test_no_private_address_is_connected_to(names: dict[str, list[str]], address: str) -> None:
    names["inside.example"] = [address]
    for scheme in ("https", "http"):
        with pytest.raises(DestinationRefused):
            await Destinations([]).resolve(httpx.URL(f"{scheme}://inside.example/"))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e", "::ffff:5db8:d70e"])
@asynchronous
async def test_a_public_address_is_reached_in_each_of_its_forms(names: dict[str, list[str]], address: str) -> None:
    names["public.example"] = [address]
    assert await Destinations([]).resolve(httpx.URL("https://public.example/")) == address


@pytest.mark.parametrize("host", ["a..b.example", f"{'a' * 64}.example"])
@asynchronous
async def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    sender = OutgoingClient(f"https://{host}/", Destinations([]), timeout_s=30, at_once=1)
    with pytest.raises(Unreachable, match="the host is not a name"):
        await sender.post({}, b"", NOW_MS)
    await sender.close()


@asynchronous
async def test_a_public_address_is_reached_by_https_only(names: dict[str, list[str]]) -> None:
    names["public.example"] = ["93.184.215.14"]
    names["both.example"] = ["10.1.2.3", "2606:2800:21f::1"]
    assert await Destinations([]).resolve(httpx.URL("https://public.example/")) == "93.184.215.14"
    assert await Destinations([]).resolve(httpx.URL("https://both.example/")) == "2606:2800:21f::1"
    with pytest.raises(DestinationRefused, match="plain HTTP"):
        await Destinations([]).resolve(httpx.URL("http://public.example/"))


@asynchronous
async def test_a_listed_network_is_reached_and_no_other(names: dict[str, list[str]]) -> None:
    listed = Destinations(["10.0.0.0/8", "fc00::/7"])
    names["inside.example"] = ["10.1.2.3"]
    names["six.example"] = ["fc00::1"]
    names["beside.example"] = ["192.168.1.1"]
    for scheme in ("https", "http"):
        assert await listed.resolve(httpx.URL(f"{scheme}://inside.example/")) == "10.1.2.3"
        assert await listed.resolve(httpx.URL(f"{scheme}://six.example/")) == "fc00::1"
        with pytest.raises(DestinationRefused):
            await listed.resolve(httpx.URL(f"{scheme}://beside.example/"))


def test_a_setting_that_is_no_network_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"outgoing_networks: .* does not appear to be an IPv4 or IPv6 network"):
        Destinations(["inside"])


@asynccontextmanager
async def answering(text: bytes, context: ssl.SSLContext | None = None, *, hang: bool = False) -> AsyncIterator[int]:
    """Run a server that answers any request with ``text``, and then perhaps says nothing more. Yield its port."""

    over = asyncio.Event()
    handlers: set[asyncio.Task[Any] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(text)
                await writer.drain()
            if hang:
                await over.wait()
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        over.set()
        await asyncio.gather(*filter(None, handlers))


async def posted(url: str, *, timeout_s: float = 30.0) -> client_module.Answer:
    client = OutgoingClient(url, Destinations(LOOPBACK), timeout_s=timeout_s, at_once=1)
    try:
        return await client.post({"webhook-id": "evt_1"}, b"{}", NOW_MS)
    finally:
        await client.close()


@asynchronous
async def test_retry_after_is_read_as_seconds_or_a_date() -> None:
    date = dt.datetime.fromtimestamp(NOW_MS / 1000 + 90, dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    for header, wanted in (
        (b"120", 120_000),
        (b"0", 0),
        (b"99999999999", 86_400_000),
        (date.encode(), 90_000 - NOW_MS % 1000),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"soon", None),
        (b"-5", None),
        (b"\xb2", None),
        (b"Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        (b"Mon, 01 Jan 2029 99999999999:00:00 GMT", None),
        (b"Mon, 01 Jan 2029 00:00:00 +99999999999999999999", None),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 86_400_000),
    ):
        async with answering(b"HTTP/1.1 429 x\r\nRetry-After: " + header + b"\r\nContent-Length: 0\r\n\r\n") as port:
            answer = await posted(f"http://127.0.0.1:{port}/")
            assert (answer.status, answer.retry_after_ms) == (429, wanted), header


@asynchronous
async def test_a_failure_repeats_nothing_that_the_other_side_sent() -> None:
    async with answering(b"GARBAGE " + b"A" * 60_000 + b"\r\n\r\n") as port:
        with pytest.raises(Unreachable) as failed:
            await posted(f"http://127.0.0.1:{port}/")
    assert str(failed.value) == "RemoteProtocolError"


@asynchronous
async def test_an_endless_or_late_answer_is_cut() -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    async with answering(long) as port:
        with pytest.raises(Unreachable, match="longer than 65536 bytes"):
            await posted(f"http://127.0.0.1:{port}/")
    for begun in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"):
        async with answering(begun, hang=True) as port:
            with pytest.raises(Unreachable, match=r"no answer within 0\.5 s"):
                await posted(f"http://127.0.0.1:{port}/", timeout_s=0.5)


@asynchronous
async def test_a_name_is_resolved_once_and_the_checked_address_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere the next moment opens nothing."""
    asked: list[str] = []

    async def resolve(_loop: object, host: Any, port: Any, **_: Any) -> list[Any]:
        text = host.decode() if isinstance(host, bytes) else str(host)
        asked.append(text)
        found = "127.0.0.1" if asked.count("hooks.example") == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, int(port)))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    async with answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n") as port:
        assert (await posted(f"http://hooks.example:{port}/")).status == 204
    assert asked.count("hooks.example") == 1


def certificate_for(name: str, folder: Path) -> ssl.SSLContext:
    """Write a self-signed certificate to ``folder``/ca.pem, and return a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


@asynchronous
async def test_the_certificate_must_be_of_the_urls_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]
) -> None:
    """Although the request goes to the address that was checked."""
    ok = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
    names |= {"hooks.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    async with answering(ok, certificate_for("hooks.example", tmp_path)) as port:
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await posted(f"https://hooks.example:{port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert (await posted(f"https://hooks.example:{port}/")).status == 204
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await posted(f"https://other.example:{port}/")


def test_a_signature_is_the_hmac_that_the_specification_describes() -> None:
    """Computed here again, without the library."""
    secrets = [new_signing_secret(), new_signing_secret()]
    body = '{"type":"session.revoke","é":1}'.encode()
    headers = signed_headers(secrets, "evt_41_9f64a747e1b97f13", body, NOW_MS)
    at_s = NOW_MS // 1000
    expected = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        assert 24 <= len(key) <= 64
        mac = hmac.new(key, b"evt_41_9f64a747e1b97f13.%d." % at_s + body, hashlib.sha256)
        expected.append(f"v1,{base64.b64encode(mac.digest()).decode()}")
    assert headers["webhook-signature"] == " ".join(expected)
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("evt_41_9f64a747e1b97f13", str(at_s))
