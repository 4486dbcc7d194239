"""The console's stream of live numbers: what it counts, and when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.support.admin import Admin
from tests.support.client import closed, hello, logged_in
from tests.support.operators import ACT, LOOK, MODULE, Operator, in_groups, signed_in
from tests.support.running import scenario
from tests.support.server import ServerProcess

_PATIENCE_S = 60
"""A stream that never ends fails the test; one on a busy machine does not."""


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """Yield the name and the data of each event."""
    name = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            yield name, json.loads(value)


async def following(operator: Operator, wanted: Callable[[str, Any], bool]) -> Any:
    """Follow the live numbers until an event is ``wanted``, and return its data."""
    async with operator.http.stream("GET", "/console/live", headers=MODULE | operator.shown) as answer:
        assert answer.status_code == 200
        async for name, data in events(answer):
            if wanted(name, data):
                return data
    raise AssertionError("it ended before")


@scenario()
async def test_the_numbers_count_states_transitions_and_refusals(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator, await logged_in(server.url) as client:
        before = await following(operator, lambda name, _: name == "numbers")
        sockets = [await client.connect() for _ in range(8)]
        for each in sockets:
            await hello(each)
        refused = await client.connect()
        assert (await closed(refused))[0] == 4429
        edge = ["session", "connect", "authenticated", "connected"]
        after = await following(
            operator, lambda name, data: name == "numbers" and data["refusals"] and data["signed"] >= before["position"]
        )
        assert after["states"]["session"]["connected"] == before["states"]["session"].get("connected", 0) + 1
        assert [each[4] for each in after["edges"] if each[:4] == edge] == [
            1 + sum(each[4] for each in before["edges"] if each[:4] == edge)
        ]
        assert ["session", "connect", "connected", "below_connection_limit", 1] in after["refusals"]
        for each in sockets:
            await each.close()


@scenario()
async def test_ending_a_session_says_when_its_sockets_had_closed(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, ACT) as operator, await logged_in(server.url) as client:
        sockets = [await client.connect() for _ in range(3)]
        for each in sockets:
            await hello(each)
        answer = await operator.post(f"/console/sessions/{client.session_id}/end", MODULE)
        told = answer.json()
        assert told["sockets"] == 3
        assert told["recorded_ms"] > 0
        assert 0 <= told["closed_ms"] < 5000
        assert [(await closed(each))[0] for each in sockets] == [4403] * 3
        numbers = await following(operator, lambda name, data: name == "numbers" and data["ending"] is not None)
        assert numbers["ending"]["session_id"] == client.session_id
        assert numbers["ending"]["position"] == told["position"]
        again = await operator.post(f"/console/sessions/{client.session_id}/end", MODULE)
        assert again.json()["position"] is None


@pytest.mark.parametrize("because", ["logout", "group", "disable"])
@scenario()
async def test_the_stream_ends_with_the_operators_right(server: ServerProcess, secret: str, because: str) -> None:
    client, subject = await in_groups(server.url, secret, LOOK)
    async with client, Operator(server.url) as operator, Admin(server.url, secret) as admin:
        await operator.sign_in(client.email)
        async with operator.http.stream("GET", "/console/live", headers=MODULE | operator.shown) as answer:
            stream = events(answer)
            assert (await anext(stream))[0] == "numbers"
            if because == "logout":
                await operator.post("/console/logout")
            elif because == "group":
                await admin.http.put(f"/accounts/{subject}/groups", json={"groups": []})
            else:
                await admin.http.post(f"/accounts/{subject}/disable")
            async with asyncio.timeout(_PATIENCE_S):
                last = [event async for event in stream][-1]
            assert last == ("end", {"reason": "credential-removed"})


@scenario()
async def test_the_badge_says_that_the_whole_chain_was_computed(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator:
        numbers = await following(
            operator, lambda name, data: name == "numbers" and data["verified"] == data["position"] == data["signed"]
        )
        assert numbers["broken"] is None
        assert numbers["verified"] > 0


@scenario()
async def test_a_stream_needs_an_operator(server: ServerProcess) -> None:
    async with Operator(server.url) as visitor:
        assert (await visitor.get("/console/live", MODULE)).status_code == 401
