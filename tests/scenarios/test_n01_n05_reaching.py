"""N1 to N5: every path exists, a connect succeeds after each login, and each refusal is the declared one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.machine.session.session import Session
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.tokens import Tokens
from interlock.server.ids import new_session_id
from tests.support.client import Client, closed, hello, logged_in, new_email
from tests.support.log import BEGUN, histories, record_count
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

ORIGIN = {"Origin": "https://app.example"}

DESIGNED = {
    "POST /api/session",
    "GET /api/session",
    "GET /api/session/transitions",
    "POST /api/session/ticket",
    "POST /api/auth/register",
    "POST /api/auth/login",
    "POST /api/auth/refresh",
    "POST /api/auth/logout",
    "POST /api/auth/password",
    "GET /api/sessions",
    "DELETE /api/sessions",
    "DELETE /api/sessions/{session_id}",
    "GET /api/account",
    "POST /api/intents",
    "GET /api/executions",
    "GET /api/executions/{execution_id}",
    "DELETE /api/executions/{execution_id}",
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return method and path of each operation of the caller's own session, account and executions."""
    for path, item in document["paths"].items():
        if path.startswith(("/api/session", "/api/auth", "/api/account", "/api/intents", "/api/executions")):
            for method in item:
                yield method.upper(), path


@pytest.mark.asvs("8.2.1", "8.3.1")
@scenario()
async def test_n1_a_routed_path_without_credentials_answers_401_never_404(server: ServerProcess) -> None:
    """A routed /api/session/* or /api/auth/* path answers 404; without credentials it answers 401: never again."""
    async with Client(server.url) as client:
        document = (await client.http.get("/schema/openapi.json")).json()
        found = set(operations(document))
        assert {f"{method} {path}" for method, path in found} >= DESIGNED
        for method, path in sorted(found):
            address = path.replace("{session_id}", new_session_id(0)).replace("{execution_id}", "exe_none")
            answer = await client.http.request(method, address)
            if (method, path) == ("POST", "/api/session"):
                assert answer.status_code == 201
                continue
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:interlock:problem:credential-missing"
            assert "401" in document["paths"][path][method.lower()]["responses"]
            # Neither does an extra slash or a wrong method.
            assert (await client.http.request(method, f"{address}/")).status_code == 401
            assert (await client.http.request("PATCH", address)).status_code == 405


@scenario()
async def test_n1_the_connect_path_exists_and_asks_for_a_websocket(server: ServerProcess) -> None:
    """The WebSocket's path answers HTTP with 426, and a handshake without credentials with 4401; never with 404."""
    async with Client(server.url) as client:
        answer = await client.http.get("/api/connect")
        assert answer.status_code == 426
        async with client.connect() as socket:
            assert await closed(socket) == (4401, "not authenticated: no credential")


@scenario()
async def test_n2_the_session_named_by_a_login_exists_at_once(server: ServerProcess) -> None:
    """Login succeeds and the session it names does not exist yet: never again.

    Connect-after-login succeeds every time, whatever the login and the handshake; test_races.py does it thousands of times.
    """
    async with Client(server.url) as client:
        email = new_email()
        (await client.register(email)).raise_for_status()
        for start in ("nothing", "anonymous", "authenticated"):
            for _ in range(5):
                tab = client.sibling()
                if start != "nothing":
                    await tab.begin()
                if start == "authenticated":
                    (await tab.log_in(email)).raise_for_status()
                answer = await tab.log_in(email)
                assert answer.status_code == 200
                seen, ticket, greeting = await asyncio.gather(
                    tab.session(), tab.request("POST", "/api/session/ticket"), connected(tab)
                )
                assert seen["session_id"] == greeting["session_id"] == answer.json()["session_id"]
                assert seen["version"] >= answer.json()["version"]
                assert ticket.status_code == 201
                assert greeting["state"] == "connected"
                await tab.request("POST", "/api/auth/logout")


async def connected(client: Client, **arguments: Any) -> dict[str, Any]:
    """Open a socket, read its greeting, and close it."""
    async with client.connect(**arguments) as socket:
        return await hello(socket)


