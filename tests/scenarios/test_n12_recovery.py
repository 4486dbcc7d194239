"""N12: no failure leaves the client without a way to recover."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from interlock.machine.closing import CLOSE_CODES, ClientAction
from interlock.machine.session.session import Session
from interlock.server.clock import SystemClock
from interlock.server.experience.problem_kinds import Recovery, problem_kinds
from interlock.server.guard.keys.keyset import load_keys
from interlock.server.guard.secrets import Secrets
from interlock.server.guard.tokens import Tokens
from interlock.server.ids import new_session_id
from tests.support.admin import Admin, admin_token
from tests.support.client import PASSWORD, Client, closed, hello, logged_in, new_email
from tests.support.errands import REALM
from tests.support.intents import accepted, outcome, submit
from tests.support.log import verify, write_lock
from tests.support.peer import Peer
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server


def test_n12_every_problem_and_close_declares_a_recovery() -> None:
    """A failure leaves the client without a declared way to recover: never again. Each has one, in words and by kind."""
    for kind in problem_kinds():
        assert isinstance(kind.recovery, Recovery), kind
        assert kind.advice.endswith("."), kind
    for row in CLOSE_CODES.values():
        assert row.advice.endswith("."), row
        assert isinstance(row.next, ClientAction)


def told(answer: httpx.Response, name: str) -> None:
    """Check that ``answer`` is the problem ``name``, and says how to recover."""
    declared = {kind.name: kind for kind in problem_kinds()}[name]
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["type"]) == (declared.status, f"urn:interlock:problem:{name}")
    assert (problem["recovery"], problem["advice"]) == (declared.recovery, declared.advice)


@pytest.mark.slow
@scenario()
async def test_n12_following_the_recovery_recovers_from_every_problem(data: Path) -> None:  # noqa: PLR0915  # a list
    """A failure leaves the client without a declared way to recover: never again. Each recovery, followed, works."""
    seen: set[str] = set()

    def expect(answer: httpx.Response, name: str) -> None:
        told(answer, name)
        seen.add(name)

    limits = {"limit_password": "1/5s", "body_timeout_s": 2, "realm": REALM, "executions_per_session": 1}
    with running_server(data, access_token_s=6, origins="https://app.example", **limits) as server:
        async with Client(server.url) as home:
            email, taken = new_email(), new_email()
            for each in (email, taken):
                await home.register(each)

            tab = home.sibling()
            expect(await tab.request("GET", "/api/session"), "credential-missing")
            tab.tokens = {"access_token": "made.up.token"}
            expect(await tab.request("GET", "/api/session"), "credential-invalid")
            tab.tokens = {}
            expect(await tab.log_in(email, "wrong"), "credential-invalid")
            assert (await tab.log_in(email)).status_code == 200

            tab = home.sibling()
            await tab.begin()
            expect(await tab.request("POST", "/api/session/ticket"), "login-required")
            body = {"current_password": PASSWORD, "new_password": PASSWORD}
            expect(await tab.request("POST", "/api/auth/password", json=body), "login-required")
            await tab.log_in(email)
            assert (await tab.request("POST", "/api/session/ticket")).status_code == 201

            wrong = {"current_password": "not the current one", "new_password": PASSWORD}
            expect(await tab.request("POST", "/api/auth/password", json=wrong), "password-wrong")
            assert (await tab.session())["state"] == "authenticated"
            answer = await tab.request("POST", "/api/auth/password", json=wrong)
            expect(answer, "rate-limited")
            await asyncio.sleep(int(answer.headers["retry-after"]))
            await tab.refresh()
            expect(await tab.request("POST", "/api/auth/password", json=wrong), "password-wrong")

            expect(await tab.log_in(taken), "transition-refused")
            assert (await tab.session())["state"] == "authenticated"

            async def expired() -> bool:
                return (await tab.request("GET", "/api/session")).status_code == 401

            await eventually(expired)
            expect(await tab.request("GET", "/api/session"), "token-expired")
            await tab.refresh()
            assert (await tab.request("GET", "/api/session")).status_code == 200
            await tab.request("POST", "/api/auth/logout")
            expect(await tab.request("GET", "/api/session"), "session-ended")
            expect(await tab.refresh(), "session-ended")
            assert (await tab.begin()).status_code == 201

            minted = {"Authorization": f"Bearer {unknown_session(data)}"}
            expect(await tab.http.get("/api/session", headers=minted), "session-not-found")
            assert (await tab.begin()).status_code == 201

            expect(await tab.register(taken), "account-exists")
            assert (await tab.log_in(taken)).status_code == 200
            expect(await tab.register(new_email(), "short"), "password-refused")
            assert (await tab.register(new_email())).status_code == 201
            expect(await tab.register("no address"), "account-refused")

            json_type = {"Content-Type": "application/json"}
            expect(await tab.request("POST", "/api/session", content=b"{", headers=json_type), "bad-request")
            expect(await tab.request("POST", "/api/session", content=b"{}"), "unsupported-media-type")
            large = json.dumps({"email": email, "password": "x" * 70_000})
            expect(await tab.request("POST", "/api/auth/login", content=large, headers=json_type), "too-large")
            expect(await tab.http.get("/api/session", headers={"X-Long": "x" * 17_000}), "headers-too-large")
            evil = {"Origin": "https://evil.example"}
            expect(await tab.http.post("/api/session", headers=evil), "origin-refused")
            assert (await tab.http.post("/api/session", headers={"Origin": "https://app.example"})).is_success
            expect(await tab.request("GET", "/api/nowhere"), "not-found")
            expect(await tab.request("DELETE", "/api/sessions/unknown"), "not-found")
            refused = await tab.request("DELETE", "/api/session")
            expect(refused, "method-not-allowed")
            assert (await tab.request(refused.headers["allow"].split(",")[0].strip(), "/api/session")).is_success
            expect(await tab.http.get("/api/connect"), "upgrade-required")
            (await tab.begin()).raise_for_status()
            token = {"token": tab.refresh_token}
            expect(await tab.http.post("/oauth/introspect", data=token), "client-authentication-failed")
            client = ("gateway", Secrets(data / "keys", "client").create("gateway", 1))
            assert (await tab.http.post("/oauth/introspect", data=token, auth=client)).json()["active"] is True
            (data / "keys" / "client-spoilt.secret").touch(mode=0o600)
            expect(await tab.http.post("/oauth/introspect", data=token, auth=client), "secrets-unavailable")
            (data / "keys" / "client-spoilt.secret").unlink()
            assert (await tab.http.post("/oauth/introspect", data=token, auth=client)).status_code == 200

            await with_an_administrator(tab, data, expect)
            await with_intents(server.url, data, expect)

            with write_lock(data):
                answer = await home.begin()
                expect(answer, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await home.begin()).status_code == 201
            expect(await half_a_request(server.url), "request-timeout")
    # Tests that make a disk fail or a fault happen show those problems; test_n12_identity_provider.py shows the identity
    # provider's, and tests/server/test_recent_login.py an old login. A session in any declared non-final state may be used.
    assert seen == {kind.name for kind in problem_kinds()} - {
        "unavailable",
        "internal-error",
        "identity-provider-unavailable",
        "identity-refused",
        "login-too-old",
        "session-unusable",
        # For remote realms: tests/remote/test_callback.py.
        "signature-invalid",
        "outcome-too-late",
    }


async def with_an_administrator(tab: Client, data: Path, expect: Callable[[httpx.Response, str], None]) -> None:
    """Recover from the problems that only administrators, or their accounts, meet."""
    expect(await tab.http.get("/api/events"), "subscriber-credential-missing")
    unknown = {"Authorization": "Bearer ilk_subscriber_shop_x"}
    expect(await tab.http.get("/api/events", headers=unknown), "subscriber-credential-invalid")
    expect(await tab.http.get("/api/admin/accounts"), "admin-credential-missing")
    wrong = {"Authorization": "Bearer ilk_admin_ada_x"}
    expect(await tab.http.get("/api/admin/accounts", headers=wrong), "admin-credential-invalid")
    async with Admin(tab.url, admin_token(data)) as admin, await logged_in(tab.url) as client:
        both = "/sessions?created_from=2026-01-01T00:00:00Z&updated_from=2026-01-01T00:00:00Z"
        expect(await admin.http.get(both), "unprocessable")
        subject = (await client.session())["subject"]
        assert (await admin.http.post(f"/accounts/{subject}/disable")).status_code == 200
        client.tokens = {}
        expect(await client.log_in(client.email), "account-disabled")
        assert (await admin.http.post(f"/accounts/{subject}/enable")).status_code == 200
        assert (await client.log_in(client.email)).status_code == 200
        (secret,) = (data / "keys").glob("admin-*.secret")
        secret.chmod(0o644)
        secret.touch()
        expect(await admin.http.get("/accounts"), "secrets-unavailable")
        secret.chmod(0o600)
        assert (await admin.http.get("/accounts")).status_code == 200


async def with_intents(url: str, data: Path, expect: Callable[[httpx.Response, str], None]) -> None:
    """Recover from the problems that intents meet."""
    async with Admin(url, admin_token(data, "grace")) as admin, await logged_in(url) as client:
        expect(await submit(client, "shout", "one", text="x"), "intent-unknown")
        expect(await submit(client, "say", "one", text=1), "parameters-refused")
        await outcome(client, (await accepted(client, "say", "one", text="x"))["execution_id"])
        expect(await submit(client, "say", "one", text="y"), "intent-reused")
        waiting = await accepted(client, "wait", "two")
        answer = await submit(client, "say", "three", text="y")
        expect(answer, "too-many-executions")
        await client.request("DELETE", f"/api/executions/{waiting['execution_id']}")
        await asyncio.sleep(int(answer.headers["retry-after"]))
        await client.refresh()
        await outcome(client, (await accepted(client, "say", "three", text="y"))["execution_id"])
        expect(await submit(client, "staff", "four"), "role-missing")
        subject = (await client.session())["subject"]
        assert (await admin.http.put(f"/accounts/{subject}/groups", json={"groups": ["staff"]})).status_code == 200
        await accepted(client, "staff", "four")


async def half_a_request(url: str) -> httpx.Response:
    """Return the answer to a client that sends half a body and waits."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def unknown_session(data: Path) -> str:
    """Return an access token that is valid except that its session does not exist."""
    keys = load_keys(data / "keys")
    tokens = Tokens(keys, SystemClock(), issuer="interlock", audience="interlock", lifetime_s=2)
    return tokens.access_token(Session(new_session_id(0), state="authenticated", version=2, subject="acc_x", epoch=1))


