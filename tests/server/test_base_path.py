"""A server below a path of its host: every path, link and document has it, and nothing answers elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from interlock.machine.errors import SettingsError
from interlock.server.settings_loading import load_settings
from tests.support.browser import chromium
from tests.support.client import PASSWORD, new_email
from tests.support.fronts import nginx
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server
from tests.support.source import ROOT

BASE: Final = "/auth"
TEMPLATES: Final = ROOT / "server/experience/pages/templates"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("below") / "data", base_path=BASE) as process:
        yield process


@pytest.fixture
def host(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url.removesuffix(BASE), timeout=30) as client:
        yield client


def logged_in(host: httpx.Client, **headers: str) -> dict[str, Any]:
    account = {"email": new_email(), "password": PASSWORD}
    host.post(f"{BASE}/api/auth/register", json=account, headers=headers).raise_for_status()
    tokens: dict[str, Any] = (
        host.post(f"{BASE}/api/auth/login", json=account, headers=headers).raise_for_status().json()
    )
    return tokens


def test_the_server_prints_its_base_url_with_the_path(server: ServerProcess) -> None:
    assert server.url.endswith(BASE)


@pytest.mark.parametrize(
    "path",
    ["/", "/api/session", "/health/ready", "/api/forward-auth", "/authx", "/au", "/Auth/health/ready", "//auth/"],
)
def test_nothing_answers_outside_of_the_base_path(host: httpx.Client, path: str) -> None:
    answer = host.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/auth/auth/health/ready", "/auth//health/ready", "/auth%2Fhealth/ready"])
def test_the_base_path_is_removed_once_and_literally(host: httpx.Client, path: str) -> None:
    assert host.get(path).status_code == 404


@pytest.mark.parametrize("path", [BASE, f"{BASE}/"])
def test_every_link_of_the_front_page_leads_somewhere(host: httpx.Client, path: str) -> None:
    links = set(re.findall(r'(?:href|src)="(/[^"]*)"', host.get(path).raise_for_status().text))
    assert {f"{BASE}/schema", f"{BASE}/static/pages.css"} <= links
    assert {link: status for link in links if (status := host.get(link).status_code) != 200} == {}


def test_every_absolute_link_in_a_template_begins_with_the_base_path() -> None:
    templates = sorted(TEMPLATES.rglob("*.html"))
    assert templates
    links = {path.name: re.findall(r'(?:href|src|action)="(/[^"]*)"', path.read_text()) for path in templates}
    assert {name: found for name, found in links.items() if found} == {}


def test_the_documents_name_the_base_path(host: httpx.Client) -> None:
    openapi = host.get(f"{BASE}/schema").json()
    asyncapi = host.get(f"{BASE}/schema/asyncapi.json").json()
    assert openapi["servers"] == [{"url": BASE}]
    assert "/api/session" in openapi["paths"]
    assert asyncapi["channels"]["connect"]["address"] == f"{BASE}/api/connect"


def test_the_link_to_the_next_page_is_below_the_base_path(host: httpx.Client) -> None:
    bearer = {"authorization": f"Bearer {logged_in(host)['access_token']}"}
    answer = host.get(f"{BASE}/api/session/transitions", params={"limit": 1}, headers=bearer)
    target = re.match("<([^>]*)>", answer.headers["link"])
    assert target is not None
    assert target[1].startswith(f"{BASE}/api/session/transitions?")
    assert host.get(target[1], headers=bearer).status_code == 200


def test_forward_auth_and_the_websocket_are_below_the_base_path(server: ServerProcess, host: httpx.Client) -> None:
    bearer = {"authorization": f"Bearer {logged_in(host)['access_token']}"}
    for _ in range(2):  # the second answer comes from memory
        assert host.get(f"{BASE}/api/forward-auth", headers=bearer).headers["x-session-state"] == "authenticated"
    with connect(server.socket_url, additional_headers=bearer, subprotocols=[Subprotocol("interlock.v1")]) as socket:
        assert json.loads(socket.recv())["type"] == "hello"


def test_cookies_keep_their_names_and_the_root_path(host: httpx.Client) -> None:
    page = {"origin": str(host.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    cookies = host.post(f"{BASE}/api/session", headers=page).raise_for_status().headers.get_list("set-cookie")
    assert any(each.startswith("__Host-interlock=") for each in cookies)
    assert all(each.startswith("__Host-interlock") and "; Path=/;" in each for each in cookies)


@pytest.mark.parametrize(
    "path", ["auth", "/auth/", "/", "/a//b", "/..", "/a/../b", "/a%2f", "/a b", "/a?b", "https://x"]
)
def test_a_base_path_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=r"^--base-path: expected a path such as /auth, without / at the end$"):
        load_settings({"base_path": path}, {})


def test_a_base_path_may_have_several_segments() -> None:
    assert load_settings({"base_path": "/identity/v1.2"}, {}).base_path == "/identity/v1.2"


@scenario()
async def test_a_page_below_the_base_path_works_in_a_browser_through_nginx(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", base_path=BASE, trusted_proxies="127.0.0.1") as server,
        nginx(tmp_path, server.url, page="below-a-path.md") as front,
    ):
        async with chromium(tmp_path, front.certificate) as browser:
            tab = await browser.tab()
            await tab.go(f"{front.origin}{BASE}/")
            shown = await tab.run("""
                return {
                    title: document.querySelector("h1").textContent,
                    rules: [...document.styleSheets].map(each => each.cssRules.length),
                    icon: document.querySelector("header img").naturalWidth,
                };""")
            assert shown["title"] == "This is a session-lifecycle server"
            assert shown["rules"]
            assert all(shown["rules"])
            assert shown["icon"] > 0
            found = await tab.run(
                """
                const call = async (path, body = {}, headers = {}) => {
                    const answer = await fetch(`/auth/api/${path}`, {
                        method: "POST", body: JSON.stringify(body), headers: {"content-type": "application/json", ...headers}});
                    return answer.status === 204 ? {} : answer.json();
                };
                await call("auth/register", account);
                await call("auth/login", account);
                const {access_token, session_id} = await call("auth/refresh");
                const {ticket} = await call("session/ticket", {}, {authorization: `Bearer ${access_token}`});
                const socket = new WebSocket(`wss://${location.host}/auth/api/connect`, ["interlock.v1", `ticket.${ticket}`]);
                const hello = await new Promise(resolve => socket.onmessage = message => resolve(JSON.parse(message.data)));
                const closed = new Promise(resolve => socket.onclose = event => resolve(event.code));
                const application = await (await fetch("/api/of-the-application")).json();
                await call("auth/logout");
                return {session_id, hello, closed: await closed, application};""",
                account={"email": new_email(), "password": PASSWORD},
            )
            assert found["hello"]["type"] == "hello"
            assert found["closed"] == 4403
            assert "__Host-interlock=" not in dict(found["application"]["headers"]).get("cookie", "")
            for hidden in ("/auth/api/admin/sessions", "/auth/api/forward-auth"):
                assert front.say(hidden) == 404
