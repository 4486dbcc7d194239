"""Replay of once valid credentials at every endpoint, even after a restart; and chains of refresh tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets
from tests.support.client import PASSWORD, Client, closed, hello, logged_in, new_email
from tests.support.log import histories, interlock, verify
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server


def kind(answer: httpx.Response) -> str:
    return str(answer.json().get("type", "").rpartition(":")[2])


class Loot:
    """Everything that an attacker copied from a session while it was valid."""

    def __init__(self, client: Client, ticket: str, secret: str) -> None:
        self.url = client.url
        self.session_id = client.session_id
        self.access_token = client.access_token
        self.refresh_token = client.refresh_token
        self.ticket = ticket
        self.secret = secret

    @classmethod
    async def of(cls, client: Client, secret: str) -> Loot:
        answer = await client.request("POST", "/api/session/ticket")
        # An anonymous session gets no ticket.
        return cls(client, answer.json().get("ticket", "made-up"), secret)

    async def is_worthless(self, problem: str, code: int, *, refresh: str = "session-ended") -> None:
        """Check that all of it is refused everywhere, over HTTP with ``problem`` and over WebSocket with the close ``code``."""
        bearer = {"Authorization": f"Bearer {self.access_token}"}
        async with Client(self.url) as thief:
            for method, path in (
                ("GET", "/api/session"),
                ("GET", "/api/session/transitions"),
                ("GET", "/api/sessions"),
                ("DELETE", "/api/sessions"),
                ("DELETE", f"/api/sessions/{self.session_id}"),
                ("POST", "/api/session/ticket"),
                ("POST", "/api/auth/logout"),
            ):
                answer = await thief.http.request(method, path, headers=bearer)
                assert (answer.status_code, kind(answer)) == (401, problem), (method, path)
            answer = await thief.http.post("/api/auth/refresh", json={"refresh_token": self.refresh_token})
            assert (answer.status_code, kind(answer)) == (401, refresh)
            page = {"Cookie": f"__Host-interlock={self.refresh_token}", "Origin": self.url}
            for path in ("/api/auth/refresh", "/api/auth/logout"):
                answer = await thief.http.post(path, headers=page)
                assert (answer.status_code, kind(answer)) == (401, refresh)
            for token in (self.access_token, self.refresh_token, self.ticket):
                form = {"token": token}
                answer = await thief.http.post("/oauth/introspect", auth=("gateway", self.secret), data=form)
                assert answer.json() == {"active": False}
            async with thief.connect(additional_headers=bearer) as socket:
                assert (await closed(socket))[0] == code
            ticketed: dict[str, Any] = {"subprotocols": ["interlock.v1", f"ticket.{self.ticket}"]}
            async with thief.connect(additional_headers={}, **ticketed) as socket:
                assert (await closed(socket))[0] in {code, 4401}, "used up by the first try"
            async with thief.connect(additional_headers=page) as socket:
                assert (await closed(socket))[0] == 4401, "a cookie opens no socket"


async def _log_out(client: Client, _secret: str) -> None:
    assert (await client.request("POST", "/api/auth/logout")).status_code == 204


async def _end_it(client: Client, _secret: str) -> None:
    assert (await client.request("DELETE", f"/api/sessions/{client.session_id}")).status_code == 204


async def _revoke_access_token(client: Client, secret: str) -> None:
    await revoke(client, secret, client.access_token)


async def _revoke_refresh_token(client: Client, secret: str) -> None:
    await revoke(client, secret, client.refresh_token)


async def revoke(client: Client, secret: str, token: str) -> None:
    answer = await client.http.post("/oauth/revoke", auth=("gateway", secret), data={"token": token})
    assert (answer.status_code, answer.json()["ended"]) == (200, 1)


ENDS: dict[str, Callable[[Client, str], Awaitable[None]]] = {
    "logout": _log_out,
    "a session ended by its owner": _end_it,
    "revocation of the access token": _revoke_access_token,
    "revocation of the refresh token": _revoke_refresh_token,
}


@pytest.mark.asvs("7.2.1", "7.4.1", "10.4.9")
@scenario(180)
async def test_credentials_of_an_ended_session_stay_invalid_after_a_restart(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    secret = Secrets(server.data / "keys", "client").create("gateway", 1)
    taken = []
    try:
        for end in ENDS.values():
            async with await logged_in(server.url) as client:
                loot = await Loot.of(client, secret)
                async with client.connect() as socket:
                    await hello(socket)
                    await end(client, secret)
                    assert (await closed(socket))[0] == 4403
                await loot.is_worthless("session-ended", 4403)
                taken.append(loot)
        server.stop()
        server.start()
        for loot in taken:
            await loot.is_worthless("session-ended", 4403)
        server.kill()
        server.start()
        for loot in taken:
            await loot.is_worthless("session-ended", 4403)
    finally:
        server.stop()
    for loot in taken:
        assert histories(server.data)[loot.session_id][-1]["event"] == "revoke"
    verify(server.data)


@pytest.mark.asvs("10.4.5")
@pytest.mark.parametrize("grace_s", [0, 60])
@scenario(120)
async def test_fifty_parallel_refreshes_of_one_token_leave_one_chain(tmp_path: Path, grace_s: int) -> None:
    """Each answer has its own token and is recorded, because none was used yet. Whichever is used continues the chain."""
    with running_server(tmp_path / "data", refresh_grace_s=grace_s, limit_address="off", limit_account="off") as server:
        async with await logged_in(server.url) as client:
            old = client.refresh_token
            body = {"refresh_token": old}
            answers = await asyncio.gather(*(client.http.post("/api/auth/refresh", json=body) for _ in range(50)))
            assert {answer.status_code for answer in answers} == {200}
            won = sorted((answer.json() for answer in answers), key=lambda each: int(each["version"]))
            assert len({each["refresh_token"] for each in won}) == 50
            events = [record["event"] for record in histories(server.data)[client.session_id]]
            assert events == ["create", "authenticate", *["refresh"] * 50]
            assert (await client.refresh(won[-1]["refresh_token"])).status_code == 200
            other = await client.http.post("/api/auth/refresh", json={"refresh_token": won[7]["refresh_token"]})
            if grace_s:
                assert other.status_code == 200, "it may have been under way"
            else:
                assert kind(other) == "session-ended"
                ended = await client.http.post("/api/auth/refresh", json={"refresh_token": client.refresh_token})
                assert (kind(ended), ended.json()["reason"]) == ("session-ended", "token_reuse")


@pytest.mark.asvs("7.2.4")
@scenario(120)
async def test_session_fixation_gains_nothing(tmp_path: Path) -> None:
    """An attacker creates a session and has the victim log in on it: nothing of the attacker's is valid afterwards."""
    with running_server(tmp_path / "data") as server:
        secret = Secrets(server.data / "keys", "client").create("gateway", 1)
        async with Client(server.url) as attacker, Client(server.url) as victim, AsyncExitStack() as stack:
            await attacker.begin()
            loot = await Loot.of(attacker, secret)
            email = new_email()
            await victim.register(email)
            victim.tokens = dict(attacker.tokens)
            assert (await victim.log_in(email)).status_code == 200
            assert victim.session_id == attacker.session_id
            socket = await stack.enter_async_context(victim.connect())
            await hello(socket)
            await loot.is_worthless("token-expired", 4408, refresh="credential-invalid")
            # The victim did not notice.
            assert (await victim.session())["state"] == "connected"
            assert (await victim.refresh()).status_code == 200
            # A second login of the same user also invalidates the first one's tokens.
            again = await Loot.of(victim, secret)
            assert (await victim.log_in(email)).status_code == 200
            # Once its answer is used, older tokens can no longer end the session.
            assert (await victim.refresh()).status_code == 200
            await again.is_worthless("token-expired", 4408, refresh="credential-invalid")