class Closings:
    """One client and every way it can lose its socket, then the declared recovery."""

    def __init__(self, server: ServerProcess, client: Client, email: str) -> None:
        self.server = server
        self.client = client
        self.email = email
        self.recoveries: dict[ClientAction, Callable[[], Awaitable[object]]] = {
            ClientAction.NONE: self.nothing,
            ClientAction.RECONNECT: self.nothing,
            ClientAction.FIX_CLIENT: self.nothing,
            ClientAction.ASK_USER: self.nothing,
            ClientAction.REFRESH: self.client.refresh,
            ClientAction.LOG_IN: self.log_in,
            ClientAction.START_SESSION: self.start_anew,
        }

    async def nothing(self) -> None:
        """Do nothing: reconnecting is enough."""

    async def log_in(self) -> None:
        assert (await self.client.log_in(self.email)).status_code == 200

    async def start_anew(self) -> None:
        self.client.tokens = {}
        assert (await self.client.begin()).status_code == 201
        await self.log_in()

    async def recover(self, name: str, seen: tuple[int, str]) -> None:
        """Check that ``seen`` is the close ``name``, and that following its advice reconnects the client."""
        row = CLOSE_CODES[name]
        assert seen[0] == row.code
        if row.code not in {1000, 1007, 1009}:  # those whose reason the WebSocket libraries word themselves
            assert seen[1].startswith(row.reason.partition("{")[0])
        await self.recoveries[row.next]()
        async with self.client.connect() as socket:
            assert (await hello(socket))["state"] == "connected"

    async def recover_after_leaving(self, other: ClientConnection, seen: tuple[int, str]) -> None:
        """Do the same for too many connections, after the user closes one of them."""
        await other.close()
        await eventually(self.fewer)
        await self.recover("too_many_connections", seen)

    async def fewer(self) -> bool:
        return bool((await self.client.session())["connections"] < 2)

    async def after(self, message: str | bytes | None, **arguments: Any) -> tuple[int, str]:
        """Return the close of a socket after ``message``."""
        async with self.client.connect(**arguments) as socket:
            if message is not None:
                await socket.send(message)
            return await closed(socket)

    async def after_a_new_login(self) -> tuple[int, str]:
        """Return the close of a socket with a token from before the last login. N14 covers an expired one."""
        before = self.client.bearer
        await self.log_in()
        self.client.tokens["access_token"] = before["Authorization"].removeprefix("Bearer ")
        return await self.after(None)

    async def of_a_peer(self, *frames: bytes) -> tuple[int, str]:
        """Return the close of a peer that sends ``frames`` and answers no ping."""
        async with await Peer.open(self.server.socket_url, self.client.bearer) as peer:
            for frame in frames:
                peer.writer.write(frame)
            return await peer.read_close()


