"""The client of outgoing requests over real sockets: what is limited, and whether a failure came before the request."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from interlock.server.outgoing.client import Answer, OutgoingClient, Unreachable
from interlock.server.outgoing.destinations import Destinations
from tests.support.asynchronous import on_uvloop
from tests.support.fronts import certify
from tests.support.ports import KeptPort
from tests.support.scripted import Exchange, answer, hang_up, scripted
from tests.support.steps import NOW_MS

LOOPBACK = ("127.0.0.0/8", "::1/128")


@asynccontextmanager
async def client(
    url: str, *, listed: tuple[str, ...] = LOOPBACK, most_bytes: int = 100, timeout_s: float = 300
) -> AsyncIterator[OutgoingClient]:
    made = OutgoingClient(
        url, Destinations(listed), timeout_s=timeout_s, at_once=10, keep_alive=False, most_bytes=most_bytes
    )
    try:
        yield made
    finally:
        await made.close()


async def post(client: OutgoingClient) -> Answer:
    return await client.post({"webhook-id": "m"}, b'{"a":1}', NOW_MS)


async def failure(client: OutgoingClient) -> tuple[bool, str]:
    """Return whether the request was sent, and why there is no answer."""
    with pytest.raises(Unreachable) as failed:
        await post(client)
    return failed.value.sent, str(failed.value)


@on_uvloop
async def test_a_post_is_sent_and_its_answer_returned() -> None:
    async with scripted(answer(200, {"b": 2}, retry_after="7")) as realm, client(realm.url) as sender:
        assert await post(sender) == Answer(200, 7000, b'{"b": 2}')
    (request,) = realm.received
    assert request.body == b'{"a":1}'
    assert request.headers.items() >= {"webhook-id": "m", "accept-encoding": "identity"}.items()


@on_uvloop
async def test_a_redirect_is_not_followed() -> None:
    async with scripted(answer(200)) as other, scripted(answer(307, location=other.url)) as realm:
        async with client(realm.url) as sender:
            assert (await post(sender)).status == 307
        assert other.received == []


@on_uvloop
async def test_a_private_address_behind_a_name_is_not_connected_to() -> None:
    async with scripted(answer(200)) as realm:
        async with client(realm.url.replace("http:", "https:"), listed=()) as sender:
            assert await failure(sender) == (
                False,
                "it resolves to no public address, and to none in outgoing_networks",
            )
        assert realm.received == []


@on_uvloop
async def test_an_answer_that_is_too_long_is_not_read() -> None:
    async with scripted(answer(200, b"x" * 101)) as realm:
        async with client(realm.url) as sender:
            assert await failure(sender) == (True, "the answer is longer than 100 bytes")
        async with client(realm.url, most_bytes=101) as sender:
            assert len((await post(sender)).body) == 101


@on_uvloop
async def test_a_compressed_answer_stays_small() -> None:
    bomb = gzip.compress(b"x" * 10_000_000)
    step = answer(200, bomb, content_encoding="gzip")
    async with scripted(step) as realm, client(realm.url, most_bytes=len(bomb)) as sender:
        assert (await post(sender)).body == bomb


@on_uvloop
async def test_a_failure_tells_whether_the_request_was_sent() -> None:
    async def half(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}")

    async def no_http(exchange: Exchange) -> None:
        exchange.writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    kept = KeptPort()
    for url in (f"http://127.0.0.1:{kept.number}/", "https://realm.invalid/"):
        async with client(url) as sender:
            assert (await failure(sender))[0] is False
    for step in (hang_up, half, no_http):
        async with scripted(step) as realm, client(realm.url) as sender:
            assert (await failure(sender))[0] is True


@on_uvloop
async def test_each_request_has_a_connection_of_its_own() -> None:
    peers = []

    async def keep_open(exchange: Exchange) -> None:
        peers.append(exchange.writer.get_extra_info("peername"))
        exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        assert await exchange.closed_by_peer()

    async with scripted(keep_open) as realm, client(realm.url) as sender:
        for _ in range(3):
            assert (await post(sender)).status == 200
    assert len(set(peers)) == 3


@on_uvloop
async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def wait(exchange: Exchange) -> None:
        await exchange.closed_by_peer()

    async with scripted(wait) as realm, client(realm.url, timeout_s=0.3) as sender:
        sent, why = await failure(sender)
        assert sent is True
        assert why


@on_uvloop
async def test_a_cancellation_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        if await exchange.closed_by_peer():
            closed.set()

    async with scripted(wait) as realm, client(realm.url) as sender:
        posting = asyncio.create_task(post(sender))
        await realm.wait(1)
        posting.cancel()
        await closed.wait()


@on_uvloop
async def test_a_certificate_must_be_valid_for_the_name(tmp_path: Path) -> None:
    for host, good in (("localhost", True), ("other.example", False)):
        certificate = certify(tmp_path, host)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
        async with scripted(answer(200), tls=tls) as realm:
            async with client(realm.url) as sender:
                sent, why = await failure(sender)
                assert (sent, "CERTIFICATE_VERIFY_FAILED" in why) == (False, True)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SSL_CERT_FILE", str(certificate))
                async with client(realm.url) as sender:
                    if good:
                        assert (await post(sender)).status == 200
                    else:
                        assert (await failure(sender))[0] is False


@pytest.mark.parametrize(
    ("header", "delay_ms"),
    [
        ("120", 120_000),
        (formatdate(NOW_MS // 1000 + 90, usegmt=True), 90_000),
        (formatdate(NOW_MS // 1000 - 90, usegmt=True), 0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(header: str, delay_ms: int | None) -> None:
    @on_uvloop
    async def check() -> None:
        async with scripted(answer(503, retry_after=header)) as realm, client(realm.url) as sender:
            found = (await post(sender)).retry_after_ms
        assert found == (None if delay_ms is None else pytest.approx(delay_ms, abs=1000))

    check()
