"""Admission over a real server: too many requests are refused with 429, each by its own limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, Client, closed, hello, logged_in, new_email
from tests.support.running import eventually
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with limits of two per address and five per account, which trusts forwarded addresses."""
    with running_server(
        tmp_path_factory.mktemp("traffic") / "data",
        trusted_proxies="127.0.0.1",
        limit_address="2/1h",
        limit_session_create="2/1h",
        limit_register="2/1h",
        limit_login_address="2/1h",
        limit_account="5/1h",
        limit_password="2/1h",
    ) as process:
        yield process


_places = iter(range(1, 65_000))


def place() -> dict[str, str]:
    """Return an address that was never used before."""
    number = next(_places)
    return {"X-Forwarded-For": f"198.51.{number // 256}.{number % 256}"}


@asynccontextmanager
async def at_new_place(server: ServerProcess) -> AsyncIterator[Client]:
    http = httpx.AsyncClient(base_url=server.url, timeout=60, headers=place())
    async with Client(server.url, http) as client:
        yield client


async def at_home(server: ServerProcess) -> Client:
    client = await logged_in(server.url, httpx.AsyncClient(base_url=server.url, timeout=60, headers=place()))
    client.http.headers.update(place())
    return client


def limited(answer: httpx.Response) -> bool:
    if answer.status_code != 429:
        return False
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"]) == ("urn:interlock:problem:rate-limited", 429)
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    return True


@pytest.mark.asvs("2.4.1", "6.3.4")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/session", None),
        ("/api/auth/register", {"email": "not an address", "password": PASSWORD}),
        ("/api/auth/login", {"email": "nobody@example.org", "password": "wrong"}),
        ("/api/auth/exchange", {"id_token": "x"}),
        ("/api/auth/refresh", {"refresh_token": "x"}),
        ("/api/auth/password", {"current_password": "x", "new_password": "y"}),
        ("/api/session/ticket", None),
    ],
)
def test_requests_are_limited_per_address(server: ServerProcess, path: str, body: Any) -> None:
    here, there = place(), place()
    with httpx.Client(base_url=server.url) as http:
        answers = [http.post(path, json=body, headers=here) for _ in range(3)]
        assert [limited(answer) for answer in answers] == [False, False, True]
        before = stored(server.data)
        assert limited(http.post(path, json=body, headers=here))
        assert stored(server.data) == before, "a refusal changes nothing"
        assert not limited(http.post(path, json=body, headers=there))


@pytest.mark.asvs("2.4.1")
@asynchronous
async def test_requests_are_limited_per_account_across_addresses(server: ServerProcess) -> None:
    client = await at_home(server)
    other = await at_home(server)
    async with client, other:
        for _ in range(5):
            assert (await client.request("POST", "/api/session/ticket", headers=place())).status_code == 201
            assert (await client.http.post("/api/auth/refresh", headers=place(), json=token(client))).status_code == 200
        assert limited(await client.request("POST", "/api/session/ticket", headers=place()))
        assert limited(await client.http.post("/api/auth/refresh", headers=place(), json=token(client)))
        for _ in range(4):
            body = {"email": client.email, "password": PASSWORD}
            assert (await client.http.post("/api/auth/login", headers=place(), json=body)).status_code == 200
        assert limited(await client.http.post("/api/auth/login", headers=place(), json=body))
        assert (await other.request("POST", "/api/session/ticket")).status_code == 201


def token(client: Client) -> dict[str, str]:
    return {"refresh_token": client.refresh_token}


@pytest.mark.asvs("2.4.1", "6.3.1")
@asynchronous
async def test_rate_limited_handshakes_are_refused_before_the_upgrade(server: ServerProcess) -> None:
    here = place()
    for _ in range(2):
        async with Client(server.url).connect(additional_headers=here) as socket:
            assert (await closed(socket))[0] == 4401
    with pytest.raises(websockets.InvalidStatus) as refused:
        await Client(server.url).connect(additional_headers=here)
    assert refused.value.response.status_code == 429
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    assert int(refused.value.response.headers["retry-after"]) > 0
    client = await at_home(server)
    async with client:
        for _ in range(5):
            async with client.connect(additional_headers={**client.bearer, **place()}) as socket:
                await hello(socket)
        with pytest.raises(websockets.InvalidStatus) as refused:
            await client.connect(additional_headers={**client.bearer, **place()})
        assert refused.value.response.status_code == 429
        await eventually(lambda: nobody(client))


async def nobody(client: Client) -> bool:
    return int((await client.session())["connections"]) == 0


