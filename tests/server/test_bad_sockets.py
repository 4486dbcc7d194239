"""Bad handshakes, bad messages and bad peers on ``WS /api/connect``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.support.asynchronous import asynchronous
from tests.support.client import Client, closed, logged_in
from tests.support.log import records
from tests.support.metrics import whole_log
from tests.support.peer import CLOSE, PING, PONG, Peer
from tests.support.running import eventually
from tests.support.server import ServerProcess, running_server
from tests.support.small_buffers import small_buffers
from tests.support.stored import stored

BIG = 64 * 1024


async def refused(client: Client, **arguments: Any) -> websockets.Response:
    """Return the HTTP answer, a problem document, to a handshake refused before the upgrade."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        await client.connect(**arguments)
    response = caught.value.response
    assert response.headers["content-type"] == "application/problem+json"
    return response


@asynchronous
async def test_a_handshake_with_a_bad_credential_gets_4401_and_holds_nothing(
    server: ServerProcess,
) -> None:
    async with await logged_in(server.url) as client, Client(server.url) as anonymous:
        await anonymous.begin()
        (await client.request("POST", "/api/session/ticket")).raise_for_status()
        before = stored(server.data)
        attempts: list[dict[str, Any]] = [
            {"additional_headers": {}},
            {"additional_headers": {}, "subprotocols": None},
            {"additional_headers": {"Authorization": "Basic YTpi"}},
            {"additional_headers": {"Authorization": f"Bearer {client.access_token}x"}},
            {"additional_headers": {"Authorization": f"Bearer {client.refresh_token}"}},
            {"additional_headers": {"Cookie": f"__Host-interlock={client.refresh_token}"}},
            {"additional_headers": {}, "subprotocols": ["interlock.v1", "ticket.made-up"]},
            {"additional_headers": {}, "subprotocols": ["interlock.v1", "ticket."]},
            {"additional_headers": {}, "subprotocols": ["interlock.v1", f"ticket.{client.access_token}"]},
            {"additional_headers": anonymous.bearer},
        ]
        for attempt in attempts:
            async with client.connect(**attempt) as socket:
                code, reason = await closed(socket)
            assert (code, reason.partition(":")[0]) == (4401, "not authenticated"), (attempt, reason)
        assert stored(server.data) == before


