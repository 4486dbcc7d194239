"""Attacks by pages of other origins on a logged-in victim, in a real Chromium, over TLS and nginx as in the how-to page.

``evil.example`` is another site. ``evil.example.org`` is a sibling of ``app.example.org``: the same site to a browser, so
that even a SameSite=Strict cookie is sent. The check of Origin and Sec-Fetch-Site stops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from tests.support.browser import Tab, chromium
from tests.support.client import PASSWORD, new_email
from tests.support.fronts import Front, nginx
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

OTHERS: Final = ("evil.example", "evil.example.org")

ASK: Final = """
    const ask = async (method, path, body, headers = {}) => {
        const options = {method, headers: {...headers}};
        if (body !== undefined) { options.body = JSON.stringify(body); options.headers["content-type"] = "application/json"; }
        const answer = await fetch(path, options);
        const text = await answer.text();
        return {status: answer.status, body: text.startsWith("{") ? JSON.parse(text) : text};
    };
"""

OPEN: Final = """
    const open = (url, ...protocols) => new Promise(resolve => {
        const socket = new WebSocket(url, protocols);
        let first = null;
        socket.onmessage = message => { if (first === null) { first = message.data; resolve({first, socket}); } };
        socket.onclose = event => resolve({first, code: event.code, reason: event.reason});
    });
"""


class Victim(msgspec.Struct):
    """A browser whose user is logged in to the application."""

    server: ServerProcess
    front: Front
    tab: Tab
    login: dict[str, Any]

    def reached(self) -> list[str]:
        """Return what reached the application, without the attackers' pages."""
        others = [f"{host}:{self.front.port}" for host in OTHERS]
        return [seen["path"] for seen in self.front.seen() if dict(seen["headers"])["host"] not in others]

    async def still_fine(self) -> None:
        """Check that the session lives, has no connection, and the page's cookie is still current."""
        await self.tab.go(f"{self.front.origin}/public/page")
        bearer = {"authorization": f"Bearer {self.login['access_token']}"}
        session = await self.tab.run(f"{ASK} return ask('GET', '/api/session', undefined, bearer)", bearer=bearer)
        assert (session["status"], session["body"]["state"], session["body"]["connections"]) == (
            200,
            "authenticated",
            0,
        )
        answer = await self.tab.run(f"{ASK} return ask('GET', '/mine')")
        assert answer["status"] == 200


@asynccontextmanager
async def victim_in(folder: Path) -> AsyncIterator[Victim]:
    with running_server(folder / "data") as server, nginx(folder, server.url, *OTHERS) as front:
        async with chromium(folder, front.certificate) as browser:
            tab = await browser.tab()
            await tab.go(f"{front.origin}/public/page")
            account = {"email": new_email(), "password": PASSWORD}
            script = f"""{ASK}
                await ask("POST", "/api/auth/register", account);
                return ask("POST", "/api/auth/login", account);"""
            login = await tab.run(script, account=account)
            assert login["status"] == 200, login
            # No touch is due from here on, so the database shows whatever the attacks leave.
            yield Victim(server, front, tab, login["body"])


