"""Forward-auth through nginx and Caddy as in the how-to pages: no unauthorised request passes, nor under another identity."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
import websockets

from tests.support.admin import Admin, admin_token
from tests.support.asynchronous import asynchronous
from tests.support.client import Client, closed, hello, logged_in
from tests.support.fronts import FRONTS, HOST, IDENTITY, Front, block_of, identity
from tests.support.server import ServerProcess, running_server

COOKIE: Final = "__Host-interlock"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("fronts") / "data", trusted_proxies="127.0.0.1") as process:
        yield process


@asynccontextmanager
async def user_of(front: Front) -> AsyncIterator[Client]:
    """Log in a new user through the proxy."""
    async with front.client() as http:
        client = await logged_in(front.origin, http)
        front.seen()
        yield client


async def subject_of(client: Client) -> str:
    return str((await client.session())["subject"])


LIES: Final = [
    (spelling, "root")
    for name in IDENTITY
    for spelling in (name, name.upper(), *(name.title().replace("-", other) for other in "-_.!#$%&'*+^`|~"))
]
"""Every identity header, several times, in every spelling that some reader accepts."""


@pytest.mark.asvs("4.1.3")
@asynchronous
async def test_the_application_receives_the_true_identity_not_the_clients_claims(front: Front) -> None:
    async with user_of(front) as client:
        answer = await client.http.get("/anything?x=1", headers=[*client.bearer.items(), *LIES])
        assert answer.status_code == 200, answer.text
        assert identity(answer.json()) == {
            "remote-user": [await subject_of(client)],
            "x-session-id": [client.session_id],
            "x-session-state": ["authenticated"],
        }


@asynchronous
async def test_the_maximum_of_groups_reaches_the_application_unchanged(front: Front, server: ServerProcess) -> None:
    groups = [f"{number:03}" for number in range(511)] + ["a b"]
    async with user_of(front) as client, Admin(server.url, admin_token(server.data, uuid4().hex[:8])) as admin:
        path = f"/accounts/{await subject_of(client)}/groups"
        (await admin.http.put(path, json={"groups": groups})).raise_for_status()
        answer = await client.request("GET", "/x")
        assert answer.status_code == 200, answer.text
        assert identity(answer.json())["remote-groups"] == [",".join(groups)]
        assert (await admin.http.put(path, json={"groups": [*groups, "x"]})).status_code == 400


@pytest.mark.asvs("4.1.3")
@asynchronous
async def test_a_public_path_receives_no_identity(front: Front) -> None:
    async with user_of(front) as client:
        for headers in ([*LIES], [*client.bearer.items(), *LIES]):
            answer = await client.http.get("/public/x", headers=headers)
            assert answer.status_code == 200
            assert identity(answer.json()) == {}


@pytest.mark.asvs("10.1.1")
@asynchronous
async def test_the_application_gets_its_own_cookies_and_no_token(front: Front) -> None:
    async with user_of(front) as client:
        token = f"{COOKIE}={client.refresh_token}"
        for cookies, kept in (
            (token, {""}),
            (f"{token}; theme=dark", {"theme=dark"}),
            (f"theme=dark; {token}", {"theme=dark"}),
            (f"theme=dark;{token};lang=en", {"theme=dark", "lang=en"}),
            (f"{COOKIE}-device=1.x.y; {token}; lang=en", {f"{COOKIE}-device=1.x.y", "lang=en"}),
            ("theme=dark; lang=en", {"theme=dark", "lang=en"}),
        ):
            for path in ("/x", "/public/x"):
                headers = {**client.bearer, "cookie": cookies}
                answer = await client.http.get(path, headers=headers)
                assert answer.status_code == 200, answer.text
                assert client.access_token not in answer.text
                assert client.refresh_token not in answer.text
                reached = dict(answer.json()["headers"]).get("cookie", "")
                assert {each.strip() for each in reached.split(";")} - {""} == kept - {""}
        by_cookie = {"cookie": token, "sec-fetch-site": "same-origin"}
        answer = await client.http.get("/x", headers=by_cookie)
        assert identity(answer.json())["x-session-id"] == [client.session_id]
        assert client.refresh_token not in answer.text
        headers = {**client.bearer, "Cookie": token}
        async with front.socket("/live", additional_headers=headers) as socket:
            reached = str(await socket.recv())
            assert client.access_token not in reached
            assert client.refresh_token not in reached


@asynchronous
async def test_without_a_valid_credential_no_request_reaches_the_application(front: Front) -> None:
    async with user_of(front) as client:
        tokens = client.tokens
        head, payload, signature = client.access_token.split(".")
        for headers in (
            {},
            {"authorization": "Bearer garbage"},
            {"authorization": f"Bearer {client.session_id}"},
            {"authorization": f"Bearer {client.refresh_token}"},
            {"authorization": f"Bearer {head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"},
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
async def test_browsers_are_redirected_to_the_login_page_only(front: Front) -> None:
    async with front.client() as http:
        answer = await http.get("/x?next=//evil.example", headers={"sec-fetch-mode": "navigate", "accept": "text/html"})
        assert answer.status_code == 302
        there = answer.headers["location"].removeprefix(front.origin)
        assert there == "/login?next=/x?next=//evil.example", "the page itself decides where it leads"
        page = await http.get(there)
        assert page.status_code == 200
        assert 'data-next="/x?next=//evil.example"' in page.text
        for path in re.findall(r'(?:href|src)="(/static/[^"]*)"', page.text):
            assert (await http.get(path)).status_code == 200, path
        assert front.seen() == [], "nothing of it reaches the application"


@pytest.mark.asvs("13.4.5")
@asynchronous
async def test_clients_can_not_call_forward_auth_through_the_proxy(front: Front) -> None:
    async with user_of(front) as client:
        for path in ("/api/forward-auth", "/api/admin/sessions"):
            assert (await client.request("GET", path)).status_code == 404
        for path in ("/schema", "/health/ready", "/metrics", "/oauth/introspect"):
            assert (await client.http.get(path)).status_code == 401, "not Interlock's to the outside"


@pytest.mark.asvs("3.5.1", "3.5.3", "4.1.3")
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
async def test_the_applications_websocket_opens_for_authorised_users(front: Front) -> None:
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
async def test_interlocks_websocket_works_and_closes_through_the_proxy(front: Front) -> None:
    async with user_of(front) as client:
        arguments: dict[str, Any] = {"subprotocols": ["interlock.v1"], "additional_headers": client.bearer}
        async with front.socket("/api/connect", **arguments) as socket:
            assert (await hello(socket))["session_id"] == client.session_id
            answer = await client.request("GET", "/x")
            assert identity(answer.json())["x-session-state"] == ["connected"]
            (await client.request("POST", "/api/auth/logout")).raise_for_status()
            assert await closed(socket) == (4403, "session ended: logout")


@pytest.mark.asvs("4.4.1")
@asynchronous
async def test_without_tls_no_websocket_opens(front: Front) -> None:
    for path in ("/api/connect", "/live"):
        with pytest.raises(websockets.InvalidHandshake):
            await websockets.connect(f"ws://{HOST}:{front.port}{path}", host="127.0.0.1", port=front.port)
        statuses = []
        # HAProxy says nothing; the others say that this port speaks TLS.
        with suppress(httpx.RemoteProtocolError):
            async with httpx.AsyncClient(headers={"host": f"{HOST}:{front.port}"}) as http:
                statuses.append((await http.get(f"http://127.0.0.1:{front.port}{path}")).status_code)
        assert statuses in ([400], [])


@pytest.mark.asvs("4.4.1")
def test_the_guides_listen_for_nothing_but_tls() -> None:
    """Caddy serves HTTPS for a name without a scheme, and Traefik nothing else for a router with ``tls``."""
    listeners = re.findall(r"^ *listen +(.*);", block_of("behind-nginx.md"), re.MULTILINE)
    assert listeners == ["443 ssl"]
    assert re.findall(r"^ *bind +(.*)$", block_of("behind-haproxy.md"), re.MULTILINE) == [
        ":443 ssl crt /etc/ssl/app.example.org.pem alpn h2,http/1.1"
    ]
    sites = re.findall(r"^([^\s#(].*?) *\{$", block_of("behind-caddy.md"), re.MULTILINE)
    assert sites == [HOST]
    _, _, routers = block_of("behind-traefik.md").partition("\n  routers:\n")
    routers, _, _ = routers.partition("\n  services:\n")
    assert routers.count("rule: Host(") == routers.count("\n      tls: {}\n") == 8


@pytest.mark.asvs("7.4.1")
@pytest.mark.parametrize("name", FRONTS)
@asynchronous
async def test_a_logout_outlives_a_restart_and_nothing_passes_meanwhile(name: str, tmp_path: Path) -> None:
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
                # The proxy may treat a restarted server as dead for a few more seconds.
                while (answer := await stays.request("GET", "/x")).status_code >= 500:
                    pass
                return answer

            assert (await passes()).status_code == 200
            front.seen()
            cookie = {"cookie": f"{COOKIE}={gone.refresh_token}", "sec-fetch-site": "same-origin"}
            for headers in (gone.bearer, cookie):
                assert (await http.get("/x", headers=headers)).status_code == 401
            assert front.seen() == []
