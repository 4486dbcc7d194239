"""Races, repeated with random timing: each has a declared outcome, and none hangs."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.client import Client, closed, hello, new_email
from tests.support.effort import often
from tests.support.log import projection, verify
from tests.support.running import scenario
from tests.support.server import running_server

LOGINS = often(2_000, 10_000)
RACES = often(1_000, 4_000)
AT_A_TIME = 64


def shares(total: int, workers: int) -> list[range]:
    """Distribute the numbers below ``total`` over ``workers``."""
    return [range(worker, total, workers) for worker in range(workers)]


async def accounts(client: Client, count: int) -> list[Client]:
    """Return logged-in user agents with an account each."""
    tabs = [client.sibling() for _ in range(count)]

    async def enter(tab: Client) -> None:
        (await tab.register(email := new_email())).raise_for_status()
        (await tab.log_in(email)).raise_for_status()

    await asyncio.gather(*map(enter, tabs))
    return tabs


@pytest.mark.slow
@scenario(within_s=1800)
async def test_connect_after_login_succeeds_every_time(data: Path) -> None:
    """Each of 2,000 logins (``make long``: 10,000) is followed at once by a connect, 64 at a time: all succeed."""
    connected: list[str] = []
    with running_server(data, argon2_queue=1000) as server:
        async with Client(server.url) as client:
            emails = [new_email() for _ in range(AT_A_TIME)]
            await asyncio.gather(*map(client.register, emails))

            async def log_in_and_connect(email: str, numbers: range) -> None:
                # Each has a pool of its own: httpx looks at every connection of a pool for each request.
                async with Client(server.url) as own:
                    for _ in numbers:
                        tab = own.sibling()
                        assert (await tab.log_in(email)).status_code == 200
                        async with tab.connect() as socket:
                            greeting = await hello(socket)
                        assert (greeting["session_id"], greeting["state"]) == (tab.session_id, "connected")
                        connected.append(tab.session_id)
                    ended = await tab.request("DELETE", "/api/sessions")
                    assert ended.json()["ended"] == len(numbers) - 1

            began = time.monotonic()
            turns = zip(emails, shares(LOGINS, AT_A_TIME), strict=True)
            await asyncio.gather(*(log_in_and_connect(*each) for each in turns))
            took_s = time.monotonic() - began
            print(f"{LOGINS} logins and connects in {took_s:.1f} s")  # noqa: T201  # a figure, for pytest -rP
        assert len(set(connected)) == len(connected) == LOGINS
        verify(data)


@pytest.mark.checks("expired_closes")
@pytest.mark.slow
@scenario()
async def test_a_handshake_racing_a_revocation_leaves_no_socket_open(data: Path) -> None:
    """1,000 races with random timing (``make long``: 4,000): never a socket left open on an expired session, no hang."""
    outcomes: Counter[int] = Counter()
    chance = random.Random(4)  # noqa: S311  # a schedule, not a secret
    with running_server(data, argon2_queue=1000) as server:
        async with Client(server.url) as client:
            emails = [new_email() for _ in range(20)]
            await asyncio.gather(*map(client.register, emails))

            async def handshake(tab: Client, delay_s: float) -> int:
                await asyncio.sleep(delay_s)
                async with tab.connect() as socket:
                    code, reason = await closed(socket)
                assert (code, reason) == (4403, "session ended: revoked")
                return code

            async def revoke(home: Client, tab: Client, delay_s: float) -> None:
                await asyncio.sleep(delay_s)
                assert (await home.request("DELETE", f"/api/sessions/{tab.session_id}")).status_code == 204

            async def races(email: str, numbers: range) -> None:
                async with Client(server.url) as home:
                    await home.log_in(email)
                    for _ in numbers:
                        tab = home.sibling()
                        await tab.log_in(email)
                        async with asyncio.timeout(60):
                            code, _ = await asyncio.gather(
                                handshake(tab, chance.uniform(0, 0.02)), revoke(home, tab, chance.uniform(0, 0.03))
                            )
                        outcomes[code] += 1

            await asyncio.gather(*(races(*each) for each in zip(emails, shares(RACES, len(emails)), strict=True)))
        assert outcomes == {4403: RACES}
        stored = projection(data)
        assert not any(session["connections"] for session in stored.values())
        assert sum(session["reason"] == "revoked" for session in stored.values()) == RACES
        verify(data)


@pytest.mark.slow
@scenario()
async def test_a_handshake_racing_a_login_leaves_no_socket_on_the_old_token(data: Path) -> None:
    """A login raises the epoch: a socket whose handshake raced it with the old token is closed with 4408."""
    chance = random.Random(5)  # noqa: S311  # a schedule, not a secret
    with running_server(data, argon2_queue=1000) as server:
        async with Client(server.url) as client:

            async def races(numbers: range) -> None:
                (await client.register(email := new_email())).raise_for_status()
                tab = client.sibling()
                await tab.log_in(email)
                for _ in numbers:
                    old, new = client.sibling(), client.sibling()
                    old.tokens = new.tokens = tab.tokens

                    async def handshake(old: Client = old) -> int:
                        await asyncio.sleep(chance.uniform(0, 0.01))
                        async with old.connect() as socket:
                            return (await closed(socket))[0]

                    async def log_in(new: Client = new, email: str = email) -> None:
                        await asyncio.sleep(chance.uniform(0, 0.01))
                        assert (await new.log_in(email)).status_code == 200

                    async with asyncio.timeout(60):
                        code, _ = await asyncio.gather(handshake(), log_in())
                    assert code == 4408
                    tab = new

            await asyncio.gather(*(races(range(50)) for _ in range(10)))
        verify(data)
