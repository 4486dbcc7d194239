"""Requests hidden in the bodies of upgrade offers, through nginx and Caddy as in the guides."""

from __future__ import annotations

import itertools
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPResponse
from typing import Final

import pytest

from tests.support.admin import Admin, admin_token
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, logged_in
from tests.support.fronts import HOST, Front, identity
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

HANDSHAKE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "interlock.v1",
}
JSON: Final = {"Content-Type": "application/json"}
OFFERS: Final[dict[str, Mapping[str, str]]] = {
    "foo": {"Connection": "upgrade", "Upgrade": "foo"},
    "h2c": {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"},
    "websocket": {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"},
    "a whole handshake": HANDSHAKE,
}
REQUESTS: Final = (
    ("POST", "/api/session"),
    ("GET", "/api/session"),
    ("GET", "/api/connect"),
    ("POST", "/api/auth/login"),
)
APPLICATIONS: Final = (("GET", "/x"), ("POST", "/x"), ("POST", "/public/x"))
FRAMINGS: Final = ("length", "chunks")
CUTS: Final = ("whole", "body apart", "pieces")
PAUSE_S: Final = 0.02
"""Pause between two segments, long enough that they arrive separately."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("bodies") / "data", trusted_proxies="127.0.0.1") as process:
        yield process


@pytest.fixture(scope="module")
def secret(server: ServerProcess) -> str:
    """Return an administrator's secret."""
    return admin_token(server.data)


def request_of(line: str, headers: Mapping[str, str], body: str = "") -> bytes:
    """Return a whole request. ``line`` is its method and target."""
    length = {"Content-Length": str(len(body))} if body else {}
    lines = [
        f"{line} HTTP/1.1",
        f"Host: {HOST}",
        *(f"{name}: {value}" for name, value in {**headers, **length}.items()),
    ]
    return ("\r\n".join([*lines, "", ""]) + body).encode()


def segments(request: tuple[str, str], headers: Mapping[str, str], body: bytes, framing: str, cut: str) -> list[bytes]:
    """Return the request with ``body``, in the segments in which it is sent."""
    if framing == "chunks":
        headers = {**headers, "Transfer-Encoding": "chunked"}
        body = b"3\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:3], len(body) - 3, body[3:])
    else:
        headers = {**headers, "Content-Length": str(len(body))}
    head = request_of(" ".join(request), headers)
    if cut == "whole":
        return [head + body]
    if cut == "body apart":
        return [head, body]
    third = len(body) // 3
    return [head[:-2], head[-2:] + body[:third], body[third : 2 * third], body[2 * third :]]


def ask(wire: ssl.SSLSocket, parts: Sequence[bytes]) -> HTTPResponse:
    """Return the head of the answer to the request with segments ``parts``."""
    for number, part in enumerate(parts):
        time.sleep(PAUSE_S * bool(number))
        wire.sendall(part)
    answer = HTTPResponse(wire)
    answer.begin()
    return answer


def status_of(front: Front, parts: Sequence[bytes]) -> int:
    """Return the status of the answer to a request on a new connection."""
    with front.wire() as wire:
        return ask(wire, parts).status


async def user_of(front: Front) -> tuple[Client, str]:
    """Log in a new user through the proxy. Return the tokens and the account's id."""
    async with front.client() as http:
        client = await logged_in(front.origin, http)
        subject = str((await client.session())["subject"])
    front.seen()
    return client, subject


def gets_own_answer(front: Front, person: Client) -> None:
    """Check that ``person`` gets their own session through the proxy, which already has open connections to the server."""
    with front.wire() as wire:
        answer = ask(wire, [request_of("GET /api/session", person.bearer)])
        body = answer.read()
    assert answer.status == 200, body
    assert json.loads(body)["session_id"] == person.session_id


HIDDEN: Final = {
    "an administrator's": request_of(
        "PUT /api/admin/accounts/SUBJECT/groups", {"Authorization": "Bearer SECRET", **JSON}, '{"groups": ["root"]}'
    ),
    "a new account": request_of(
        "POST /api/auth/register", JSON, '{"email": "eve@example.org", "password": "correct horse battery eve"}'
    ),
    "the beginning of one": b"POST /api/auth/logout HTTP/1.1\r\nHost: x\r\nX: ",
    "one that wants more": b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
}
"""Bodies. The first two hold whole requests; the others would swallow the next user's request."""


@pytest.mark.asvs("4.2.1")
@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@asynchronous
async def test_no_body_of_an_offer_reaches_interlock_as_a_request(
    front: Front, server: ServerProcess, secret: str, offer: Mapping[str, str], hidden: bytes
) -> None:
    person, subject = await user_of(front)
    body = hidden.replace(b"SUBJECT", subject.encode()).replace(b"SECRET", secret.encode())
    _, accounts, _ = stored(server.data)
    for request, framing, cut in itertools.product(REQUESTS, FRAMINGS, CUTS):
        status = status_of(front, segments(request, {**offer, **JSON}, body, framing, cut))
        assert status != 101, request
        gets_own_answer(front, person)
    assert stored(server.data)[1] == accounts
    async with Admin(server.url, secret) as admin:
        assert (await admin.get(f"/accounts/{subject}"))["groups"] == []


@pytest.mark.asvs("4.1.3", "4.2.1")
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@asynchronous
async def test_no_body_of_an_offer_reaches_the_application_as_a_request(front: Front, offer: Mapping[str, str]) -> None:
    (attacker, _), (person, _) = await user_of(front), await user_of(front)
    for hidden in (
        b"GET /admin HTTP/1.1\r\nHost: x\r\nRemote-User: root\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: x\r\nRemote-User: root\r\nX: ",
    ):
        for request, framing, cut in itertools.product(APPLICATIONS, FRAMINGS, CUTS):
            parts = segments(request, {**offer, **attacker.bearer}, hidden, framing, cut)
            assert status_of(front, parts) in {200, 400, 413}, (request, framing, cut)
            assert status_of(front, [request_of("GET /x", person.bearer)]) == 200, (request, framing, cut)
        for reached in front.seen():
            assert reached["raw_path"] in {"/x", "/public/x"}
            assert identity(reached).get("remote-user") != ["root"]
