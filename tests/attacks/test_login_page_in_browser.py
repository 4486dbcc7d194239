"""The login page in a real Chromium, over TLS and nginx as in the how-to page: the way to a protected page and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.admin import Admin, admin_token
from tests.support.browser import Tab, chromium
from tests.support.client import PASSWORD, new_email
from tests.support.fronts import Front, identity, nginx
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server

ELSEWHERE = "links.example"

FILL = """
    const form = document.getElementById(view);
    for (const [name, value] of Object.entries(fields)) form.elements[name].value = value;
    form.querySelector("button").click();
    return true;
"""


@asynccontextmanager
async def visitor_in(folder: Path) -> AsyncIterator[tuple[ServerProcess, Front, Tab]]:
    """Yield a server, nginx before it and the application, and a tab of a new browser."""
    with (
        running_server(folder / "data", trusted_proxies="127.0.0.1") as server,
        nginx(folder, server.url, ELSEWHERE) as front,
    ):
        async with chromium(folder, front.certificate) as browser:
            yield server, front, await browser.tab()


async def shows(tab: Tab, condition: str, **values: Any) -> None:
    """Wait until ``condition`` is true in the page, through any navigations."""
    async with asyncio.timeout(60):
        while True:
            try:
                if await tab.run(condition, **values):
                    return
            except AssertionError:
                pass  # The page was left while the script ran.
            await asyncio.sleep(0.05)


async def is_at(tab: Tab, url: str) -> None:
    await shows(tab, "location.href === url && document.readyState === 'complete'", url=url)


async def sees(tab: Tab, view: str) -> None:
    await shows(tab, "!(document.getElementById(view)?.hidden ?? true)", view=view)


@scenario()
async def test_a_visitor_registers_comes_back_and_arrives_by_a_link_of_another_site(tmp_path: Path) -> None:
    async with visitor_in(tmp_path) as (_, front, tab):
        wanted = f"{front.origin}/app?a=1&b=2"
        assert await tab.go(wanted) == f"{front.origin}/login?next=/app?a=1&b=2"
        await sees(tab, "enter")
        await tab.run("document.querySelector('a[href=\"#register\"]').click()")
        await sees(tab, "register")
        account = {"email": new_email(), "password": PASSWORD}
        await tab.run(FILL, view="register", fields={**account, "password": "too short"})
        await shows(tab, "document.getElementById('problem').textContent.includes('at least 15 characters')")
        await tab.run(FILL, view="register", fields=account)
        await is_at(tab, wanted)
        reached = [each for each in front.seen() if each["path"] == "/app"]
        assert [list(identity(each))[:1] for each in reached] == [["remote-user"]], "only with an identity"

        await tab.go(f"https://{ELSEWHERE}:{front.port}/public/page")
        front.seen()
        await tab.run("location.href = url", url=f"{front.origin}/app?by=link")
        await is_at(tab, f"{front.origin}/app?by=link")
        (arrived,) = (each for each in front.seen() if each["path"] == "/app")
        assert "remote-user" in identity(arrived), "the user did not have to log in again"


@scenario()
async def test_a_user_logs_in_and_sets_another_password_with_a_code(tmp_path: Path) -> None:
    async with visitor_in(tmp_path) as (server, front, tab):
        account = {"email": new_email(), "password": PASSWORD}
        async with front.client() as http:
            made = (await http.post("/api/auth/register", json=account)).raise_for_status().json()
        async with Admin(server.url, admin_token(server.data)) as admin:
            issued = await admin.http.post(f"/accounts/{made['subject']}/reset-code")
        await tab.go(f"{front.origin}/login?next=/app")
        await sees(tab, "enter")
        await tab.run(FILL, view="enter", fields={**account, "password": "not her password"})
        await shows(tab, "document.getElementById('problem').textContent === 'email or password is wrong'")
        await tab.run("document.querySelector('a[href=\"#reset\"]').click()")
        await sees(tab, "reset")
        fields = {"email": account["email"], "code": issued.json()["code"], "password": f"{PASSWORD} of hers"}
        await tab.run(FILL, view="reset", fields=fields)
        await is_at(tab, f"{front.origin}/app")


@scenario()
async def test_a_page_that_refuses_a_logged_in_user_makes_no_circle(tmp_path: Path) -> None:
    """A page that needs more than a session sends the user back at once."""
    async with visitor_in(tmp_path) as (_, front, tab):
        account = {"email": new_email(), "password": PASSWORD}
        async with front.client() as http:
            (await http.post("/api/auth/register", json=account)).raise_for_status()
        await tab.go(f"{front.origin}/login?next=/public/page")
        await sees(tab, "enter")
        await tab.run(FILL, view="enter", fields=account)
        await is_at(tab, f"{front.origin}/public/page")
        await tab.go(f"{front.origin}/login?next=/public/page")
        await sees(tab, "known")
        await tab.run("document.getElementById('leave').click()")
        await sees(tab, "enter")
        assert await tab.go(f"{front.origin}/app") == f"{front.origin}/login?next=/app"