@pytest.mark.slow
@scenario()
async def test_n12_following_the_advice_recovers_from_every_close(data: Path) -> None:
    """A failure leaves the client without a declared way to recover: never again. Each close's advice, followed, reconnects."""
    with running_server(data, ping_interval_s=1, ping_timeout_s=1, connections_per_session=2) as server:
        async with Client(server.url) as client:
            await client.register(email := new_email())
            ways = Closings(server, client, email)
            await ways.start_anew()

            async with client.connect() as socket:
                await socket.close()
            await ways.recover("bye", (socket.close_code or 0, socket.close_reason or "bye"))
            await ways.recover("invalid_text", await ways.of_a_peer(Peer.frame(1, b"\xff\xfe")))
            await ways.recover("message_too_big", await ways.after("x" * (64 * 1024 + 1)))
            for bad in ("{", "[]", "{}", '{"type": "shout"}', '{"type": "ping", "loud": true}', b"\x00"):
                await ways.recover("bad_message", await ways.after(bad))
            await ways.recover("heartbeat_lost", await ways.of_a_peer())
            await ways.recover("not_authenticated", await ways.after(None, additional_headers={}))
            unknown = {"Authorization": f"Bearer {unknown_session(data)}"}
            await ways.recover("session_not_found", await ways.after(None, additional_headers=unknown))
            await ways.recover("token_expired", await ways.after_a_new_login())
            async with client.connect() as one, client.connect() as two:
                await hello(one)
                await hello(two)
                await ways.recover_after_leaving(one, await ways.after(None))
            async with client.connect() as socket:
                await client.request("POST", "/api/auth/logout")
                await ways.recover("session_ended", await closed(socket))
            with write_lock(data):
                seen = await ways.after(None)
            await ways.recover("overloaded", seen)
            async with client.connect() as socket:
                await hello(socket)
                assert await asyncio.to_thread(server.stop) == 0
                seen = await closed(socket)
            server.start()
            await ways.recover("draining", seen)
        verify(data)
