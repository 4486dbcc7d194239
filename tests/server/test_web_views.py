"""Apps' web views: pages of another site, which get the refresh token in the body, and never a cookie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import websockets
from websockets.sync.client import connect

from tests.support.client import PASSWORD, new_email
from tests.support.server import ServerProcess, running_server

APP: Final = "capacitor://localhost"
PAGE: Final = "https://app.example"
IN_APP: Final = {"origin": APP, "sec-fetch-site": "cross-site"}
ON_PAGE: Final = {"origin": PAGE, "sec-fetch-site": "cross-site"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("web views") / "data"
    with running_server(data, web_view_origins=APP, origins=PAGE) as process:
        yield process


def post(server: ServerProcess, path: str, headers: dict[str, str], body: Any = None) -> httpx.Response:
    return httpx.post(f"{server.url}/api/{path}", headers=headers, json=body, timeout=60)


def test_a_web_view_runs_a_session_by_tokens_in_bodies_alone(server: ServerProcess) -> None:
    account = {"email": new_email(), "password": PASSWORD}
    begun = post(server, "session", IN_APP)
    first = begun.json()
    registered = post(server, "auth/register", IN_APP, account)
    bearer = {"authorization": f"Bearer {first['access_token']}"}
    login = post(server, "auth/login", IN_APP | bearer, account)
    refreshed = post(server, "auth/refresh", IN_APP, {"refresh_token": login.json()["refresh_token"]})
    logout = post(server, "auth/logout", IN_APP, {"refresh_token": refreshed.json()["refresh_token"]})
    assert [each.status_code for each in (begun, registered, login, refreshed, logout)] == [201, 201, 200, 200, 204]
    assert login.json()["session_id"] == first["session_id"]
    for answer in (begun, registered, login, refreshed, logout):
        assert "set-cookie" not in answer.headers
        assert "clear-site-data" not in answer.headers
        assert answer.headers["access-control-allow-origin"] == APP
        assert "access-control-allow-credentials" not in answer.headers


def test_a_web_views_cookie_is_ignored(server: ServerProcess) -> None:
    token = post(server, "session", {}).json()["refresh_token"]
    cookie = {"cookie": f"__Host-interlock={token}"}
    assert post(server, "auth/refresh", IN_APP | cookie).status_code == 401
    assert httpx.get(f"{server.url}/api/forward-auth", headers=IN_APP | cookie).status_code == 403
    assert post(server, "session", IN_APP | cookie).json()["session_id"] != token.partition(".")[0]
    assert post(server, "auth/refresh", ON_PAGE | cookie).status_code == 200, "the same cookie, from a page"


def test_a_page_of_another_listed_origin_still_gets_its_cookie_only(server: ServerProcess) -> None:
    answer = post(server, "session", ON_PAGE)
    assert "refresh_token" not in answer.json()
    assert answer.headers["set-cookie"].startswith("__Host-interlock=")
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_a_web_view_opens_its_websocket_with_a_ticket(server: ServerProcess) -> None:
    bearer = {"authorization": f"Bearer {post(server, 'session', IN_APP).json()['access_token']}"}
    account = {"email": new_email(), "password": PASSWORD}
    post(server, "auth/register", IN_APP, account).raise_for_status()
    login = post(server, "auth/login", IN_APP | bearer, account).json()
    ticket = post(server, "session/ticket", IN_APP | {"authorization": f"Bearer {login['access_token']}"}).json()[
        "ticket"
    ]
    protocols: Any = ["interlock.v1", f"ticket.{ticket}"]
    with connect(server.socket_url, origin=websockets.Origin(APP), subprotocols=protocols, open_timeout=60) as socket:
        assert json.loads(socket.recv())["type"] == "hello"


@pytest.mark.parametrize("origin", ["capacitor://localhost.evil", "https://localhost", "capacitor://LOCALHOST", "null"])
def test_another_origin_is_no_web_view(server: ServerProcess, origin: str) -> None:
    answer = post(server, "session", {"origin": origin, "sec-fetch-site": "cross-site"})
    assert "refresh_token" not in answer.text
    assert "access-control-allow-origin" not in answer.headers
