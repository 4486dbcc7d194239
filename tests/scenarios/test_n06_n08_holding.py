"""N6 to N8: made-up ids are not adopted, unauthenticated handshakes hold nothing, and no race leaves a socket behind."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import ClientConnection

from interlock.server.guard.keys.keyset import load_keys
from interlock.server.ids import new_session_id
from tests.support.client import PASSWORD, Client, closed, logged_in, new_email
from tests.support.log import BEGUN, histories, projection, record_count, verify
from tests.support.peer import PING, Peer
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server


@pytest.mark.asvs("8.2.3", "8.3.1")
@scenario()
async def test_n6_an_id_the_client_made_up_is_not_adopted(server: ServerProcess) -> None:
    """An id or token that the client made up is adopted: never again. Ids: in body, header, cookie, URL and path."""
    made_up = new_session_id(time.time_ns() // 1_000_000)
    before = set(projection(server.data))
    async with await logged_in(server.url) as client:
        login = {"email": new_email(), "password": PASSWORD}
        await client.register(login["email"])
        for path, body in (
            ("/api/session", {}),
            ("/api/session/ticket", {}),
            ("/api/auth/login", login),
            ("/api/auth/register", {**login, "email": new_email()}),
            ("/api/auth/refresh", {"refresh_token": client.refresh_token}),
            ("/api/auth/logout", {}),
        ):
            for field in ("session_id", "id", "sid", "subject"):
                answer = await client.request("POST", path, json={**body, field: made_up})
                assert answer.status_code == 400, (path, field, answer.text)
        planted: list[dict[str, Any]] = [
            {"headers": {"X-Session-Id": made_up, "Session-Id": made_up}},
            {"headers": {"Cookie": f"session_id={made_up}; __Host-interlock={made_up}", "Origin": server.url}},
            {"headers": {"Cookie": f"__Host-interlock={made_up}.0.0.{'A' * 43}", "Origin": server.url}},
        ]
        for name in ("session_id", "sid"):
            assert (await client.http.post("/api/session", params={name: made_up})).status_code == 400
        for arguments in planted:
            begun = await client.http.post("/api/session", **arguments)
            assert (begun.status_code, begun.json()["session_id"] == made_up) == (201, False)
            answer = await client.http.post("/api/auth/login", json=login, **arguments)
            assert (answer.status_code, answer.json()["session_id"] == made_up) == (200, False)
            assert answer.json()["session_id"] != begun.json()["session_id"]
        assert (await client.request("DELETE", f"/api/sessions/{made_up}")).status_code == 404
        refused = await client.sibling().refresh(f"{made_up}.0.0.{'A' * 43}")
        assert refused.status_code == 401
    assert made_up not in projection(server.data)
    assert before <= set(projection(server.data))


@pytest.mark.asvs("7.2.1", "9.1.1", "9.1.2", "9.1.3", "9.2.2")
@scenario()
async def test_n6_a_token_the_client_made_up_is_not_adopted(server: ServerProcess) -> None:
    """An id or token that the client made up is adopted: never again. Tokens: forged in every known way."""
    keys = load_keys(server.data / "keys")
    async with await logged_in(server.url) as client, await logged_in(server.url) as victim:
        header, claims, signature = client.access_token.split(".")
        said = jwt.decode(client.access_token, options={"verify_signature": False})
        headers = {"kid": keys.signing.kid, "typ": "at+jwt"}
        theirs = {**said, "sid": victim.session_id, "sub": (await victim.session())["subject"]}
        stranger = ec.generate_private_key(ec.SECP256R1())
        public = keys.signing.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        symmetric = f"{_segment({**headers, 'alg': 'HS256'})}.{_segment(theirs)}"

        def signed(changes: dict[str, Any], header_changes: dict[str, Any] | None = None) -> str:
            return jwt.encode({**said, **changes}, keys.signing.private, "ES256", {**headers, **(header_changes or {})})

        forged = [
            f"{header}.{_segment(theirs)}.{signature}",  # another user's session under an own signature
            f"{_segment({'alg': 'none', 'typ': 'at+jwt', 'kid': keys.signing.kid})}.{_segment(theirs)}.",
            f"{_segment({'alg': 'none', 'typ': 'at+jwt', 'kid': keys.signing.kid})}.{_segment(theirs)}.AA",
            # RFC 8725, 2.1: the public key as an HMAC secret
            f"{symmetric}.{_base64url(hmac.digest(public, symmetric.encode(), 'sha256'))}",
            jwt.encode(theirs, stranger, "ES256", headers),
            jwt.encode(theirs, stranger, "ES256", {**headers, "kid": "another"}),
            jwt.encode(theirs, stranger, "ES256", {**headers, "jwk": keys.jwks()["keys"][0]}),
            jwt.encode(theirs, stranger, "ES256", {"typ": "at+jwt"}),
            # Signed by this server, but for another purpose.
            signed({}, {"typ": "JWT"}),
            signed({"aud": "another"}),
            signed({"iss": "another"}),
            signed({"epoch": "1"}),
            signed({"sid": 1}),
            f"{header}.{claims}.{signature[:-1]}{'A' if signature[-1] != 'A' else 'B'}",
            f"{header}.{claims}.{signature}=",
            client.access_token + ".x",
            ".." * 3,
            "A" * 5000,
            victim.session_id,
        ]
        assert (await client.http.get("/api/session", headers={"Authorization": f"Bearer {signed({})}"})).is_success
        before = record_count(server.data)
        for token in forged:
            bearer = {"Authorization": f"Bearer {token}"}
            answer = await client.http.get("/api/session", headers=bearer)
            assert answer.status_code == 401, (token, answer.text)
            assert answer.json()["type"] == "urn:interlock:problem:credential-invalid"
            async with client.connect(additional_headers=bearer) as socket:
                assert (await closed(socket))[0] == 4401
        session_id, epoch, rotation, mac = client.refresh_token.split(".")
        for token in (
            f"{victim.session_id}.{epoch}.{rotation}.{mac}",
            f"{session_id}.{epoch}.{int(rotation) + 1}.{mac}",
            f"{session_id}.{int(epoch) + 1}.{rotation}.{mac}",
            f"{session_id}.{rotation}.{mac}",
            f"{session_id}.{epoch}.-1.{mac}",
            f"{session_id}.{epoch}.00.{mac}",
            f"{session_id}.{'9' * 400}.{rotation}.{mac}",
            f"{session_id}.{epoch}.{rotation}.{mac[::-1]}",
            f"{session_id.upper()}.{epoch}.{rotation}.{mac}",
            f"{client.refresh_token}\n",
            "…",
        ):
            answer = await client.sibling().refresh(token)
            assert answer.status_code == 401, (token, answer.text)
        assert record_count(server.data) == before
        assert (await victim.session())["state"] == (await client.session())["state"] == "authenticated"


def _segment(content: dict[str, Any]) -> str:
    return _base64url(json.dumps(content).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.asvs("7.2.4")
@scenario()
async def test_n6_planting_an_anonymous_session_gains_nothing(server: ServerProcess) -> None:
    """Session fixation: what an attacker held of the session before the login opens nothing after it."""
    async with Client(server.url) as attacker:
        await attacker.begin()
        victim = attacker.sibling()
        victim.tokens = attacker.tokens
        await victim.register(email := new_email())
        assert (await victim.log_in(email)).status_code == 200
        assert victim.session_id == attacker.session_id
        assert (await attacker.request("GET", "/api/session")).status_code == 401
        async with attacker.connect() as socket:
            assert await closed(socket) == (4408, "token expired")
        assert (await attacker.refresh()).status_code == 401
        assert (await victim.session())["state"] == "authenticated"


@pytest.mark.slow
@scenario()
async def test_n7_an_unauthenticated_handshake_holds_nothing(data: Path) -> None:
    """An unauthenticated handshake holds a resource: never again. No descriptor, no memory, no record."""
    with running_server(data, ping_interval_s=300) as server:
        async with Client(server.url) as client:

            async def refused() -> None:
                async with client.connect() as socket:
                    assert (await closed(socket))[0] == 4401

            async def many(rounds: int) -> None:
                for _ in range(rounds):
                    await asyncio.gather(*(refused() for _ in range(50)))

            await many(6)
            await eventually(lambda: _descriptors(server) <= 40)
            descriptors, memory = _descriptors(server), _memory_kib(server)
            await many(30)
            # Some never answer the close, some vanish: the server waits for none of them.
            peers = [await Peer.open(server.socket_url) for _ in range(100)]
            for peer in peers[::2]:
                peer.drop()
            for peer in peers[1::2]:
                assert (await peer.read_close())[0] == 4401
            await eventually(lambda: _descriptors(server) <= descriptors, within_s=20)
            assert _memory_kib(server) - memory < 8 * 1024
            assert record_count(data) == BEGUN
            for peer in peers:
                peer.drop()


def _descriptors(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))  # noqa: PTH208  # the kernel's list, not files


def _memory_kib(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("proved", [False, True])
@scenario()
async def test_n7_unread_pongs_hold_no_memory(data: Path, *, proved: bool) -> None:
    """An unauthenticated handshake holds a resource: never again. Unread pongs hold no memory either."""
    with running_server(data) as server:
        async with await logged_in(server.url) as client:
            before = _memory_kib(server)
            async with await Peer.open(server.socket_url, client.bearer if proved else {}) as peer:
                sent = 0
                with suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(20):
                        while sent < 60_000_000:
                            peer.writer.write(Peer.frame(PING, b"x" * 125) * 1000)
                            await peer.writer.drain()
                            sent += 131_000
                assert _memory_kib(server) - before < 16 * 1024
                assert (await client.request("GET", "/api/session")).status_code == 200


@scenario()
async def test_n7_a_dropped_handshake_holds_nothing(server: ServerProcess) -> None:
    """The same for an authenticated client that vanished before or after the greeting: its session rests."""
    async with await logged_in(server.url) as client:
        for turn in range(40):
            peer = await Peer.open(server.socket_url, client.bearer)
            if turn % 2:
                await peer.read()
            peer.drop()
            await eventually(lambda: _rests(client))
        history = histories(server.data)[client.session_id]
        gone = [record["data"]["code"] for record in history if record["event"] == "disconnect"]
        assert gone == [1006] * 40  # RFC 6455, 7.1.5: without a close frame


async def _rests(client: Client) -> bool:
    return bool((await client.session())["connections"] == 0)


class Rounds:
    """One session of one account, and every event that may happen to it, at random moments of the same 30 ms."""

    def __init__(self, url: str, home: Client, email: str, seed: int) -> None:
        self.home = home
        self.email = email
        self.random = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self.tabs = [Client(url, home.http) for _ in range(4)]
        self.sockets: list[ClientConnection] = []

    async def play(self) -> None:
        first, *others = self.tabs
        await first.begin()
        if self.random.random() < 0.7:
            await first.log_in(self.email)
        for tab in others:
            tab.tokens = dict(first.tokens)
        moves: list[Callable[[Client], Awaitable[Any]]] = [
            self.connect,
            self.connect,
            self.connect,
            lambda tab: tab.log_in(self.email),
            lambda tab: tab.refresh(),
            lambda tab: tab.request("POST", "/api/auth/logout"),
            lambda tab: self.home.request("DELETE", f"/api/sessions/{tab.session_id}"),
            lambda tab: tab.request("GET", "/api/session"),
            lambda tab: tab.begin(),
        ]
        chosen = self.random.choices(moves, k=10)
        await asyncio.gather(*(self.late(move, self.random.choice(self.tabs)) for move in chosen))

    async def late(self, move: Callable[[Client], Awaitable[Any]], tab: Client) -> None:
        await asyncio.sleep(self.random.uniform(0, 0.03))
        answer = await move(tab)
        assert answer is None or answer.status_code in {200, 201, 204, 401, 404, 409}, answer.text

    async def connect(self, tab: Client) -> None:
        socket = await tab.connect()
        self.sockets.append(socket)

    async def living(self, socket: ClientConnection) -> tuple[str, str] | None:
        """Return session and connection of a socket that answers a protocol ping, None for a closed one."""
        greeting: dict[str, Any] = {}
        with suppress(websockets.ConnectionClosed):
            await socket.send('{"type": "ping"}')
            while True:
                message = json.loads(await socket.recv())
                if message["type"] == "hello":
                    greeting = message
                elif message["type"] == "pong":
                    return greeting["session_id"], greeting["connection_id"]
        assert socket.close_code in {4401, 4403, 4408, 4429}, (socket.close_code, socket.close_reason)
        return None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@scenario()
async def test_n8_no_race_leaves_a_socket_without_a_live_session(data: Path, seed: int) -> None:
    """Create, login, connect, revoke racing in any order leave a socket without a live session: never again."""
    with running_server(data) as server:
        async with Client(server.url) as client:
            await client.register(email := new_email())
            await client.log_in(email)
            for turn in range(60):
                rounds = Rounds(server.url, client, email, seed * 1000 + turn)
                await rounds.play()
                open_now = [found for socket in rounds.sockets if (found := await rounds.living(socket))]
                stored = projection(data)
                for session_id, connection_id in open_now:
                    assert stored[session_id]["state"] == "connected"
                    assert connection_id in {c["connection_id"] for c in stored[session_id]["connections"]}
                for socket in rounds.sockets:
                    await socket.close()
                await client.request("DELETE", "/api/sessions")
        await eventually(lambda: not any(s["connections"] for s in projection(data).values()))
        verify(data)