@pytest.mark.asvs("6.3.1")
@asynchronous
async def test_a_stolen_sessions_password_guesses_are_limited_by_themselves(
    server: ServerProcess,
) -> None:
    client = await at_home(server)
    async with client:
        owner = client.sibling()
        await owner.log_in(client.email)
        wrong = {"current_password": "wrong", "new_password": "quite another password"}
        for _ in range(2):
            assert (await client.request("POST", "/api/auth/password", json=wrong, headers=place())).status_code == 403
        assert limited(await client.request("POST", "/api/auth/password", json=wrong, headers=place()))
        right = {"current_password": PASSWORD, "new_password": "quite another password"}
        assert (await owner.request("POST", "/api/auth/password", json=right, headers=place())).status_code == 200


@asynchronous
async def test_a_refused_new_password_is_not_counted_as_a_guess(server: ServerProcess) -> None:
    client = await at_home(server)
    async with client:
        for _ in range(4):
            body = {"current_password": PASSWORD, "new_password": "passwordpassword"}
            answer = await client.request("POST", "/api/auth/password", json=body, headers=place())
            assert answer.status_code == 422


@pytest.mark.asvs("4.1.3")
def test_a_header_of_an_untrusted_proxy_does_not_change_the_limit(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", trusted_proxies="192.0.2.1", limit_session_create="2/1h") as server:
        with httpx.Client(base_url=server.url) as http:
            answers = [http.post("/api/session", headers=place()) for _ in range(3)]
        assert [limited(answer) for answer in answers] == [False, False, True]


@asynchronous
async def test_a_refusal_with_retry_after_is_delayed_without_delaying_others(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", limit_session_create="1/1h", refusal_delay_s=10, drain_s=0.1) as server:
        async with Client(server.url) as client:
            (await client.begin()).raise_for_status()
            refused = asyncio.create_task(client.http.post("/api/session"))
            for _ in range(5):
                await client.session()
            assert not refused.done()
            refused.cancel()


def test_a_known_browser_has_an_http_only_device_cookie(server: ServerProcess) -> None:
    page = {"Origin": server.url, **place()}
    body = {"email": new_email(), "password": PASSWORD}
    with httpx.Client(base_url=server.url) as http:
        http.post("/api/auth/register", json=body, headers=page).raise_for_status()
        answer = http.post("/api/auth/login", json=body, headers=page).raise_for_status()
    (line,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith("__Host-interlock-device=")]
    cookie, *attributes = line.split("; ")
    assert {attribute.lower() for attribute in attributes} == {
        "max-age=15552000",
        "path=/",
        "secure",
        "httponly",
        "samesite=strict",
    }
    answer = httpx.get(f"{server.url}/api/session", headers={"Cookie": cookie, "Origin": server.url})
    assert answer.status_code == 401, "it opens nothing"


def test_invalid_trusted_proxies_stop_the_start(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {"trusted_proxies": "localhost"})
    with pytest.raises(AssertionError, match="trusted_proxies: localhost"):
        server.start()
    server.kill()


def test_clients_of_exempt_networks_are_not_rate_limited(tmp_path: Path) -> None:
    for name, uncounted, status in (("home", "127.0.0.0/8,::1", 201), ("elsewhere", "192.0.2.0/24", 429)):
        with (
            running_server(tmp_path / name, limit_session_create="2/1h", rate_limit_exempt=uncounted) as server,
            httpx.Client(base_url=server.url) as http,
        ):
            answers = [http.post("/api/session").status_code for _ in range(3)]
            assert answers == [201, 201, status]


@pytest.mark.asvs("6.3.1")
def test_failed_passwords_count_even_in_exempt_networks(tmp_path: Path) -> None:
    limits = {"limit_login_client": "2/1h", "limit_password": "2/1h"}
    account = {"email": new_email(), "password": PASSWORD}
    wrong = {**account, "email": new_email()}
    change = {"current_password": "wrong", "new_password": "quite another password"}
    with (
        running_server(tmp_path / "data", rate_limit_exempt="127.0.0.0/8,::1", **limits) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        http.post("/api/auth/register", json=account).raise_for_status()
        tokens = http.post("/api/auth/login", json=account).raise_for_status().json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        answers = [http.post("/api/auth/password", json=change, headers=bearer) for _ in range(3)]
        assert [limited(answer) for answer in answers] == [False, False, True]
        answers = [http.post("/api/auth/login", json=wrong) for _ in range(3)]
        assert [limited(answer) for answer in answers] == [False, False, True]
