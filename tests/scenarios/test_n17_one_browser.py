"""N17: one browser, one session. Real Chromium tabs act at once, and no logout leaves a live session behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.browser import Browser, Tab, chromium
from tests.support.client import PASSWORD, new_email
from tests.support.log import projection
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

ASK = """
    const ask = async (method, path, body, bearer) => {
        const options = {method, headers: {}};
        if (body) { options.body = JSON.stringify(body); options.headers["content-type"] = "application/json"; }
        if (bearer) options.headers["authorization"] = "Bearer " + bearer;
        const answer = await fetch(path, options);
        const text = await answer.text();
        return {status: answer.status, body: text ? JSON.parse(text) : null};
    };
"""


class Visit(msgspec.Struct):
    """A browser with an empty profile, and an account."""

    server: ServerProcess
    browser: Browser
    url: str
    account: dict[str, str]

    async def tabs(self, count: int) -> list[Tab]:
        tabs = []
        for _ in range(count):
            tab = await self.browser.tab()
            await tab.command("Page.setBypassCSP", enabled=True)
            await tab.go(f"{self.url}/health/live")
            tabs.append(tab)
        return tabs

    async def forget(self, tab: Tab) -> None:
        """Clear the browser's state."""
        await tab.command("Network.clearBrowserCookies")

    def alive(self) -> set[str]:
        return {each for each, session in projection(self.server.data).items() if session["state"] != "expired"}


@asynccontextmanager
async def first_visit(folder: Path) -> AsyncIterator[Visit]:
    with running_server(folder / "data") as server:
        account = {"email": new_email(), "password": PASSWORD}
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            (await http.post("/api/auth/register", json=account)).raise_for_status()
        async with chromium(folder) as browser:
            yield Visit(server, browser, server.url.replace("127.0.0.1", "localhost"), account)


async def ask(tab: Tab, method: str, path: str, body: Any = None, bearer: str | None = None) -> Any:
    """Return the answer to a page's script."""
    script = f"{ASK} return ask(method, path, body, bearer)"
    return await tab.run(script, method=method, path=path, body=body, bearer=bearer)


async def both(tabs: list[Tab], path: str, body: Any = None) -> list[dict[str, Any]]:
    """Return the answers to all tabs, which call at the same time."""
    answers = await asyncio.gather(*(ask(tab, "POST", path, body) for tab in tabs))
    assert {answer["status"] for answer in answers} <= {200, 201}, answers
    return [answer["body"] for answer in answers]


@scenario()
async def test_n17_two_tabs_on_a_first_visit_end_up_in_one_session(tmp_path: Path) -> None:
    """Each tab creates a session, and one cookie remains. The next call of either, by cookie alone, ends the other session."""
    async with first_visit(tmp_path) as visit:
        tabs = await visit.tabs(2)
        for turn in range(10):
            await visit.forget(tabs[0])
            before = visit.alive()
            begun = await both(tabs, "/api/session")
            resumed = await ask(tabs[turn % 2], "POST", "/api/session")
            assert resumed["status"] == 200
            assert resumed["body"]["session_id"] in {each["session_id"] for each in begun}
            assert visit.alive() - before == {resumed["body"]["session_id"]}
            # The tab that lost its session learns it.
            for tab, own in zip(tabs, begun, strict=True):
                seen = await ask(tab, "GET", "/api/session", bearer=own["access_token"])
                if own["session_id"] != resumed["body"]["session_id"]:
                    assert (seen["status"], seen["body"]["reason"]) == (401, "replaced")
                else:
                    assert seen["status"] == 200


@scenario()
async def test_n17_two_tabs_that_log_in_at_once_share_a_session_and_a_logout(tmp_path: Path) -> None:
    async with first_visit(tmp_path) as visit:
        tabs = await visit.tabs(2)
        for turn in range(6):
            await visit.forget(tabs[0])
            ghosts = visit.alive()
            logins = await both(tabs, "/api/auth/login", visit.account)
            if turn % 2:
                # The page has lost its tokens, and only has the cookies.
                assert (await ask(tabs[0], "POST", "/api/auth/logout"))["status"] == 204
            else:
                refreshed = await both(tabs, "/api/auth/refresh")
                assert len({each["session_id"] for each in refreshed}) == 1
                assert {each["session_id"] for each in refreshed} <= {each["session_id"] for each in logins}
                assert visit.alive() - ghosts == {refreshed[0]["session_id"]}
                assert (await ask(tabs[1], "POST", "/api/auth/logout"))["status"] == 204
            assert visit.alive() == ghosts
            assert (await ask(tabs[0], "POST", "/api/auth/refresh"))["status"] == 401


@scenario()
async def test_n17_the_replaced_sessions_socket_closes_with_the_reason(tmp_path: Path) -> None:
    """Tab A's session is replaced by tab B's: A's socket closes with 4403 "replaced", and A continues in B's session."""
    async with first_visit(tmp_path) as visit:
        tabs = await visit.tabs(2)
        first = await ask(tabs[0], "POST", "/api/auth/login", visit.account)
        await tabs[0].run(
            """
            const headers = {authorization: `Bearer ${token}`, "content-type": "application/json"};
            const bought = await (await fetch("/api/session/ticket", {method: "POST", body: "{}", headers})).json();
            const socket = new WebSocket(`ws://${location.host}/api/connect`, ["interlock.v1", `ticket.${bought.ticket}`]);
            window.ended = new Promise(resolve => socket.onclose = event => resolve([event.code, event.reason]));
            await new Promise(resolve => socket.onmessage = resolve);
            return true;""",
            token=first["body"]["access_token"],
        )
        # An answer to tab B that was on its way while no cookie was set.
        kept = (await tabs[0].command("Network.getCookies"))["cookies"]
        await visit.forget(tabs[0])
        second = await ask(tabs[1], "POST", "/api/auth/login", visit.account)
        for each in kept:
            if each["name"].startswith("__Host-interlock-0"):
                cookie = {name: each[name] for name in ("name", "value", "path", "secure", "httpOnly", "sameSite")}
                await tabs[0].command("Network.setCookie", url=visit.url.replace("http", "https"), **cookie)
        refreshed = await ask(tabs[1], "POST", "/api/auth/refresh")
        assert refreshed["body"]["session_id"] == second["body"]["session_id"] != first["body"]["session_id"]
        assert await tabs[0].run("return await window.ended") == [4403, "session ended: replaced"]
        assert (await ask(tabs[0], "POST", "/api/session"))["body"]["session_id"] == second["body"]["session_id"]
        await eventually(lambda: visit.alive() == {second["body"]["session_id"]})


@pytest.mark.asvs("7.4.1")
@scenario()
async def test_n17_after_a_logout_the_browser_holds_no_cookie_of_a_session(tmp_path: Path) -> None:
    async with first_visit(tmp_path) as visit:
        (tab,) = await visit.tabs(1)
        await ask(tab, "POST", "/api/session")
        await ask(tab, "POST", "/api/auth/login", visit.account)
        await ask(tab, "POST", "/api/auth/logout", bearer="expired")
        left = (await tab.command("Network.getCookies"))["cookies"]
        assert [each["name"] for each in left] == ["__Host-interlock-device"]
        assert visit.alive() == set()
