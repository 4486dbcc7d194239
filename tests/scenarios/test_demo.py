"""The demo page in a real Chromium: two tabs of one session, an intent that streams, and an end that both are told of."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.accessible import accessibility_faults
from tests.support.admin import admin_token
from tests.support.browser import Tab, chromium
from tests.support.log import histories, verify
from tests.support.metrics import Scrape, metrics_url
from tests.support.running import eventually, scenario
from tests.support.server import running_server

_READY = "document.documentElement.dataset.ready === 'true'"


async def text(tab: Tab, element: str) -> str:
    """Return the text of an element."""
    return str(await tab.run(f"document.getElementById('{element}').textContent"))


async def click(tab: Tab, element: str) -> None:
    """Click a button as soon as it is enabled."""
    await eventually(lambda: tab.run(f"!document.getElementById('{element}').disabled"))
    await tab.run(f"document.getElementById('{element}').click()")


async def says(tab: Tab, element: str, words: str) -> None:
    """Wait until an element says ``words``."""

    async def said() -> bool:
        return words in await text(tab, element)

    await eventually(said)


@pytest.mark.slow
@scenario()
async def test_the_demo_shows_one_session_from_its_beginning_to_its_end(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No WebSocket is attempted before the login. The end, by an administrator, closes both tabs with the reason."""
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.db"))
    with running_server(data, demo=True, metrics_port=0, log_json=True) as server:
        metrics = metrics_url(server)
        async with chromium(tmp_path) as browser:
            first = await browser.tab()
            for page in ("/", "/login"):
                await first.go(f"{server.url}{page}")
                assert await accessibility_faults(first) == []
            await first.go(f"{server.url}/demo")
            await eventually(lambda: first.run(_READY))
            await click(first, "register")
            await says(first, "now", "is registered")
            assert handshakes(metrics) == 0
            await click(first, "log-in")
            await says(first, "now", "It is authenticated.")
            assert handshakes(metrics) == 0
            await click(first, "connect")
            await says(first, "now", "It is connected.")
            assert handshakes(metrics) == 1
            await click(first, "send")
            await says(first, "answer", "succeeded, recorded at position")
            assert "You asked: What is a fence?" in await text(first, "answer")
            assert await accessibility_faults(first) == []

            second = await browser.tab()
            await second.go(f"{server.url}/demo")
            await says(second, "now", "It is connected.")
            assert await text(second, "command") == await text(first, "command")
            rows = "return [...document.querySelectorAll('#transitions tr')].map(row => row.cells[1].textContent)"

            async def told() -> bool:
                return bool((await second.run(rows))[-3:] == ["connect", "authenticate", "create"])

            await eventually(told)

            session_id = (await text(first, "command")).rpartition(" ")[2]
            async with httpx.AsyncClient(headers={"authorization": f"Bearer {admin_token(data)}"}) as admin:
                (await admin.delete(f"{server.url}/api/admin/sessions/{session_id}")).raise_for_status()
            for tab in (first, second):
                await says(tab, "now", "It has ended: revoked. Somebody ended it")
            await click(first, "log-in")
            await says(first, "now", "It is authenticated.")
            await says(second, "now", "It is authenticated.")
    verify(data)
    assert [record["event"] for record in histories(data)[session_id]][:2] == ["create", "authenticate"]


def handshakes(metrics: str) -> float:
    """Return how many WebSocket handshakes the server has answered."""
    counted = Scrape(httpx.get(metrics).text)
    return counted.value("interlock_http_request_seconds_count", method="GET", route="/api/connect")