@pytest.mark.asvs("7.2.4")
@scenario(120)
async def test_a_login_on_a_planted_cookie_gives_the_attacker_nothing(tmp_path: Path) -> None:
    """The victim's browser holds the attacker's anonymous cookie; after the login the attacker's copy is worthless."""
    with running_server(tmp_path / "data") as server:
        async with Client(server.url) as attacker, Client(server.url) as victim:
            await attacker.begin()
            email = new_email()
            await victim.register(email)
            page = {"Cookie": f"__Host-interlock={attacker.refresh_token}", "Origin": server.url}
            login = {"email": email, "password": PASSWORD}
            answer = await victim.http.post("/api/auth/login", json=login, headers=page)
            assert answer.status_code == 200
            assert attacker.refresh_token not in answer.headers["set-cookie"]
            refused = await attacker.http.post("/api/auth/refresh", json={"refresh_token": attacker.refresh_token})
            assert kind(refused) == "credential-invalid"
            bearer = {"Authorization": f"Bearer {attacker.access_token}"}
            assert kind(await attacker.http.get("/api/session", headers=bearer)) == "token-expired"


@pytest.mark.asvs("7.4.1", "11.2.2")
@scenario(180)
async def test_retiring_a_stolen_key_voids_everything_that_it_signed(tmp_path: Path) -> None:
    """Beside the running server, without a restart, even for tokens that were verified before and for open sockets."""
    with running_server(tmp_path / "data") as server:
        secret = Secrets(server.data / "keys", "client").create("gateway", 1)
        old = load_keys(server.data / "keys").signing.kid

        async def kids() -> list[str]:
            document = (await client.http.get("/.well-known/jwks.json")).json()
            return [key["kid"] for key in document["keys"]]

        async with await logged_in(server.url) as client:
            loot = await Loot.of(client, secret)
            assert (await client.session())["session_id"] == loot.session_id
            async with client.connect() as socket:
                await hello(socket)
                outcome = await asyncio.to_thread(interlock, "keys", "rotate", "--now", "--data", server.data)
                assert outcome.returncode == 0, outcome.stderr
                outcome = await asyncio.to_thread(interlock, "keys", "retire", old, "--data", server.data)
                assert outcome.returncode == 2
                assert "use --force" in outcome.stderr
                outcome = await asyncio.to_thread(interlock, "keys", "retire", old, "--force", "--data", server.data)
                assert outcome.returncode == 0, outcome.stderr
                assert (await closed(socket))[0] == 4408, "refresh, then reconnect"
            assert old not in await kids()
            bearer = {"Authorization": f"Bearer {loot.access_token}"}
            assert kind(await client.http.get("/api/session", headers=bearer)) == "credential-invalid"
            async with client.connect(additional_headers=bearer) as socket:
                assert (await closed(socket))[0] == 4401
            # The refresh token has another key, so its holder can continue.
            assert (await client.refresh()).status_code == 200
            async with client.connect() as socket:
                await hello(socket)
                assert json.loads(await _asked(socket))["type"] == "pong"
        server.stop()
        server.start()
        async with Client(server.url) as thief:
            assert kind(await thief.http.get("/api/session", headers=bearer)) == "credential-invalid"


async def _asked(socket: Any) -> str:
    await socket.send(json.dumps({"type": "ping"}))
    return str(await socket.recv())