@pytest.mark.asvs("3.3.1", "3.3.3", "3.3.4", "4.4.1", "7.4.1", "14.3.1")
@scenario()
async def test_an_own_page_runs_a_session_without_scripts_seeing_the_cookie(
    tmp_path: Path,
) -> None:
    async with victim_in(tmp_path) as victim:
        tab, front = victim.tab, victim.front
        assert "refresh_token" not in victim.login
        cookies = (await tab.command("Network.getCookies"))["cookies"]
        assert {(c["name"], c["secure"], c["httpOnly"], c["sameSite"]) for c in cookies} == {
            ("__Host-interlock", True, True, "Strict"),
            ("__Host-interlock-device", True, True, "Strict"),
            (f"__Host-interlock-{victim.login['session_id']}", True, True, "Strict"),
        }
        seen = await tab.run("return [document.cookie, (await cookieStore.getAll()).length]")
        assert seen == ["", 0]
        stolen = await tab.run("""
            const answer = await fetch("/api/auth/refresh", {method: "POST"});
            return [answer.status, [...answer.headers].map(([name]) => name), Object.keys(await answer.json())];""")
        assert stolen[0] == 200
        assert "set-cookie" not in stolen[1]
        assert "refresh_token" not in stolen[2]

        page = f"""{ASK} {OPEN}
            localStorage.setItem("draft", "a secret of mine");
            const before = await ask("GET", "/mine");
            const posted = await ask("POST", "/mine", {{}});
            const {{access_token}} = (await ask("POST", "/api/auth/refresh")).body;
            const bought = await ask("POST", "/api/session/ticket", {{}}, {{authorization: `Bearer ${{access_token}}`}});
            const protocols = ["interlock.v1", `ticket.${{bought.body.ticket}}`];
            const own = await open(`wss://${{location.host}}/api/connect`, ...protocols);
            const apps = await open(`wss://${{location.host}}/live`);
            const closed = new Promise(resolve => own.socket.onclose = event => resolve([event.code, event.reason]));
            const logout = await ask("POST", "/api/auth/logout");
            return {{
                before: before.status,
                posted: posted.status,
                hello: JSON.parse(own.first).type,
                app: JSON.parse(apps.first).type,
                logout: logout.status,
                closed: await closed,
                draft: localStorage.getItem("draft"),
                after: (await ask("GET", "/mine")).status,
                refresh: (await ask("POST", "/api/auth/refresh")).status,
                again: (await open(`wss://${{location.host}}/api/connect`, "interlock.v1")).code,
                app_again: (await open(`wss://${{location.host}}/live`)).first,
            }};"""
        assert await tab.run(page) == {
            "before": 200,
            "posted": 200,
            "hello": "hello",
            "app": "websocket",
            "logout": 204,
            "closed": [4403, "session ended: logout"],
            "draft": None,
            "after": 401,
            "refresh": 401,
            "again": 4401,
            "app_again": None,
        }
        left = (await tab.command("Network.getCookies"))["cookies"]
        assert [c["name"] for c in left] == ["__Host-interlock-device"], "it opens nothing"
        assert await tab.go(f"{front.origin}/mine") == f"{front.origin}/login?next=/mine"


@scenario()
async def test_a_page_with_no_referrer_may_post_to_its_own_origin(tmp_path: Path) -> None:
    """With ``Referrer-Policy: no-referrer`` Chromium sends ``Origin: null`` and ``Sec-Fetch-Site: same-origin``."""
    async with victim_in(tmp_path) as victim:
        victim.front.seen()
        script = """
            document.head.insertAdjacentHTML("beforeend", '<meta name="referrer" content="no-referrer">');
            const frame = document.createElement("iframe");
            frame.name = "there";
            const form = document.createElement("form");
            Object.assign(form, {method: "POST", action: "/mine", target: "there"});
            document.body.append(frame, form);
            await new Promise(resolve => { frame.onload = resolve; form.submit(); });
            const options = {method: "POST", mode: "same-origin", referrerPolicy: "no-referrer"};
            return (await fetch("/api/auth/refresh", options)).status;"""
        assert await victim.tab.run(script) == 200
        [posted] = [seen for seen in victim.front.seen() if seen["path"] == "/mine"]
        assert dict(posted["headers"])["origin"] == "null"
        await victim.still_fine()


@pytest.mark.asvs("4.4.2")
@pytest.mark.parametrize("host", OTHERS)
@scenario()
async def test_a_page_of_another_origin_opens_no_websocket(host: str, tmp_path: Path) -> None:
    async with victim_in(tmp_path) as victim:
        tab, front = victim.tab, victim.front
        await tab.go(f"https://{host}:{front.port}/public/page")
        front.seen()
        before = stored(victim.server.data)
        target = front.origin.replace("https", "wss")
        script = f"""{OPEN}
            const own = await open(target + "/api/connect", "interlock.v1");
            const apps = await open(target + "/live");
            return [own, apps];"""
        refused = {"first": None, "code": 1006, "reason": ""}
        assert await tab.run(script, target=target) == [refused, refused]
        assert victim.reached() == []
        assert stored(victim.server.data) == before
        await victim.still_fine()


@pytest.mark.asvs("3.3.2", "3.5.1", "3.5.2")
@pytest.mark.parametrize("host", OTHERS)
@scenario()
async def test_a_form_of_another_origin_changes_nothing(host: str, tmp_path: Path) -> None:
    async with victim_in(tmp_path) as victim:
        tab, front = victim.tab, victim.front
        await tab.go(f"https://{host}:{front.port}/public/page")
        front.seen()
        before = stored(victim.server.data)
        script = """
            const send = (action, enctype) => new Promise(resolve => {
                const frame = document.createElement("iframe");
                frame.name = "f" + Math.random();
                const form = document.createElement("form");
                Object.assign(form, {method: "POST", action, enctype, target: frame.name});
                const field = document.createElement("input");
                field.name = '{"email": "x@example.org", "password": "';
                field.value = '"}';
                form.append(field);
                document.body.append(frame, form);
                frame.onload = () => resolve();
                form.submit();
            });
            for (const path of paths)
                for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
                    await send(target + path, enctype);
            return true;"""
        paths = ["/api/auth/logout", "/api/auth/refresh", "/api/session", "/api/auth/login", "/mine"]
        assert await tab.run(script, target=front.origin, paths=paths)
        assert victim.reached() == []
        assert stored(victim.server.data) == before
        await victim.still_fine()


