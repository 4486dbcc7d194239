"""Forward-auth through nginx and Caddy, configured as the how-to pages say: none passes who should not, or as another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import websockets

from tests.support.asynchronous import asynchronous
from tests.support.client import Client, closed, hello, logged_in
from tests.support.fronts import Front, caddy, nginx
from tests.support.server import ServerProcess, running_server

FRONTS: Final[dict[str, Callable[[Path, str], AbstractContextManager[Front]]]] = {"nginx": nginx, "caddy": caddy}
IDENTITY: Final = ("remote-user", "remote-groups", "remote-email", "remote-name", "x-session-id", "x-session-state")
COOKIE: Final = "__Host-interlock"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("fronts") / "data") as process:
        yield process


@pytest.fixture(scope="module", params=FRONTS)
def front(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with FRONTS[request.param](tmp_path_factory.mktemp(request.param), server.url) as running:
        yield running


@asynccontextmanager
async def user_of(front: Front) -> AsyncIterator[Client]:
    """Somebody new, logged in through the proxy."""
    async with front.client() as http:
        client = await logged_in(front.origin, http)
        front.seen()
        yield client


def identity(reached: dict[str, Any]) -> dict[str, list[str]]:
    """The identity headers that reached the application, as an application server of the old school reads them."""
    found: dict[str, list[str]] = {}
    for name, value in reached["headers"]:
        plain = name.lower().replace("_", "-")
        if plain in IDENTITY and value:
            found.setdefault(plain, []).append(value)
    return found


async def subject_of(client: Client) -> str:
    return str((await client.session())["subject"])


LIES: Final = [
    (name, value)
    for spelling in (str.title, str.lower, str.upper, lambda name: name.title().replace("-", "_"))
    for name, value in ((spelling(name), "root") for name in IDENTITY)
]
"""Every identity header, several times, in several spellings."""


@pytest.mark.asvs("4.1.3")
@asynchronous
async def test_the_application_hears_who_is_calling_and_nothing_that_the_client_says_of_it(front: Front) -> None:
    async with user_of(front) as client:
        answer = await client.http.get("/anything?x=1", headers=[*client.bearer.items(), *LIES])
        assert answer.status_code == 200, answer.text
        assert identity(answer.json()) == {
            "remote-user": [await subject_of(client)],
            "x-session-id": [client.session_id],
            "x-session-state": ["authenticated"],
        }


@pytest.mark.asvs("4.1.3")
@asynchronous
async def test_on_a_path_for_everybody_nobody_has_an_identity(front: Front) -> None:
    async with user_of(front) as client:
        for headers in ([*LIES], [*client.bearer.items(), *LIES]):
            answer = await client.http.get("/public/x", headers=headers)
            assert answer.status_code == 200
            assert identity(answer.json()) == {}


@asynchronous
async def test_who_has_no_good_credential_does_not_reach_the_application(front: Front) -> None:
    async with user_of(front) as client:
        tokens = client.tokens
        for headers in (
            {},
            {"authorization": "Bearer garbage"},
            {"authorization": f"Bearer {client.session_id}"},
            {"authorization": f"Bearer {client.refresh_token}"},
            {"authorization": f"Bearer {client.access_token[:-2]}AA"},
            {"cookie": f"{COOKIE}={client.access_token}"},
            {"cookie": f"{COOKIE}={client.session_id}"},
        ):
            answer = await client.http.get("/x", headers=[*headers.items(), *LIES])
            assert answer.status_code == 401, headers
            assert "www-authenticate" in answer.headers
        anonymous = client.sibling()
        (await anonymous.begin()).raise_for_status()
        assert (await anonymous.request("GET", "/x")).status_code == 403
        assert front.seen() == []
        client.tokens = tokens
        assert (await client.request("GET", "/x")).status_code == 200


@asynchronous
async def test_people_are_sent_to_the_login_page_and_nowhere_else(front: Front) -> None:
    async with front.client() as http:
        answer = await http.get("/x?next=//evil.example", headers={"sec-fetch-mode": "navigate", "accept": "text/html"})
        assert answer.status_code == 302
        assert answer.headers["location"] in {"/public/login", f"{front.origin}/public/login"}


@pytest.mark.asvs("13.4.5")
@asynchronous
async def test_clients_cannot_ask_what_only_the_proxy_asks(front: Front) -> None:
    async with user_of(front) as client:
        for path in ("/api/forward-auth", "/api/admin/sessions"):
            assert (await client.request("GET", path)).status_code == 404
        for path in ("/schema", "/health/ready", "/metrics", "/oauth/introspect"):
            assert (await client.http.get(path)).status_code == 401, "not Interlock's to the outside"


@pytest.mark.asvs("3.5.1", "3.5.3")
@asynchronous
async def test_the_cookie_passes_for_the_applications_own_pages_only(front: Front) -> None:
    async with user_of(front) as client:
        cookie = {"cookie": f"theme=dark; {COOKIE}={client.refresh_token}"}

        async def status(method: str, **more: str) -> int:
            headers = {**cookie, **{name.replace("_", "-"): value for name, value in more.items()}}
            return (await client.http.request(method, "/x", headers=headers)).status_code

        assert await status("GET", sec_fetch_site="same-origin") == 200
        assert await status("GET", sec_fetch_site="none", sec_fetch_mode="navigate", sec_fetch_dest="document") == 200
        assert await status("POST", origin=front.origin, sec_fetch_site="same-origin") == 200
        assert {seen["method"] for seen in front.seen()} == {"GET", "POST"}
        for method in ("POST", "PUT", "DELETE"):
            assert await status(method) == 403, "a page can't be told from it"
            assert await status(method, origin="https://evil.example") == 403
            assert await status(method, origin="null") == 403
            assert await status(method, origin=front.origin.replace("https", "http")) == 403
            assert await status(method, origin="https://evil.example", x_forwarded_host="evil.example") == 403
            assert await status(method, sec_fetch_site="same-site", x_forwarded_method="GET") == 403
            assert await status(method, x_forwarded_method="GET") == 403
        assert await status("GET", sec_fetch_site="cross-site", sec_fetch_mode="no-cors", sec_fetch_dest="image") == 403
        assert front.seen() == []


@pytest.mark.asvs("7.4.1")
@asynchronous
async def test_after_logout_neither_token_nor_cookie_passes(front: Front) -> None:
    async with user_of(front) as client:
        credentials = [
            client.bearer,
            {"cookie": f"{COOKIE}={client.refresh_token}", "sec-fetch-site": "same-origin"},
        ]
        for headers in credentials:
            assert (await client.http.get("/x", headers=headers)).status_code == 200
        front.seen()
        assert (await client.request("POST", "/api/auth/logout")).status_code == 204
        for headers in credentials:
            assert (await client.http.get("/x", headers=headers)).status_code == 401
        assert front.seen() == []


@asynchronous
async def test_the_applications_websocket_opens_for_whoever_may(front: Front) -> None:
    async with user_of(front) as client:
        async with front.socket("/live", additional_headers=[*client.bearer.items(), *LIES]) as socket:
            reached = json.loads(await socket.recv())
            assert (reached["type"], identity(reached)["remote-user"]) == ("websocket", [await subject_of(client)])
            await socket.send("hello")
            assert await socket.recv() == "hello"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await front.socket("/live")
        assert refused.value.response.status_code == 401


@pytest.mark.asvs("4.4.2")
@asynchronous
async def test_the_applications_websocket_is_closed_to_other_sites(front: Front) -> None:
    async with user_of(front) as client:
        cookie = {"Cookie": f"{COOKIE}={client.refresh_token}"}
        async with front.socket("/live", additional_headers=cookie, origin=front.origin) as socket:
            assert identity(json.loads(await socket.recv()))["x-session-id"] == [client.session_id]
        front.seen()
        for origin in ("https://evil.example", "null", "https://evil.example.org"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await front.socket("/live", additional_headers=cookie, origin=origin)
            assert refused.value.response.status_code == 403
        assert front.seen() == []


@asynchronous
async def test_interlocks_own_websocket_works_through_it_and_closes_when_the_session_ends(front: Front) -> None:
    async with user_of(front) as client:
        arguments: dict[str, Any] = {"subprotocols": ["interlock.v1"], "additional_headers": client.bearer}
        async with front.socket("/api/connect", **arguments) as socket:
            assert (await hello(socket))["session_id"] == client.session_id
            answer = await client.request("GET", "/x")
            assert identity(answer.json())["x-session-state"] == ["connected"]
            (await client.request("POST", "/api/auth/logout")).raise_for_status()
            assert await closed(socket) == (4403, "session ended: logout")


@pytest.mark.asvs("7.4.1")
@pytest.mark.parametrize("name", FRONTS)
@asynchronous
async def test_what_was_logged_out_stays_out_after_a_restart_and_nothing_passes_meanwhile(
    name: str, tmp_path: Path
) -> None:
    with running_server(tmp_path / "data") as server, FRONTS[name](tmp_path, server.url) as front:
        async with front.client() as http:
            gone, stays = await logged_in(front.origin, http), await logged_in(front.origin, http)
            assert (await gone.request("GET", "/x")).status_code == 200
            (await gone.request("POST", "/api/auth/logout")).raise_for_status()
            front.seen()
            server.stop()
            assert (await stays.request("GET", "/x")).status_code >= 500
            assert front.seen() == []
            server.start()

            async def passes() -> httpx.Response:
                # A proxy may hold a server that was away for dead a few seconds more.
                while (answer := await stays.request("GET", "/x")).status_code >= 500:
                    pass
                return answer

            assert (await passes()).status_code == 200
            front.seen()
            cookie = {"cookie": f"{COOKIE}={gone.refresh_token}", "sec-fetch-site": "same-origin"}
            for headers in (gone.bearer, cookie):
                assert (await http.get("/x", headers=headers)).status_code == 401
            assert front.seen() == []
