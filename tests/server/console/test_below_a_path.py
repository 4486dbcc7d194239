"""The console, the login page and the demo below a path of their host: every link, form and redirect is below it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import pytest

from tests.support.admin import recorded_admin_token
from tests.support.browser import chromium
from tests.support.fronts import nginx
from tests.support.operators import ACT, OWN_PAGE, SETTINGS, in_groups, signed_in
from tests.support.running import eventually, scenario
from tests.support.server import running_server

BASE: Final = "/auth"
LINK: Final = re.compile(r'(?:href|src|action)="([^"]*)"')
PAGES: Final = 40


@scenario()
async def test_every_link_of_the_console_leads_somewhere_below_the_base_path(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", base_path=BASE, **SETTINGS) as server:
        async with await signed_in(server.url, recorded_admin_token(server.data), ACT) as operator:
            waiting, seen = [f"{BASE}/console", f"{BASE}/login"], set[str]()
            while waiting and len(seen) < PAGES:
                page = waiting.pop(0)
                seen.add(page)
                answer = await operator.get(page.removeprefix(BASE))
                assert answer.status_code == 200, page
                for link in LINK.findall(answer.text) if "html" in answer.headers["content-type"] else ():
                    target = urljoin(page, link.replace("&amp;", "&")).partition("#")[0]
                    # The login page goes on to the application, which is not below the path.
                    assert target.startswith(f"{BASE}/") or (page == f"{BASE}/login" and target == "/"), (page, link)
                    if (
                        target not in seen
                        and target not in waiting
                        and f'action="{link}"' not in answer.text
                        and target != "/"
                    ):
                        waiting.append(target)
            assert {f"{BASE}/console/log", f"{BASE}/console/static/machine.js", f"{BASE}/static/pages.css"} <= seen


@pytest.mark.parametrize("path", ["/console", "/console/sessions", "/console/log"])
@scenario()
async def test_who_is_not_signed_in_is_sent_to_the_login_page_below_it(tmp_path: Path, path: str) -> None:
    with running_server(tmp_path / "data", base_path=BASE, **SETTINGS) as server:
        async with await signed_in(server.url, recorded_admin_token(server.data), ACT) as operator:
            operator.cookie = ""
            answer = await operator.get(path, OWN_PAGE)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith(f"{BASE}/console/login?next=%2Fconsole")


@scenario()
async def test_the_console_is_live_in_a_browser_through_nginx(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", base_path=BASE, trusted_proxies="127.0.0.1", **SETTINGS) as server,
        nginx(tmp_path, server.url, page="below-a-path.md") as front,
    ):
        client, _ = await in_groups(server.url, recorded_admin_token(server.data), ACT)
        await client.http.aclose()
        async with chromium(tmp_path, front.certificate) as browser:
            tab = await browser.tab()
            await tab.go(f"{front.origin}{BASE}/console")
            await tab.run(
                """
                const form = document.querySelector("form[method=post]");
                form.elements.email.value = email;
                form.elements.password.value = password;
                form.submit();
                return 1;""",
                email=client.email,
                password="correct horse battery staple",
            )
            await eventually(lambda: tab.run("return document.getElementById('follows')?.textContent === 'live'"), 60)
            assert await tab.run("return location.pathname") == f"{BASE}/console"
