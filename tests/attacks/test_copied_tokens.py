"""A refresh token is copied and used beside its owner's: whatever the thief does is detected.

After two exchanges by the owner the session has ended, or each answer to the thief is in the log and none of their tokens
opens anything. Each strategy runs against ten owners at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from websockets import ConnectionClosed

from tests.support.client import Client, hello, logged_in
from tests.support.log import histories, verify
from tests.support.running import scenario
from tests.support.server import running_server

TRIES: Final = 10
GRACE_S: Final = 0.5
PAUSE_S: Final = 3 * GRACE_S


class Thief:
    """Holds a copy of the owner's token, and everything that was issued for it."""

    def __init__(self, owner: Client) -> None:
        self.owner = owner
        self.client = owner.sibling()
        self.tokens = [owner.refresh_token]
        self.answers = 0

    async def present(self, token: str) -> bool:
        """Exchange ``token``. Return whether it succeeded."""
        answer = await self.client.refresh(token)
        if answer.is_success:
            self.answers += 1
            self.tokens.append(self.client.refresh_token)
            assert "receipt" in answer.json()
        return answer.is_success

    async def rest(self) -> None:
        """Let the time between two exchanges of the owner pass."""
        await asyncio.sleep(PAUSE_S)


async def after_the_owner(thief: Thief) -> None:
    """Present the newest copy right after each exchange of the owner."""
    await thief.present(thief.tokens[-1])
    await thief.rest()


async def with_the_first_copy(thief: Thief) -> None:
    """Present the first copy again and again."""
    for _ in range(3):
        await thief.present(thief.tokens[0])
    await thief.rest()


async def before_the_owner(thief: Thief) -> None:
    """Present a token just before the owner's next exchange."""
    await thief.rest()
    await thief.present(thief.tokens[-1])


async def all_the_time(thief: Thief) -> None:
    """Poll faster than any grace."""
    for _ in range(6):
        await thief.present(thief.tokens[-1])
        await asyncio.sleep(PAUSE_S / 6)


async def on_a_socket(thief: Thief) -> None:
    """Watch the session on an own socket, and present a token as soon as somebody refreshes."""
    if not await thief.present(thief.tokens[-1]):
        return
    async with thief.client.connect() as socket:
        await hello(socket)
        with suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(PAUSE_S):
                async for text in socket:
                    message = json.loads(text)
                    # Not after an own refresh, or the copy would answer itself for ever.
                    if message.get("event") == "refresh" and message["version"] > thief.client.tokens["version"]:
                        await thief.present(thief.tokens[-1])
    await thief.rest()


async def not_at_all(thief: Thief) -> None:
    """Wait until the owner has refreshed."""
    await thief.rest()


STRATEGIES: Final[dict[str, Callable[[Thief], Awaitable[None]]]] = {
    strategy.__name__: strategy
    for strategy in (
        after_the_owner,
        with_the_first_copy,
        before_the_owner,
        all_the_time,
        on_a_socket,
        not_at_all,
    )
}


async def _try(url: str, strategy: Callable[[Thief], Awaitable[None]], *, thief_first: bool) -> tuple[Thief, int, bool]:
    """Run one owner against one thief. Return how often the owner succeeded, and whether the session has ended."""
    owner = await logged_in(url)
    thief = Thief(owner)
    await thief.rest()
    if thief_first:
        await strategy(thief)
    answered = 0
    for _ in range(2):
        answer = await owner.refresh()
        if not answer.is_success:
            assert answer.json()["reason"] == "token_reuse"
            return thief, answered, True
        answered += 1
        if answered == 1:
            await strategy(thief)
    ended = (await owner.request("GET", "/api/session")).status_code == 401
    return thief, answered, ended


@pytest.mark.asvs("10.4.5")
@pytest.mark.parametrize("thief_first", [False, True], ids=["owner first", "thief first"])
@scenario(300)
async def test_a_copied_refresh_token_is_void_after_two_exchanges_by_the_owner(
    tmp_path: Path, *, thief_first: bool
) -> None:
    strategies = list(STRATEGIES.values()) * TRIES
    with running_server(tmp_path / "data", refresh_grace_s=GRACE_S, limit_address="off", limit_account="off") as server:
        tries = await asyncio.gather(*(_try(server.url, strategy, thief_first=thief_first) for strategy in strategies))
        logged = histories(server.data)
        for strategy, (thief, answered, ended) in zip(strategies, tries, strict=True):
            events = [record["event"] for record in logged[thief.owner.session_id]]
            assert events.count("refresh") == answered + thief.answers, strategy.__name__
            if not ended:
                # Their newest first: an older one would end the session, and prove nothing.
                for token in reversed(thief.tokens):
                    assert not await thief.present(token), f"{strategy.__name__}: a copy opens something"
            await thief.owner.http.aclose()
        verify(server.data)


@pytest.mark.asvs("10.4.5")
@scenario(120)
async def test_using_up_the_rate_limit_does_not_protect_a_copied_refresh_token(tmp_path: Path) -> None:
    settings = {"refresh_grace_s": GRACE_S, "limit_account": "3/1h", "limit_anonymous": "4/1h"}
    with running_server(tmp_path / "data", **settings) as server:
        async with await logged_in(server.url) as owner, Client(server.url) as visitor:
            await visitor.begin()
            for robbed in (owner, visitor):
                thief = Thief(robbed)
                for _ in range(2):
                    await thief.rest()
                    assert await thief.present(thief.tokens[-1])
                await thief.rest()
                while await thief.present(thief.tokens[-1]):
                    pass
                assert (await thief.client.refresh(thief.tokens[-1])).status_code == 429
                assert (await robbed.refresh()).json()["reason"] == "token_reuse"


@scenario(120)
async def test_a_copy_used_within_the_grace_passes_for_a_tab_and_is_recorded(tmp_path: Path) -> None:
    """A limit of the detection: a fast thief passes for another tab, in the log, until the owner's second exchange after it."""
    with running_server(tmp_path / "data", refresh_grace_s=60) as server:
        async with await logged_in(server.url) as owner:
            thief = Thief(owner)
            for _ in range(5):
                assert (await owner.refresh()).is_success
                assert await thief.present(thief.tokens[-1])
            history = histories(server.data)[owner.session_id]
            presented = [record["data"]["rotation"] for record in history if record["event"] == "refresh"]
            assert len(presented) == 10
            assert presented != sorted(set(presented)), "that two were at it can be read from the log"
