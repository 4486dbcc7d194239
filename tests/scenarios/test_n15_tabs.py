"""N15: tabs that refresh at once, however many and with whichever recent token, never log the user out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.browser import chromium
from tests.support.client import PASSWORD, Client, logged_in, new_email
from tests.support.fronts import nginx
from tests.support.log import histories, verify
from tests.support.running import scenario
from tests.support.server import running_server

NO_LIMITS: Final = {"limit_address": "off", "limit_account": "off"}
TABS: Final = 5
ROUNDS: Final = 50


@pytest.mark.slow
@scenario(500)
async def test_n15_five_tabs_of_a_browser_restored_at_once_stay_logged_in(tmp_path: Path) -> None:
    """Real tabs with one cookie jar: each loads its page, refreshes, and refreshes again with the jar's current cookie."""
    with running_server(tmp_path / "data", **NO_LIMITS) as server, nginx(tmp_path, server.url) as front:
        async with chromium(tmp_path, front.certificate) as browser:
            tabs = [await browser.tab() for _ in range(TABS)]
            page = f"{front.origin}/public/page"
            await asyncio.gather(*(tab.go(page) for tab in tabs))
            script = """
                const post = (path, body) => fetch(path, {method: "POST", body: JSON.stringify(body),
                    headers: {"content-type": "application/json"}}).then(answer => answer.status);
                return [await post("/api/auth/register", account), await post("/api/auth/login", account)];
            """
            account = {"email": new_email(), "password": PASSWORD}
            assert await tabs[0].run(script, account=account) == [201, 200]
            refresh = """
                const statuses = [];
                for (let turn = 0; turn < 2; turn++) {
                    statuses.push((await fetch("/api/auth/refresh", {method: "POST"})).status);
                }
                return statuses;
            """
            for turn in range(ROUNDS):
                if turn % 10 == 0:
                    await asyncio.gather(*(tab.go(page) for tab in tabs))
                answers = await asyncio.gather(*(tab.run(refresh) for tab in tabs))
                assert answers == [[200, 200]] * TABS
        (history,) = histories(server.data).values()
        assert [record["event"] for record in history].count("refresh") == 2 * TABS * ROUNDS
        assert [record for record in history if record["event"] == "revoke"] == []
        verify(server.data)


@scenario(120)
async def test_n15_a_third_tab_between_two_refreshes_logs_nobody_out(tmp_path: Path) -> None:
    """Tabs 1 and 2 send r; tab 3, freshly loaded, exchanges r+1; then the r of tab 2 arrives, and another."""
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as tab:
            first = tab.refresh_token
            for token in (first, None, first, None, first):
                assert (await tab.refresh(token)).status_code == 200
            assert (await tab.session())["state"] == "authenticated"


@scenario(120)
async def test_n15_a_lost_answer_can_be_repeated_after_the_grace(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", refresh_grace_s=0.2) as server:
        async with await logged_in(server.url) as phone:
            for _ in range(3):
                kept = phone.refresh_token
                for _ in range(2):
                    lost = phone.sibling()
                    assert (await lost.refresh(kept)).status_code == 200
                    await asyncio.sleep(0.4)
                assert (await phone.refresh(kept)).status_code == 200
            # But a used token that comes back means a second holder.
            assert (await phone.refresh()).status_code == 200
            await asyncio.sleep(0.4)
            assert (await phone.sibling().refresh(kept)).json()["reason"] == "token_reuse"


@pytest.mark.parametrize("seed", range(4))
@scenario(120)
async def test_n15_lost_and_late_answers_in_one_jar_are_not_taken_for_theft(tmp_path: Path, seed: int) -> None:
    """Many tabs share one cookie jar over a network that loses and delays answers, and sets the cookie back."""
    dice = random.Random(seed)  # noqa: S311  # which answers are lost is no secret
    grace_s = 2.0
    with running_server(tmp_path / "data", refresh_grace_s=grace_s, **NO_LIMITS) as server:
        async with await logged_in(server.url) as jar:

            async def tab(pause: Callable[[], Awaitable[None]]) -> None:
                for _ in range(12):
                    await pause()
                    token = jar.refresh_token
                    await pause()
                    answer = await jar.http.post("/api/auth/refresh", json={"refresh_token": token})
                    assert answer.status_code == 200, answer.text
                    await pause()
                    if dice.random() < 0.8:
                        jar.tokens = answer.json()

            # Far below the grace, so that a busy machine stays within the assumed network delay.
            await asyncio.gather(*(tab(lambda: asyncio.sleep(dice.random() * 0.05)) for _ in range(4)))
            await asyncio.sleep(grace_s)
            assert (await jar.refresh()).status_code == 200


@scenario(120)
async def test_n15_every_refresh_is_recorded_and_gets_its_own_token(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client:
            body = {"refresh_token": client.refresh_token}
            answers: list[httpx.Response] = await asyncio.gather(
                *(client.http.post("/api/auth/refresh", json=body) for _ in range(20))
            )
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.json()["refresh_token"] for answer in answers}) == 20
            assert len({answer.json()["receipt"]["position"] for answer in answers}) == 20
            events = [record["event"] for record in histories(server.data)[client.session_id]]
            assert events.count("refresh") == 20
            assert (await Client(server.url, client.http).refresh(answers[7].json()["refresh_token"])).is_success
