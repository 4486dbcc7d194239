"""Concurrent logins of one account, over a real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, new_email
from tests.support.server import ServerProcess, running_server

LIMIT = 3


async def register(server: ServerProcess, account: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        (await http.post("/api/auth/register", json=account)).raise_for_status()


async def logins(server: ServerProcess, account: dict[str, str], *, tries: int) -> Counter[int]:
    """Log in concurrently from one address. Count the answers by status."""
    limits = httpx.Limits(max_connections=tries)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as http:
        answers = await asyncio.gather(*(http.post("/api/auth/login", json=account) for _ in range(tries)))
    return Counter(answer.status_code for answer in answers)


@pytest.mark.asvs("6.3.1")
@asynchronous
async def test_concurrent_right_passwords_all_succeed_and_wrong_ones_are_few(tmp_path: Path) -> None:
    """However many there are, and even after wrong ones, with a single attempt left."""
    account = {"email": new_email(), "password": PASSWORD}
    wrong = {**account, "password": "another password of 15"}
    with running_server(tmp_path / "data", limit_login_client=f"{LIMIT}/1h", refusal_delay_s=0.1) as server:
        await register(server, account)
        assert await logins(server, account, tries=40) == {200: 40}
        assert await logins(server, wrong, tries=LIMIT - 1) == {401: LIMIT - 1}
        assert await logins(server, account, tries=40) == {200: 40}
        assert await logins(server, wrong, tries=40) == {401: 1, 429: 39}
        assert await logins(server, account, tries=1) == {429: 1}


@asynchronous
async def test_concurrent_right_passwords_succeed_while_the_hash_is_replaced(tmp_path: Path) -> None:
    account = {"email": new_email(), "password": PASSWORD}
    with running_server(tmp_path / "data", limit_login_client="1/1h") as server:
        await register(server, account)
        server.stop()
        server.cheap_passwords = False
        server.start()
        assert await logins(server, account, tries=12) == {200: 12}
