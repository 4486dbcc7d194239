"""Pictures of the console and the demo for the documentation, of a server with some traffic: ``make screenshots``.

They are looked at by people; nothing compares them.
"""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
from websockets.exceptions import ConnectionClosed

from tests.support.admin import Admin, recorded_admin_token
from tests.support.browser import Tab, chromium
from tests.support.client import PASSWORD, Client, logged_in
from tests.support.operators import ACT, SETTINGS, in_groups
from tests.support.running import eventually
from tests.support.server import running_server
from tests.support.source import ROOT

FOLDER = ROOT / "docs" / "_static" / "screens"
WIDE, NARROW = (1440, 900), (360, 780)
_USERS = 24


async def sign_in(tab: Tab, url: str, email: str, page: str = "/console") -> None:
    """Sign in as a person does: by the form."""
    await tab.go(f"{url}{page}")
    await tab.run(
        "document.querySelector('#email').value = email; document.querySelector('#password').value = password;"
        "document.querySelector('form[action=\"/console/login\"]').submit(); return 1",
        email=email,
        password=PASSWORD,
    )
    await eventually(lambda: tab.run("document.querySelector('.console') !== null"))


async def picture(tab: Tab, name: str, *, size: tuple[int, int], dark: bool) -> None:
    """Write the picture ``name`` of what the tab shows."""
    width, height = size
    await tab.command(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
    )
    await tab.command(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    )
    await asyncio.sleep(0.4)
    shot = await tab.command("Page.captureScreenshot", format="png")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


async def demo(tab: Tab, url: str) -> None:
    """Go through the demo up to the answer of the agent."""
    await tab.go(f"{url}/demo")
    await eventually(lambda: tab.run("document.documentElement.dataset.ready === 'true'"))
    if await tab.run("!document.getElementById('register').disabled"):
        await tab.run("document.getElementById('register').click()")
        await eventually(lambda: tab.run("document.getElementById('now').textContent.includes('is registered')"))
        await tab.run("document.getElementById('log-in').click()")
        await eventually(lambda: tab.run("!document.getElementById('connect').disabled"))
        await tab.run("document.getElementById('connect').click()")
    await eventually(lambda: tab.run("!document.getElementById('send').disabled"))
    await tab.run("document.getElementById('send').click()")
    await eventually(lambda: tab.run("document.getElementById('answer').textContent.includes('recorded')"))


async def traffic(users: list[Client], stopped: asyncio.Event) -> None:
    """Connect, refresh, leave and be refused, a little at a time."""
    turn = 0
    while not stopped.is_set():
        turn += 1
        user = users[turn % len(users)]
        with suppress(ConnectionClosed, OSError):
            async with user.connect() as socket:
                await socket.recv()
                await user.refresh()
                await asyncio.sleep(0.1)
        if turn % 5 == 0:
            await user.request("DELETE", f"/api/sessions/{users[turn % 7].session_id}")


async def main() -> None:
    """Start a server with users, and take the pictures."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["NOTES_DATABASE"] = str(folder / "notes.db")
        with running_server(folder / "data", **SETTINGS, connections_per_session=3, demo=True) as server:
            await _pictures(server.url, recorded_admin_token(server.data), folder)


async def _pictures(url: str, secret: str, folder: Path) -> None:
    operator, _ = await in_groups(url, secret, ACT)
    async with AsyncExitStack() as stack, httpx.AsyncClient(base_url=url, timeout=60) as http:
        users = [await logged_in(url, http) for _ in range(_USERS)]
        for user in users[:9]:
            for _ in range(3):
                await stack.enter_async_context(user.connect())
        for _ in range(12):
            await Client(url, http).begin()
        with suppress(Exception):
            await users[0].connect().__aenter__()
        async with Admin(url, secret) as admin:
            await admin.http.delete(f"/sessions/{users[1].session_id}")
        stopped = asyncio.Event()
        running = asyncio.create_task(traffic(users[10:20], stopped))
        browser = await stack.enter_async_context(chromium(folder))
        tab = await browser.tab()
        await sign_in(tab, url, operator.email)
        await asyncio.sleep(7)
        for size, of_size in ((WIDE, "wide"), (NARROW, "narrow")):
            for dark in (False, True):
                suffix = f"{of_size}-{'dark' if dark else 'light'}"
                await tab.go(f"{url}/console")
                await asyncio.sleep(6)
                await picture(tab, f"console-machine-{suffix}", size=size, dark=dark)
                await tab.go(f"{url}/console/sessions/{users[12].session_id}")
                await picture(tab, f"console-session-{suffix}", size=size, dark=dark)
                await demo(tab, url)
                await picture(tab, f"demo-{suffix}", size=size, dark=dark)
        await tab.go(f"{url}/console?at={_USERS * 6}")
        await picture(tab, "console-past-wide-light", size=WIDE, dark=False)
        stopped.set()
        await running


if __name__ == "__main__":
    asyncio.run(main())