@pytest.mark.asvs("3.4.2", "3.5.1", "3.5.2", "3.5.8")
@pytest.mark.parametrize("host", OTHERS)
@scenario()
async def test_a_script_of_another_origin_changes_nothing_and_reads_nothing(host: str, tmp_path: Path) -> None:
    async with victim_in(tmp_path) as victim:
        tab, front = victim.tab, victim.front
        await tab.go(f"https://{host}:{front.port}/public/page")
        front.seen()
        before = stored(victim.server.data)
        script = """
            const read = [];
            for (const mode of ["cors", "no-cors"])
                for (const [method, path] of [["POST", "/api/auth/refresh"], ["POST", "/api/auth/logout"],
                        ["POST", "/api/session"], ["POST", "/mine"], ["GET", "/mine"], ["GET", "/api/session"]])
                    for (const type of [null, "text/plain", "application/json"]) {
                        if (method === "GET" && type !== null) continue;
                        if (mode === "no-cors" && type === "application/json") continue;
                        const options = {mode, method, credentials: "include", headers: type ? {"content-type": type} : {}};
                        if (type) options.body = "{}";
                        try { read.push(await (await fetch(target + path, options)).text()); } catch (error) { read.push(""); }
                    }
            for (const kind of ["img", "script", "iframe", "video"])
                await new Promise(resolve => {
                    const element = document.createElement(kind);
                    element.onload = () => resolve();
                    element.onerror = () => resolve();
                    element.src = target + "/mine";
                    document.body.append(element);
                });
            return [...new Set(read)];"""
        assert await tab.run(script, target=front.origin) == [""]
        assert victim.reached() == []
        assert stored(victim.server.data) == before
        await victim.still_fine()


@pytest.mark.asvs("3.3.3")
@scenario()
async def test_a_sibling_host_plants_no_cookie_of_a_session(tmp_path: Path) -> None:
    """Chromium reserves the exact name for the host itself, and accepts only similar names from a sibling."""
    async with victim_in(tmp_path) as victim:
        tab, front = victim.tab, victim.front
        own = victim.login["session_id"]
        async with httpx.AsyncClient(base_url=victim.server.url) as http:
            theirs = (await http.post("/api/session")).json()["refresh_token"]
        for name in ("__Host-interlock", "%A0__Host-interlock", "%85__Host-interlock", "=__Host-interlock"):
            cookie = f"{name}={theirs};Domain=example.org;Path=/api/auth;Secure"
            await tab.go(f"https://evil.example.org:{front.port}/public/page?{cookie}")
        kept = [c for c in (await tab.command("Network.getAllCookies"))["cookies"] if c["domain"] == ".example.org"]
        assert len(kept) == 2, "what the server has to tell from its own"
        await tab.go(f"{front.origin}/public/page")
        answer = await tab.run(f"{ASK} return ask('POST', '/api/auth/refresh')")
        assert (answer["status"], answer["body"].get("session_id")) == (200, own)


@pytest.mark.asvs("3.4.6")
@scenario()
async def test_no_page_can_frame_a_response(tmp_path: Path) -> None:
    async with victim_in(tmp_path) as victim:
        script = """
            const framed = path => new Promise(resolve => {
                const frame = document.createElement("iframe");
                frame.onload = () => resolve(frame.contentDocument !== null);
                frame.src = path;
                document.body.append(frame);
            });
            return [await framed("/public/page"), await framed("/api/session"), await framed("/api/nothing")];"""
        assert await victim.tab.run(script) == [True, False, False], "not even one of the same origin"


@scenario()
async def test_the_cookie_works_on_localhost_without_tls(tmp_path: Path) -> None:
    """Chromium treats http://localhost like HTTPS, even for a ``__Host-`` cookie."""
    with running_server(tmp_path / "data") as server:
        async with chromium(tmp_path) as browser:
            tab = await browser.tab()
            await tab.command("Page.setBypassCSP", enabled=True)
            await tab.go(f"{server.url.replace('127.0.0.1', 'localhost')}/health/live")
            script = f"""{ASK}
                const begun = await ask("POST", "/api/session");
                const next = await ask("POST", "/api/auth/refresh");
                return [begun.status, next.status, next.body.session_id === begun.body.session_id];"""
            assert await asyncio.wait_for(tab.run(script), 60) == [201, 200, True]
