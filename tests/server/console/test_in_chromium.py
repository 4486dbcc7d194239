"""The console in a real browser: what an operator sees move, and does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.accessible import accessibility_faults
from tests.support.browser import Tab, chromium
from tests.support.client import PASSWORD, Client, closed, hello, logged_in
from tests.support.log import records
from tests.support.operators import ACT, LOOK, in_groups
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess

PAGES = ("", "?at=3", "/sessions", "/accounts", "/executions", "/log", "/webhooks", "/login")
STATE = "document.querySelector('.machine[data-kind=session] [data-state=\"' + state + '\"] .count').textContent"


@asynccontextmanager
async def console(server: ServerProcess, secret: str, folder: Path, group: str = ACT) -> AsyncIterator[Tab]:
    """Yield a tab that shows the console, after a sign-in by the form."""
    client, _ = await in_groups(server.url, secret, group)
    await client.http.aclose()
    async with chromium(folder) as browser:
        tab = await browser.tab()
        assert (await tab.go(f"{server.url}/console")).startswith(f"{server.url}/console/login?next=")
        await sign_in(tab, client)
        yield tab


async def sign_in(tab: Tab, client: Client) -> None:
    await tab.run(
        "document.querySelector('#email').value = email; document.querySelector('#password').value = password;"
        "document.querySelector('.narrow button').click(); return 1",
        email=client.email,
        password=PASSWORD,
    )
    await eventually(lambda: shows(tab, ".console"))


async def shows(tab: Tab, selector: str) -> bool:
    """Return whether the page has loaded and has an element of ``selector``."""
    script = "document.readyState === 'complete' && document.querySelector(selector) !== null"
    return bool(await tab.run(script, selector=selector))


async def text(tab: Tab, selector: str) -> str:
    return str(await tab.run("document.querySelector(selector)?.textContent ?? ''", selector=selector))


@scenario()
async def test_live_counts_move_without_a_reload(server: ServerProcess, secret: str, tmp_path: Path) -> None:
    async with console(server, secret, tmp_path) as tab, await logged_in(server.url) as client:
        await tab.run("window.same = true; return 1")
        await eventually(lambda: tab.run("document.getElementById('follows').textContent === 'live'"))
        before = int(await tab.run(STATE, state="connected"))
        async with client.connect() as socket:
            await hello(socket)
            await eventually(lambda: counted(tab, "connected", before + 1))
            flow = "[data-event=connect][data-source=authenticated] .flow"
            await eventually(lambda: text(tab, f".machine[data-kind=session] {flow}"))
        await eventually(lambda: counted(tab, "connected", before))
        assert await tab.run("window.same") is True


async def counted(tab: Tab, state: str, number: int) -> bool:
    return str(await tab.run(STATE, state=state)) == str(number)


@scenario()
async def test_ending_a_session_closes_its_socket_and_says_how_fast(
    server: ServerProcess, secret: str, tmp_path: Path
) -> None:
    async with console(server, secret, tmp_path) as tab, await logged_in(server.url) as client:
        async with client.connect() as socket:
            await hello(socket)
            await tab.go(f"{server.url}/console/sessions/{client.session_id}")
            await tab.run("document.querySelector('form[data-asks] button').click(); return 1")
            await eventually(lambda: shows(tab, "dialog[open]"))
            assert (await client.session())["state"] == "connected"
            await tab.run("document.querySelector('dialog .danger').click(); return 1")
            assert (await closed(socket))[0] == 4403
        told = await eventually(lambda: ended(tab))
        assert await text(tab, ".heading .badge") == "expired", "the page shows what is now"
        assert "Recorded at position" in told
        assert "Its socket was closed" in told


async def ended(tab: Tab) -> str:
    told = await text(tab, "#ended")
    return told if "ms" in told else ""


@scenario()
async def test_the_slider_shows_the_machine_as_it_was(server: ServerProcess, secret: str, tmp_path: Path) -> None:
    async with console(server, secret, tmp_path) as tab:
        # As dragged: to the left end, where nothing but the first record is.
        await tab.run(
            "const slider = document.getElementById('slider'); slider.value = '0';"
            "slider.dispatchEvent(new Event('input')); slider.dispatchEvent(new Event('change')); return 1"
        )
        await eventually(lambda: tab.run("location.search.startsWith('?at=')"))
        assert await tab.run("document.getElementById('follows').textContent") == "at rest"
        assert await tab.run(STATE, state="authenticated") == "0"
        at = len(records(server.data))
        shared = await tab.go(f"{server.url}/console?at={at}")
        assert shared.endswith(f"?at={at}")
        log = records(server.data)[:at]
        last = {each["instance_id"]: each["target"] for each in log if each["kind"] == "session"}
        alive = sum(state == "authenticated" for state in last.values())
        await eventually(lambda: counted(tab, "authenticated", alive))
        await tab.run("document.getElementById('earlier').click(); return 1")
        await eventually(lambda: tab.run("location.search === wanted", wanted=f"?at={at - 1}"))


@scenario()
async def test_a_hidden_page_asks_for_nothing(server: ServerProcess, secret: str, tmp_path: Path) -> None:
    async with console(server, secret, tmp_path) as tab:
        await eventually(lambda: tab.run("document.getElementById('follows').textContent === 'live'"))
        hide = (
            "Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange')); return 1"
        )
        await tab.run(hide, hidden=True)
        assert await text(tab, "#follows") == "paused"
        still = await text(tab, "#position")
        async with await logged_in(server.url):
            pass
        await tab.run(hide, hidden=False)
        await eventually(lambda: later(tab, int(still)))


async def later(tab: Tab, position: int) -> bool:
    return int(await text(tab, "#position")) > position


@scenario()
async def test_axe_finds_nothing(server: ServerProcess, secret: str, tmp_path: Path) -> None:
    async with console(server, secret, tmp_path) as tab, await logged_in(server.url) as client:
        found: dict[tuple[str, str], list[str]] = {}
        for page in (*PAGES, f"/sessions/{client.session_id}", "/sessions/nobody"):
            await tab.go(f"{server.url}/console{page}")
            for scheme in ("light", "dark"):
                feature: Any = {"name": "prefers-color-scheme", "value": scheme}
                await tab.command("Emulation.setEmulatedMedia", features=[feature])
                found[page, scheme] = await accessibility_faults(tab)
        assert {page: faults for page, faults in found.items() if faults} == {}


@scenario()
async def test_nothing_is_wider_than_a_phone(server: ServerProcess, secret: str, tmp_path: Path) -> None:
    async with console(server, secret, tmp_path, LOOK) as tab, await logged_in(server.url) as client:
        await tab.command("Emulation.setDeviceMetricsOverride", width=360, height=780, deviceScaleFactor=1, mobile=True)
        for page in (*PAGES, f"/sessions/{client.session_id}"):
            await tab.go(f"{server.url}/console{page}")
            wide = (
                "[...document.querySelectorAll('body *')].filter((each) => each.closest('.scroll, svg, .unseen') === null"
                " && each.getBoundingClientRect().right > 361).map((each) => each.outerHTML.slice(0, 80))"
            )
            assert await tab.run(wide) == [], page