@pytest.mark.asvs("2.3.1", "4.4.4")
@scenario()
async def test_n3_only_an_authenticated_session_opens_a_websocket(data: Path) -> None:
    """A client opens a WebSocket before it holds an authenticated session: never again."""
    with running_server(data, origins=ORIGIN["Origin"]) as server:
        async with Client(server.url) as client:
            answer = await client.http.post("/api/session", headers=ORIGIN)
            cookie = {**ORIGIN, "Cookie": answer.headers["set-cookie"].partition(";")[0]}
            await client.begin()
            before = record_count(data)
            ticket = await client.request("POST", "/api/session/ticket")
            assert ticket.status_code == 403
            assert ticket.json()["type"] == "urn:interlock:problem:login-required"

            missing, anonymous = "no credential", "the session is anonymous; log in first"
            invalid = "not an access token"
            for headers, subprotocols, reason in (
                ({}, ["interlock.v1"], missing),
                (ORIGIN, ["interlock.v1"], missing),
                ({"Authorization": "Bearer nonsense"}, ["interlock.v1"], invalid),
                ({"Authorization": "Basic YTpi"}, ["interlock.v1"], "Authorization is not a bearer token"),
                ({}, ["interlock.v1", "ticket.made-up"], "the ticket is unknown, used up or expired"),
                ({}, ["interlock.v1", "ticket."], "the ticket is unknown, used up or expired"),
                (client.bearer, ["interlock.v1"], anonymous),
                ({"Authorization": f"Bearer {client.refresh_token}"}, ["interlock.v1"], "not an access token"),
                ({"Authorization": f"Bearer {client.session_id}"}, ["interlock.v1"], invalid),
                (cookie, ["interlock.v1"], missing),
                ({"Cookie": cookie["Cookie"]}, ["interlock.v1"], missing),
            ):
                async with client.connect(additional_headers=headers, subprotocols=subprotocols) as socket:
                    assert await closed(socket) == (4401, f"not authenticated: {reason}")
            assert record_count(data) == before
            # The same session, after a login on it.
            await client.register(email := new_email())
            await client.log_in(email)
            assert (await connected(client))["session_id"] == client.session_id


def move_away(data: Path) -> None:
    """Move the log and its head out of the folder; keep the keys."""
    for file in (*data.glob("interlock.db*"), data / "interlock.head"):
        file.rename(data / f"old-{file.name}")


@scenario()
async def test_n4_a_valid_token_without_a_session_closes_1008_session_not_found(data: Path) -> None:
    """A valid token whose session does not exist gets anything but close 1008 "Session not found": never again."""
    # A trace describes one log, and this server gets another in its place.
    with running_server(data, model_trace="") as server:
        async with await logged_in(server.url) as client:
            server.stop()
            # The operator starts afresh and keeps the keys, so that every token is still valid.
            move_away(data)
            server.start()
            minted = Tokens(
                load_keys(data / "keys"), SystemClock(), issuer="interlock", audience="interlock", lifetime_s=60
            )
            made_up = Session(new_session_id(0), state="authenticated", version=2, subject="acc_nobody", epoch=1)
            for token in (client.access_token, minted.access_token(made_up)):
                bearer = {"Authorization": f"Bearer {token}"}
                async with client.connect(additional_headers=bearer) as socket:
                    assert await closed(socket) == (1008, "Session not found")
                answer = await client.http.get("/api/session", headers=bearer)
                assert answer.status_code == 401
                assert answer.json()["type"] == "urn:interlock:problem:session-not-found"
            for token in (client.refresh_token, minted.refresh_token(made_up)):
                answer = await client.sibling().refresh(token)
                assert answer.status_code == 401
                assert answer.json()["type"] == "urn:interlock:problem:session-not-found"
            assert record_count(data) == BEGUN
            # The declared recovery: start a new session.
            assert (await client.begin()).status_code == 201


@scenario()
async def test_n5_a_valid_token_of_a_live_session_always_connects(data: Path) -> None:
    """A valid token and a live session get a 403: never again. With every credential, and from every allowed page."""
    with running_server(data, origins=ORIGIN["Origin"]) as server:
        async with await logged_in(server.url) as client:
            own = {"Origin": server.url}
            for _ in range(3):
                for headers in ({}, own, ORIGIN):
                    bearer = {**client.bearer, **headers}
                    for subprotocols in (["interlock.v1"], None, ["chat", "interlock.v1"]):
                        greeting = await connected(client, additional_headers=bearer, subprotocols=subprotocols)
                        assert greeting["session_id"] == client.session_id
                    ticket = (await client.request("POST", "/api/session/ticket")).json()["ticket"]
                    assert await connected(
                        client, additional_headers=headers, subprotocols=["interlock.v1", f"ticket.{ticket}"]
                    )
                # Also after a refresh, and after a restart.
                assert (await client.refresh()).status_code == 200
                server.stop()
                server.start()
            await eventually(lambda: _rests(client))
        for history in histories(data).values():
            connects = [record["event"] for record in history].count("connect")
            assert connects == [record["event"] for record in history].count("disconnect") == 3 * 3 * 4


async def _rests(client: Client) -> bool:
    return bool((await client.session())["connections"] == 0)


@pytest.mark.parametrize("path", ["/api/session", "/api/sessions", "/api/session/transitions"])
@scenario()
async def test_n5_a_valid_token_opens_its_session_over_http(server: ServerProcess, path: str) -> None:
    """The same token over HTTP: 200 from any page, as no cookie is involved."""
    async with await logged_in(server.url) as client:
        for headers in ({}, {"Origin": server.url}, {"Origin": "https://elsewhere.example"}):
            assert (await client.request("GET", path, headers=headers)).status_code == 200