@pytest.mark.asvs("14.2.1")
@asynchronous
async def test_a_token_in_the_websockets_url_is_no_credential(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        ticket = (await client.request("POST", "/api/session/ticket")).raise_for_status().json()["ticket"]
        for token in (client.access_token, client.refresh_token, ticket):
            address = f"{server.socket_url}?" + "&".join(f"{n}={token}" for n in ("access_token", "token", "ticket"))
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connect(address, subprotocols=[websockets.Subprotocol("interlock.v1")]):
                    pass
            assert refused.value.response.status_code == 400
            assert token not in whole_log(server)


@pytest.mark.asvs("4.4.3", "2.3.4")
@asynchronous
async def test_a_ticket_opens_one_socket(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        answer = (await client.request("POST", "/api/session/ticket")).raise_for_status().json()
        offer = {"additional_headers": {}, "subprotocols": ["interlock.v1", f"ticket.{answer['ticket']}"]}
        async with client.connect(**offer) as socket:
            assert socket.subprotocol == "interlock.v1", "the ticket does not come back"
            assert json.loads(await socket.recv())["type"] == "hello"
            async with client.connect(**offer) as second:
                with pytest.raises(websockets.ConnectionClosed):
                    await second.recv()
                assert await closed(second) == (
                    4401,
                    "not authenticated: the ticket is unknown, used up or expired",
                )


@pytest.mark.asvs("4.4.3", "7.2.4")
@asynchronous
async def test_a_ticket_bought_before_a_login_is_superseded(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        ticket = (await client.request("POST", "/api/session/ticket")).raise_for_status().json()["ticket"]
        body = {"current_password": "correct horse battery staple", "new_password": "correct horse battery stapler"}
        (await client.request("POST", "/api/auth/password", json=body)).raise_for_status()
        offer = {"additional_headers": {}, "subprotocols": ["interlock.v1", f"ticket.{ticket}"]}
        async with client.connect(**offer) as socket:
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert (await closed(socket))[0] == 4408


@pytest.mark.parametrize("offered", [["interlock.v2"], ["chat", "interlock"], ["ticket.x"]])
@asynchronous
async def test_an_unknown_subprotocol_is_refused_before_the_upgrade(server: ServerProcess, offered: list[str]) -> None:
    async with await logged_in(server.url) as client:
        before = stored(server.data)
        response = await refused(client, subprotocols=offered)
        assert response.status_code == 400
        assert json.loads(response.body)["detail"] == "offer the subprotocol interlock.v1"
        assert stored(server.data) == before


async def spoken(
    server: ServerProcess, message: Any, **how: Any
) -> tuple[tuple[int, str], list[str], ClientConnection]:
    """Connect and send ``message``. Return the server's close, and the last events of the session's log."""
    async with await logged_in(server.url) as client:
        async with client.connect(max_size=None) as socket:
            await socket.recv()
            await socket.send(message, **how)
            ending = await closed(socket)
        history = await eventually(lambda: gone(client))
    return ending, history, socket


async def gone(client: Client) -> list[str]:
    """Return the session's events once the disconnect is recorded."""
    if (await client.session())["connections"]:
        return []
    answer = (await client.request("GET", "/api/session/transitions")).raise_for_status()
    return [row["event"] for row in answer.json()]


BAD_MESSAGES = {
    "no JSON": ("hello", "bad message: not JSON"),
    "nothing": ("", "bad message: not JSON"),
    "a list": ("[]", "bad message: not an object"),
    "no type": ("{}", "bad message: no type"),
    "an unknown type": ('{"type": "launch"}', "bad message: unknown type"),
    "a server's message": ('{"type": "hello"}', "bad message: unknown type"),
    "a type that is no text": ('{"type": 1}', "bad message: field `type` has a wrong value"),
    "an unknown field": ('{"type": "ping", "loud": true}', "bad message: unknown field"),
    "a missing field": ('{"type": "refresh"}', "bad message: field `access_token` is missing"),
    "a field of another type": (
        '{"type": "refresh", "access_token": 1}',
        "bad message: field `access_token` has a wrong value",
    ),
    "a lone surrogate": ('{"type": "refresh", "access_token": "\\ud800"}', "bad message: not JSON"),
    "nested for ever": ("[" * 60_000, "bad message: "),
    "binary": (b'{"type": "ping"}', "bad message: binary frames are not part of interlock.v1"),
}


@pytest.mark.parametrize(("message", "reason"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
@asynchronous
async def test_a_bad_message_closes_with_4400(server: ServerProcess, message: str | bytes, reason: str) -> None:
    (code, said), events, _ = await spoken(server, message)
    assert code == 4400
    assert said.startswith(reason), said
    assert events == ["create", "authenticate", "connect", "disconnect"]


@pytest.mark.parametrize("message", [b"\xff", b'{"type": "\xc3"}', b"\xed\xa0\x80"])
@asynchronous
async def test_text_that_is_not_utf_8_closes_with_1007(server: ServerProcess, message: bytes) -> None:
    (code, _), events, _ = await spoken(server, message, text=True)
    assert code == 1007
    assert events == ["create", "authenticate", "connect", "disconnect"]


@asynchronous
async def test_a_message_over_64_kib_closes_with_1009(server: ServerProcess) -> None:
    (code, _), events, _ = await spoken(server, "x" * (BIG + 1))
    assert code == 1009
    assert events[-1] == "disconnect"


@asynchronous
async def test_a_message_over_64_kib_in_pieces_closes_with_1009(server: ServerProcess) -> None:
    (code, _), events, _ = await spoken(server, ["x" * 10_000] * 7)
    assert code == 1009
    assert events[-1] == "disconnect"


@pytest.mark.asvs("8.2.2")
@asynchronous
async def test_a_foreign_or_bad_token_closes_an_open_socket(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client, await logged_in(server.url) as other:
        for token, reason in (
            (other.access_token, "the token belongs to another session"),
            ("x", "not an access token"),
        ):
            async with client.connect() as socket:
                await socket.recv()
                await socket.send(json.dumps({"type": "refresh", "access_token": token}))
                assert await closed(socket) == (4401, f"not authenticated: {reason}")


@pytest.mark.asvs("2.3.4")
@asynchronous
async def test_connects_over_the_sessions_limit_are_closed_with_4429(server: ServerProcess) -> None:
    """The limit is 3; further ones are refused, one by one and all at once, and the open ones stay open."""

    async def first_word(socket: ClientConnection) -> Any:
        try:
            return json.loads(await socket.recv())["type"]
        except websockets.ConnectionClosed:
            return socket.close_code

    async with await logged_in(server.url) as client:
        sockets = await asyncio.gather(*(client.connect() for _ in range(20)))
        words = await asyncio.gather(*map(first_word, sockets))
        assert sorted(map(str, words)) == ["4429"] * 17 + ["hello"] * 3
        assert (await client.session())["connections"] == 3
        async with client.connect() as one_more:
            assert await closed(one_more) == (4429, "too many connections")
        for socket, word in zip(sockets, words, strict=True):
            if word == "hello":
                await socket.send('{"type": "ping"}')
        await asyncio.gather(*(socket.close() for socket in sockets))
        await eventually(lambda: gone(client))
        async with client.connect() as again:
            assert json.loads(await again.recv())["type"] == "hello"


@asynchronous
async def test_connects_over_the_servers_limit_get_503_before_the_upgrade(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", connections_total=5, connections_per_session=100) as server:
        async with await logged_in(server.url) as client:

            async def attempt() -> ClientConnection | int:
                try:
                    socket = await client.connect()
                    await socket.recv()
                except websockets.InvalidStatus as error:
                    return error.response.status_code
                except websockets.ConnectionClosed as error:
                    return error.rcvd.code if error.rcvd else 1006
                return socket

            outcomes = await asyncio.gather(*(attempt() for _ in range(60)))
            held = [outcome for outcome in outcomes if isinstance(outcome, ClientConnection)]
            assert len(held) == 5
            assert {outcome for outcome in outcomes if isinstance(outcome, int)} <= {503, 1013}
            assert (await client.session())["connections"] == 5
            response = await refused(client)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert json.loads(response.body)["type"] == "urn:interlock:problem:overloaded"
            assert (await client.request("GET", "/api/session")).status_code == 200, "HTTP goes on"
            await held[0].close()
            await eventually(lambda: holds(client, 4))
            async with client.connect() as again:
                assert json.loads(await again.recv())["type"] == "hello"
            await asyncio.gather(*(socket.close() for socket in held))


async def holds(client: Client, count: int) -> bool:
    return bool((await client.session())["connections"] == count)


@asynchronous
async def test_a_peer_that_answers_no_ping_is_closed_with_4504(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", ping_interval_s=0.2, ping_timeout_s=2) as server:
        async with await logged_in(server.url) as client:
            peer = await Peer.open(server.socket_url, client.bearer)
            assert peer.status == 101
            assert await peer.read_close() == (4504, "heartbeat lost")
            events = await eventually(lambda: gone(client))
            assert events[-1] == "disconnect"
            peer.drop()
            async with client.connect() as good:
                await asyncio.sleep(2.5)
                await good.send('{"type": "ping"}')
                assert [json.loads(await good.recv())["type"] for _ in range(2)] == ["hello", "pong"]
        server.stop()
        (last,) = [row for row in records(server.data) if row["data"].get("code") == 4504]
        assert last["event"] == "disconnect"


def fragment(opcode: int, payload: bytes, *, last: bool) -> bytes:
    whole = Peer.frame(opcode, payload)
    return whole if last else bytes([whole[0] & 0x7F]) + whole[1:]


@asynchronous
async def test_an_unfinished_message_is_not_kept_for_ever(tmp_path: Path) -> None:
    """Even though its peer answers every ping. A peer that finishes each message, and starts another at once, stays."""
    message = b'{"type": "ping"}'
    with running_server(tmp_path / "data", ping_interval_s=0.2, ping_timeout_s=20) as server:
        async with await logged_in(server.url) as client:
            peer = await Peer.open(server.socket_url, client.bearer)
            peer.writer.write(fragment(1, message[:5], last=False))
            for _ in range(5):
                opcode, payload = await peer.read()
                while opcode != PING:
                    opcode, payload = await peer.read()
                rest, first = fragment(0, message[5:], last=True), fragment(1, message[:5], last=False)
                peer.writer.write(rest + first + Peer.frame(PONG, payload))
            pings = 0
            while opcode != CLOSE:
                opcode, payload = await peer.read()
                if opcode == PING:
                    pings += 1
                    peer.writer.write(fragment(0, b"", last=False) + Peer.frame(PONG, payload))
            assert int.from_bytes(payload[:2], "big") == 4400
            assert payload[2:] == b"bad message: the rest of it did not come in time"
            assert pings == 1
            peer.drop()


@asynchronous
async def test_a_peer_that_does_not_read_its_pongs_is_cut(tmp_path: Path) -> None:
    """It sends pings and never reads: the server holds a bounded number of answers, waits a limited time, and cuts it."""
    with small_buffers(tmp_path / "data", send_timeout_s=0.5) as server:
        async with await logged_in(server.url) as client:
            peer = await Peer.open(server.socket_url, client.bearer)
            refresh = json.dumps({"type": "ping"}).encode()
            frames = Peer.frame(1, refresh) * 1000
            asking = asyncio.create_task(ask_without_end(peer, frames))
            events = await eventually(lambda: gone(client), within_s=60)
            assert events[-1] == "disconnect"
            await asking
            peer.drop()
            assert (await client.request("GET", "/api/session")).status_code == 200


async def ask_without_end(peer: Peer, frames: bytes) -> None:
    try:
        while True:
            peer.writer.write(frames)
            await peer.writer.drain()
    except ConnectionError:
        pass


@asynchronous
async def test_a_peer_that_does_not_read_pushed_messages_is_cut(tmp_path: Path) -> None:
    with small_buffers(tmp_path / "data", send_timeout_s=0.5) as server:
        async with await logged_in(server.url) as client, client.connect() as reading:
            peer = await Peer.open(server.socket_url, client.bearer)
            await eventually(lambda: holds(client, 2))
            pushed = 0
            async with asyncio.timeout(30):
                while (await client.session())["connections"] == 2:
                    for _ in range(20):
                        (await client.refresh()).raise_for_status()
                        pushed += 1
            peer.drop()
            assert pushed < 2000, "it was cut for what it held up, not for its age"
            for _ in range(pushed):
                await reading.recv()
            await reading.ping()
            assert (await client.request("GET", "/api/session")).status_code == 200


@pytest.mark.asvs("4.4.2")
@asynchronous
async def test_a_foreign_origin_is_refused_before_the_upgrade(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        before = stored(server.data)
        for origin in ("https://evil.example", "null", "http://127.0.0.1", server.url + ".evil.example", "garbage", ""):
            response = await refused(client, origin=origin)
            assert response.status_code == 403, origin
            assert json.loads(response.body)["type"] == "urn:interlock:problem:origin-refused"
        assert stored(server.data) == before
        async with client.connect(origin=server.url) as socket:
            assert json.loads(await socket.recv())["type"] == "hello"
