"""Tickets: for clients that can't send headers, and of limited use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
import websockets

from interlock.server.guard.keys.keyset import SigningKey, load_keys, of_kind, read_keys
from tests.support.asynchronous import asynchronous
from tests.support.canary import content
from tests.support.client import Client, closed, hello, logged_in
from tests.support.log import interlock
from tests.support.running import eventually
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored


async def bought(client: Client) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.request("POST", "/api/session/ticket")).raise_for_status().json()
    return answer


def with_ticket(ticket: str) -> dict[str, Any]:
    """Return the connect parameters with a ticket."""
    return {"additional_headers": {}, "subprotocols": ["interlock.v1", f"ticket.{ticket}"]}


def signed_by(key: SigningKey, token: str) -> str:
    """Sign the claims of ``token`` with ``key``."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, key.private, algorithm="ES256", headers={"kid": key.kid, "typ": "at+jwt"})


async def refusal(client: Client, ticket: str) -> tuple[int, str]:
    """Return how the server closes a socket before any message."""
    async with client.connect(**with_ticket(ticket)) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        return await closed(socket)


@pytest.mark.asvs("4.4.3")
@asynchronous
async def test_a_ticket_has_256_bits_and_half_a_minute(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        answers = [await bought(client) for _ in range(20)]
    assert {answer["expires_in"] for answer in answers} == {30}
    tickets = {answer["ticket"] for answer in answers}
    assert len(tickets) == len(answers)
    assert {len(base64.urlsafe_b64decode(f"{ticket}=")) for ticket in tickets} == {32}


@pytest.mark.asvs("4.4.3")
@asynchronous
async def test_an_expired_ticket_opens_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", ticket_s=0.2) as server:
        async with await logged_in(server.url) as client:
            ticket = (await bought(client))["ticket"]
            await asyncio.sleep(0.3)
            assert await refusal(client, ticket) == (
                4401,
                "not authenticated: the ticket is unknown, used up or expired",
            )


@pytest.mark.asvs("4.4.3")
@asynchronous
async def test_a_stored_ticket_hash_is_not_a_ticket(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client:
            ticket = (await bought(client))["ticket"]
            on_disk = b"".join(map(content, server.data.rglob("*")))
            assert ticket.encode() not in on_disk
            assert base64.urlsafe_b64decode(f"{ticket}=") not in on_disk
            assert hashlib.sha256(ticket.encode()).digest() in on_disk, "or this looked in the wrong place"
            async with client.connect(**with_ticket(ticket)) as socket:
                await hello(socket)


@pytest.mark.asvs("4.4.3")
@asynchronous
async def test_a_ticket_dies_with_its_session(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        ticket = (await bought(client))["ticket"]
        (await client.request("POST", "/api/auth/logout")).raise_for_status()
        assert await refusal(client, ticket) == (4403, "session ended: logout")


@pytest.mark.asvs("4.4.4")
@asynchronous
async def test_only_a_logged_in_users_access_token_buys_a_ticket(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, Client(server.url) as anonymous:
        await anonymous.begin()
        before = stored(server.data)
        for headers, status in (
            ({}, 401),
            ({"Authorization": f"Bearer {client.refresh_token}"}, 401),
            ({"Cookie": f"__Host-interlock={client.refresh_token}", "Origin": server.url}, 401),
            (anonymous.bearer, 403),
        ):
            answer = await client.http.post("/api/session/ticket", headers=headers)
            assert answer.status_code == status, headers
        assert stored(server.data) == before
        assert (await bought(client))["ticket"]


@pytest.mark.asvs("11.2.2")
@pytest.mark.parametrize("restarted", [False, True])
@asynchronous
async def test_retiring_a_key_voids_tickets_bought_with_its_tokens(tmp_path: Path, *, restarted: bool) -> None:
    """A stolen key's holder may have bought tickets with forged tokens."""
    with running_server(tmp_path / "data", ticket_s=600) as server:
        async with await logged_in(server.url) as client:
            old = load_keys(server.data / "keys").signing.kid
            tickets = [(await bought(client))["ticket"] for _ in range(2)]
            assert interlock("keys", "rotate", "--now", "--data", server.data).returncode == 0
            async with client.connect(**with_ticket(tickets[0])) as socket:
                await hello(socket)
                # A key that is only replaced still verifies.
                if restarted:
                    server.stop()
                assert interlock("keys", "retire", old, "--force", "--data", server.data).returncode == 0
                if restarted:
                    server.start()
                else:
                    assert (await closed(socket))[0] == 4408
            assert (await refusal(client, tickets[1]))[0] == 4408, "refresh, then buy another"
            assert (await client.refresh()).status_code == 200
            async with client.connect(**with_ticket((await bought(client))["ticket"])) as socket:
                await hello(socket)


@pytest.mark.asvs("11.2.2")
@asynchronous
async def test_retiring_a_waiting_key_closes_sockets_opened_with_it(tmp_path: Path) -> None:
    """A waiting key already verifies. A thief may have made tokens with it; nobody else has one."""
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client:
            assert interlock("keys", "rotate", "--data", server.data).returncode == 0
            waiting = of_kind(read_keys(server.data / "keys"), SigningKey)[-1]
            thief = client.sibling()
            thief.tokens = client.tokens | {"access_token": signed_by(waiting, client.access_token)}

            async def opens() -> bool:
                return (await thief.request("GET", "/api/session")).is_success

            await eventually(opens)
            async with thief.connect() as forged, client.connect() as socket, client.connect() as renewed:
                for each in (forged, socket, renewed):
                    await hello(each)
                await renewed.send(json.dumps({"type": "refresh", "access_token": thief.access_token}))
                while json.loads(await renewed.recv())["type"] != "refreshed":
                    pass
                assert interlock("keys", "retire", waiting.kid, "--data", server.data).returncode == 0
                assert (await closed(forged))[0] == 4408
                assert (await closed(renewed))[0] == 4408, "it lives by the newest token"
                assert not await opens()
                await (await socket.ping())
